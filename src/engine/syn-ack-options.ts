/** What every SYN/ACK offers a client, whether the engine or the kernel sends it. */
import { IPV4_HEADER_BYTES } from '../wire/ipv4.js';
import { IXP_HEADER_BYTES } from '../wire/ixp.js';
import { TCP_HEADER_BYTES } from '../wire/tcp.js';
import { largestHead } from './head-store.js';

/**
 * Window shift. It is the same for all nodes, because any node that adopts must continue with it. A
 * shift of 7 lets a receive buffer of 8 MiB be offered.
 */
export const WINDOW_SHIFT = 7;

const MOST_WINDOW = 0xffff;

/** The MSS in bytes. It leaves room for IXP below the MTU. */
export function offeredMss(mtu: number): number {
  return mtu - IPV4_HEADER_BYTES - TCP_HEADER_BYTES - IXP_HEADER_BYTES;
}

/** The same with an IP header of another size. `mss` is the result of `offeredMss`. */
export function mssWith(mss: number, ipBytes: number): number {
  return mss - (ipBytes - IPV4_HEADER_BYTES);
}

/**
 * The window of a SYN/ACK, which is never scaled (RFC 7323 section 2.2).
 *
 * @param headBytes limit of a head
 */
export function offeredWindow(headBytes: number): number {
  return Math.min(largestHead(headBytes), MOST_WINDOW);
}
