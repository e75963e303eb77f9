/** The task of crowd.ts, and the numbering of its clients, which flood.ts shares. */
import { fileURLToPath } from 'node:url';

export interface CrowdTask {
  sessions: number;
  /** The node's address, on the generator. */
  own: string;
  balancer: string;
  balancerMac: string;
  virtualAddress: string;
  port: number;
  keyFile: string;
  /** The file to which the crowd writes `acknowledgements` at the end. */
  acknowledgementsFile: string;
}

/** Path of the program. */
export const CROWD = fileURLToPath(new URL('./crowd.js', import.meta.url));

/** 172.16.0.1: session i has client FIRST_CLIENT + i / PORTS, port FIRST_PORT + i % PORTS. */
export const FIRST_CLIENT = 0xac100001;
export const FIRST_PORT = 1024;
export const PORTS = 60_000;
/** Initial sequence number and request of every client. */
export const CLIENT_ISN = 0x10000000;
export const REQUEST = 'GET /1k.bin HTTP/1.1\r\nHost: bench\r\n\r\n';
