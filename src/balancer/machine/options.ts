/** The options of a balancer's machine. */
import type { BatonError } from '../../base/errors.js';
import type { NamedInterface } from '../../config/load.js';
import type { Datapath } from '../../config/schema.js';

export interface MachineOptions {
  /** The interface by which clients are reached. */
  interface: string;
  /** The interface by which nodes are reached; undefined: `interface`. */
  nodeInterface?: NamedInterface | undefined;
  /**
   * Our own address on the interface of the nodes, a dotted quad like all addresses here;
   * undefined: the interface's first.
   */
  address: string | undefined;
  /** 16 bytes. */
  key: Uint8Array;
  virtualServers: readonly { name: string; address: string; port: number }[];
  /** Loopback ports of the local services by service number, none of them 0. */
  services: ReadonlyMap<number, number>;
  datapath: Datapath;
  /** Number of engine threads. */
  workers: number;
  /** Addresses of the nodes, by index. */
  nodes: readonly string[];
  limits: { sessions: number; halfOpen: number; headBytes: number };
  log: { warn(message: string): void; info(message: string): void };
  /** How long to wait for another balancer to leave this interface, ms. */
  patience?: number;
  /** Called when an interface was replaced: only a new start helps. */
  onLost?: (error: BatonError) => void;
  /** For tests: the kernel function to look for, where the journal goes, and CHECK_MS. */
  adoptFunction?: string;
  journalDirectory?: string;
  checkMs?: number;
}
