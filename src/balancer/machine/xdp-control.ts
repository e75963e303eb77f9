/**
 * Writes what the XDP program must know before the first frame: the one element of its map
 * `control`.
 */
import { CONTROL } from '../../datapath/xdp-layout.js';
import { addressBytes, type OwnAddresses } from '../../wire/address.js';
import { aliasKey } from '../../wire/alias.js';
import { ETHERNET_HEADER_BYTES } from '../../wire/ethernet.js';
import { IXP_HEADER_BYTES } from '../../wire/ixp.js';
import type { Secrets } from '../threads/engine-messages.js';

const WORD_BYTES = Uint32Array.BYTES_PER_ELEMENT;
const HALF_BYTES = Uint16Array.BYTES_PER_ELEMENT;

export interface ControlValues {
  workers: number;
  /** Session records of each worker. */
  capacity: number;
  /** Words of the session index of each worker. */
  indexWords: number;
  seeds: Secrets['seeds'];
  /** Our own addresses. */
  own: OwnAddresses;
  /** MAC address of the clients' interface. */
  mac: Uint8Array;
  /** The window that SYN/ACKs offer. */
  offer: { window: number; windowShift: number };
  /** MTU in bytes, the smaller one of the two interfaces. */
  mtu: number;
  /** 16 bytes, shared with the nodes. */
  key: Uint8Array;
  /** 32 bytes, for sequence numbers and cookies. */
  secret: Uint8Array;
  /** Sets of flows of virtual servers with mode forward. */
  forwardSets: number;
  /** Sets of heads of each worker, and 16 secret bytes for their digests. */
  headSets: number;
  headKey: Uint8Array;
  /** When a cookie was last sent, ms of CLOCK_MONOTONIC; 0: never. */
  cookieAt: number;
}

/**
 * Writes everything except the layout number, which starts the program, the virtual servers
 * (xdp-servers.ts), the MSS, which depends on the nodes, and the fields that the engine and the
 * kernel write later.
 */
export function writeControl(control: ArrayBuffer, values: ControlValues): void {
  const { seeds, offer } = values;
  const bytes = new Uint8Array(control);
  const words = new Uint32Array(control);
  const halves = new Uint16Array(control);
  words[CONTROL.workers / WORD_BYTES] = values.workers;
  words[CONTROL.capacity / WORD_BYTES] = values.capacity;
  words[CONTROL.indexWords / WORD_BYTES] = values.indexWords;
  words[CONTROL.clientSeed / WORD_BYTES] = seeds.client;
  words[CONTROL.portSeed / WORD_BYTES] = seeds.port;
  const { ipv4, ipv6 } = values.own;
  if (ipv4 !== undefined) bytes.set(addressBytes(ipv4), CONTROL.own);
  if (ipv6 !== undefined) {
    bytes.set(addressBytes(ipv6), CONTROL.own6);
    words[CONTROL.hasOwn6 / WORD_BYTES] = 1;
  }
  words[CONTROL.interfaces / WORD_BYTES] = 1;
  bytes.set(values.mac, CONTROL.mac);
  // A client that keeps to the MSS sends no larger frame.
  words[CONTROL.mostFrame / WORD_BYTES] = ETHERNET_HEADER_BYTES + values.mtu - IXP_HEADER_BYTES;
  halves[CONTROL.window / HALF_BYTES] = offer.window;
  bytes[CONTROL.windowShift] = offer.windowShift;
  words[CONTROL.forwardSets / WORD_BYTES] = values.forwardSets;
  words[CONTROL.headSets / WORD_BYTES] = values.headSets;
  words[CONTROL.headGeneration / WORD_BYTES] = 1;
  bytes.set(values.headKey, CONTROL.headKey);
  words[CONTROL.cookieAt / WORD_BYTES] = values.cookieAt;
  bytes.set(values.key, CONTROL.key);
  words.set(aliasKey(values.key), CONTROL.alias / WORD_BYTES);
  bytes.set(values.secret, CONTROL.secret);
}
