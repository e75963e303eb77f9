/** What a balancer's machine is set up from. */
import type { BatonError } from '../../base/errors.js';
import type { NamedInterface } from '../../config/load.js';
import type { Datapath } from '../../config/schema.js';

export interface MachineOptions {
  /** Where clients are reached. */
  interface: string;
  /** Where nodes are reached; undefined: by `interface`. */
  nodeInterface?: NamedInterface | undefined;
  /**
   * Our own address where nodes are reached, dotted quad as all addresses here; undefined: the
   * interface's first.
   */
  address: string | undefined;
  /** 16 bytes. */
  key: Uint8Array;
  virtualServers: readonly { name: string; address: string; port: number }[];
  /** Loopback ports of the local services by service number, none of them 0. */
  services: ReadonlyMap<number, number>;
  datapath: Datapath;
  /** Threads of the engine. */
  workers: number;
  /** Addresses of the nodes, by index. */
  nodes: readonly string[];
  limits: { sessions: number; halfOpen: number; headBytes: number };
  log: { warn(message: string): void; info(message: string): void };
  /** How long another balancer on this interface may take to leave, in ms. */
  patience?: number;
  /** An interface that the engine works on was replaced: nothing but a new start helps. */
  onLost?: (error: BatonError) => void;
  /** For tests: the kernel function to look for, where the journal goes, and CHECK_MS. */
  adoptFunction?: string;
  journalDirectory?: string;
  checkMs?: number;
}
