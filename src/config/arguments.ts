/**
 * The arguments of the commands that take more than a config file. The command line (src/cli)
 * checks and fills them in; the programs read them. Programs and command line import this file and
 * never each other.
 */

import type { Address } from '../wire/address.js';

/** Arguments of `baton capture`. */
export interface CaptureArguments {
  /** Config file of the balancer. */
  config: string;
  /** The file to write, or "-" for standard output. */
  write: string;
  /**
   * Captures only frames of this client: its address, and its port; without a
   * port, frames of all its ports.
   */
  client?: { address: Address; port: number | undefined };
  /** Ends the capture after this many frames. */
  count?: number;
  /** Ends the capture after this time. */
  seconds?: number;
  /** The capture keeps this many bytes of each frame, from its start. */
  snaplen: number;
}

/** Arguments of `baton replay`. */
export interface ReplayArguments {
  /** Config file of a balancer. */
  config: string;
  /** The capture to read. */
  in: string;
  /** A file for the frames that Baton would have sent. */
  out?: string;
  /** Prints JSON instead of tables. */
  json: boolean;
  /**
   * What happens to segments with wrong checksums: `verify` drops them, `ignore` takes them.
   * Default: ignored for a client most of whose checksums are wrong.
   */
  checksums?: 'verify' | 'ignore';
}
