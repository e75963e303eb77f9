/** What every SYN/ACK offers a client, whoever sends it: the engine, or the kernel in its place. */
import { IPV4_HEADER_BYTES } from '../wire/ipv4.js';
import { IXP_HEADER_BYTES } from '../wire/ixp.js';
import { TCP_HEADER_BYTES } from '../wire/tcp.js';
import { largestHead } from './head-store.js';

/**
 * Window shift: one for all nodes, since whichever adopts must go on with it. 2^7 lets a receive
 * buffer of 8 MiB be offered.
 */
export const WINDOW_SHIFT = 7;

const MOST_WINDOW = 0xffff;

/** The MSS: room for IXP stays below the MTU (bytes). */
export function offeredMss(mtu: number): number {
  return mtu - IPV4_HEADER_BYTES - TCP_HEADER_BYTES - IXP_HEADER_BYTES;
}

/**
 * The window of a SYN/ACK, which is never scaled (RFC 7323 section 2.2). @param headBytes of the
 * largest head
 */
export function offeredWindow(headBytes: number): number {
  return Math.min(largestHead(headBytes), MOST_WINDOW);
}
