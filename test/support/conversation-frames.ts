/**
 * The frames of a conversation: who takes part, with which addresses, and what each of them sends.
 */
import type { IxcpSpec, IxpSpec, PacketSpec, TcpSpec } from '../../lab/packet.js';
import { Answer } from '../../src/directory/answers.js';
import { answerText } from './known-answers.js';

export const CLIENT = { address: '10.1.0.1', port: 40_000, mac: '02:00:00:00:00:01' } as const;
export const SERVER = { address: '10.9.0.100', port: 80 } as const;
export const BALANCER = { address: '10.9.0.2', mac: '02:00:00:00:00:bb' } as const;
/** Nodes of a larger farm. */
export const MANY_NODES = [
  { address: '10.9.0.10', mac: '02:00:00:00:00:10' },
  { address: '10.9.0.11', mac: '02:00:00:00:00:11' },
  { address: '10.9.0.12', mac: '02:00:00:00:00:12' },
  { address: '10.9.0.13', mac: '02:00:00:00:00:13' },
  { address: '10.9.0.14', mac: '02:00:00:00:00:14' },
  { address: '10.9.0.15', mac: '02:00:00:00:00:15' },
] as const;
/** Nodes of most farms. */
export const NODES = [MANY_NODES[0], MANY_NODES[1], MANY_NODES[2]] as const;
export const KEY = Uint8Array.from({ length: 16 }, (_, i) => i * 7);
export const SECRET = Uint8Array.from({ length: 32 }, (_, i) => i * 5);
/** Our initial sequence number in every conversation that does not choose another. */
export const ISN = 5000;
/** Nonce of a conversation's first session. Later ones count up. */
export const FIRST_NONCE = 100;
export const MTU = 1500;
/** The MSS of a SYN/ACK: the MTU less IPv4, TCP and IXP headers. */
export const MSS = 1424;
export const NOTICE = {
  adopted: 1,
  refused: 2,
  fin: 3,
  reset: 4,
  report: 5,
  welcome: 6,
  badKey: 7,
  released: 8,
  left: 9,
  parked: 10,
  ended: 11,
  synAck: 12,
  owned: 13,
} as const;
export const IXP_TYPE = {
  adopt: 1,
  segment: 2,
  release: 3,
  leave: 4,
  park: 5,
  resume: 6,
  awake: 7,
  replay: 8,
  query: 10,
} as const;

/** A GET of a path that the test dispatcher knows. */
export function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;
}

/** A segment of the client, with the usual port and addresses unless others are given. */
export function fromClient(
  tcp: TcpSpec,
  payload?: Uint8Array | string,
  rest: PacketSpec = {},
): PacketSpec {
  return {
    ...rest,
    ethernet: { source: CLIENT.mac, destination: BALANCER.mac, ...rest.ethernet },
    ip: { source: CLIENT.address, destination: SERVER.address, ...rest.ip },
    tcp: { sourcePort: CLIENT.port, destinationPort: SERVER.port, ...tcp },
    ...(payload === undefined ? {} : { payload }),
  };
}

/** A segment of the balancer itself to the client, without data. */
export function toClient(tcp: TcpSpec, rest: PacketSpec = {}): PacketSpec {
  return {
    ethernet: { source: BALANCER.mac, destination: CLIENT.mac, ...rest.ethernet },
    ip: { source: SERVER.address, destination: CLIENT.address, ttl: 64, tos: 0, ...rest.ip },
    tcp: { sourcePort: SERVER.port, destinationPort: CLIENT.port, urgent: 0, ...tcp },
    payload: '',
    trailer: new Uint8Array(0),
  };
}

/**
 * The balancer's own answer, with FIN, to the usual client, of which `collected` bytes were
 * collected from number 1001 on.
 */
export function answered(answer: number, collected: number, tcp: TcpSpec = {}): PacketSpec {
  const payload = answerText(answer, collected);
  const flags = answer === Answer.silentClose ? 'FA' : 'FPA';
  return { ...toClient({ flags, seq: ISN + 1, ack: 1001 + collected, ...tcp }), payload };
}

/** The number behind the FIN of that answer. */
export function answerEnd(answer: number, collected: number): number {
  return ISN + 1 + answerText(answer, collected).length + 1;
}

/** A segment of the balancer in IXP, to node `node`. */
export function inIxp(
  node: number,
  ixp: IxpSpec,
  tcp: TcpSpec,
  payload?: Uint8Array | string,
): PacketSpec {
  return {
    ethernet: {
      source: BALANCER.mac,
      destination: MANY_NODES[node]!.mac,
    },
    ip: { source: CLIENT.address, destination: SERVER.address, protocol: 253, tos: 0, ttl: 64 },
    ixp: { version: 1, length: 36, balancer: BALANCER.address, session: FIRST_NONCE, ...ixp },
    tcp: { sourcePort: CLIENT.port, destinationPort: SERVER.port, ...tcp },
    ...(payload === undefined ? {} : { payload }),
    trailer: new Uint8Array(0),
  };
}

/** A notice of node `node`. */
export function notice(node: number, type: number, ixcp: IxcpSpec = {}): PacketSpec {
  const from = MANY_NODES[node]!;
  return {
    ethernet: { source: from.mac, destination: BALANCER.mac },
    ip: { source: from.address, destination: BALANCER.address },
    ixcp: {
      type,
      session: FIRST_NONCE,
      client: CLIENT.address,
      clientPort: CLIENT.port,
      virtualAddress: SERVER.address,
      virtualPort: SERVER.port,
      ...ixcp,
    },
  };
}
