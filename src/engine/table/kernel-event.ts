/**
 * Kernel events: the XDP program reports to the engine that it answered a SYN, forwarded a client's
 * FIN, or checked a node's notice. An event is `struct kernel_event` of bpf/lib/session.h, read
 * here as 32-bit words of a little-endian machine. It comes through the worker's ring buffer.
 */

/** Size of an event, in words. */
export const KERNEL_EVENT_WORDS = 9;

/**
 * Bits of the flags: EVENT_FIN, or EVENT_NOTICE with the IxcpType in the bits below it. An event
 * with neither bit reports a SYN.
 */
const FIN = 0x80;
const NOTICE = 0x40;
const NOTICE_TYPE = 0x3f;

export type KernelEventKind = 'syn' | 'fin' | 'notice';

/**
 * Kind of the event at `at`. In the event of a FIN or a notice, `serverIsn` holds the session's
 * nonce.
 */
export function kernelEventKind(words: Uint32Array, at: number): KernelEventKind {
  const flags = words[at + KERNEL_EVENT.scalesFlagsAndMac]! >>> 8;
  if ((flags & FIN) !== 0) return 'fin';
  return (flags & NOTICE) !== 0 ? 'notice' : 'syn';
}

/** IxcpType of the notice that the event at `at` reports. */
export function noticeType(words: Uint32Array, at: number): number {
  return (words[at + KERNEL_EVENT.scalesFlagsAndMac]! >>> 8) & NOTICE_TYPE;
}

/** Word index of each field. */
export const KERNEL_EVENT = {
  client: 0,
  /** Client port in the upper half, virtual server index in the lower. */
  portServer: 1,
  /** The client's initial sequence number. In a notice: the node's acknowledgement number. */
  clientIsn: 2,
  /** Sequence number of the SYN/ACK. In a FIN and a notice: the session's nonce. */
  serverIsn: 3,
  /** Our timestamp clock minus the time in ms. In a notice: the node's IPv4 address. */
  tsOffset: 4,
  /** The client's TSval; 0 without timestamps. */
  tsval: 5,
  /** The client's MSS in the lower half, its window in the upper. */
  mssAndWindow: 6,
  /**
   * From the lowest byte up: window shifts, flags, the first two bytes of the source MAC address
   * of the SYN.
   */
  scalesFlagsAndMac: 7,
  /** The other four bytes of the MAC address, the first in the lowest byte. */
  mac: 8,
} as const;

/** The first two bytes of the MAC address of the event at `at`, in wire order. */
export function eventMacHigh(words: Uint32Array, at: number): number {
  const word = words[at + KERNEL_EVENT.scalesFlagsAndMac]!;
  return ((word >>> 8) & 0xff00) | (word >>> 24);
}

/** The other four bytes of that MAC address, in wire order. */
export function eventMacLow(words: Uint32Array, at: number): number {
  const word = words[at + KERNEL_EVENT.mac]!;
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}
