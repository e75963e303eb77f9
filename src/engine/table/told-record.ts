/**
 * What the kernel tells of a SYN that it has answered, a FIN that it has forwarded, or a notice
 * that it has checked: `struct told_record` of bpf/lib/session.h, as words of a little-endian
 * machine.
 */

/** Words of a record. */
export const TOLD_RECORD_WORDS = 9;

/**
 * Among the flags: no SYN, but the client's FIN was forwarded; or a notice came, whose type are the
 * lower bits.
 */
const FIN = 0x80;
const NOTICE = 0x40;
const NOTICE_TYPE = 0x3f;

export type Told = 'syn' | 'fin' | 'notice';

/** What the record at `at` tells of. Of a FIN and a notice, serverIsn is the session's nonce. */
export function toldBy(words: Uint32Array, at: number): Told {
  const flags = words[at + TOLD_RECORD.scalesFlagsAndMac]! >>> 8;
  if ((flags & FIN) !== 0) return 'fin';
  return (flags & NOTICE) !== 0 ? 'notice' : 'syn';
}

/** IxcpType of the notice of which the record at `at` tells. */
export function noticeType(words: Uint32Array, at: number): number {
  return (words[at + TOLD_RECORD.scalesFlagsAndMac]! >>> 8) & NOTICE_TYPE;
}

/** Index of the word in which each field stands. */
export const TOLD_RECORD = {
  client: 0,
  /** Client port in the upper half, virtual server index in the lower. */
  portServer: 1,
  /** Of a notice: what the node has acknowledged. */
  clientIsn: 2,
  /** Of the SYN/ACK that was sent. */
  serverIsn: 3,
  /** Of a notice: the node's IPv4 address. */
  tsOffset: 4,
  /** The client's; 0 without timestamps. */
  tsval: 5,
  /** The client's MSS below, its window above. */
  mssAndWindow: 6,
  /**
   * From the lowest byte up: window shifts, SessionFlag bits, the first two bytes of the client's
   * MAC address.
   */
  scalesFlagsAndMac: 7,
  /** The other four, the first lowest. */
  mac: 8,
} as const;

/** The upper 16 bits of the MAC address, as it stands on the wire, of the record at `at`. */
export function toldMacHigh(words: Uint32Array, at: number): number {
  const word = words[at + TOLD_RECORD.scalesFlagsAndMac]!;
  return ((word >>> 8) & 0xff00) | (word >>> 24);
}

/** Its lower 32 bits. */
export function toldMacLow(words: Uint32Array, at: number): number {
  const word = words[at + TOLD_RECORD.mac]!;
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}
