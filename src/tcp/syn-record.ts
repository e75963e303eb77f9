/**
 * What the kernel tells of a SYN that it has answered, or of a FIN that it has forwarded: `struct syn_record` of
 * kernel-shim/session.h, as words of a little-endian machine.
 */

/** Words of a record. */
export const SYN_RECORD_WORDS = 9;

/** Among the flags: no SYN. The client's FIN was forwarded; serverIsn holds the session's nonce. */
const FIN = 0x80;

/** Whether the record at `at` tells of a client's FIN. */
export function isFinRecord(words: Uint32Array, at: number): boolean {
  return (words[at + SYN_RECORD.scalesFlagsAndMac]! & (FIN << 8)) !== 0;
}

/** Index of the word in which each field stands. */
export const SYN_RECORD = {
  client: 0,
  /** Client port in the upper half, virtual server index in the lower. */
  portServer: 1,
  clientIsn: 2,
  /** Of the SYN/ACK that was sent. */
  serverIsn: 3,
  tsOffset: 4,
  /** The client's; 0 without timestamps. */
  tsval: 5,
  /** The client's MSS below, its window above. */
  mssAndWindow: 6,
  /** From the lowest byte up: window shifts, SessionFlag bits, the first two bytes of the client's MAC address. */
  scalesFlagsAndMac: 7,
  /** The other four, the first lowest. */
  mac: 8,
} as const;

/** The upper 16 bits of the MAC address, as it stands on the wire, of the record at `at`. */
export function synRecordMacHigh(words: Uint32Array, at: number): number {
  const word = words[at + SYN_RECORD.scalesFlagsAndMac]!;
  return ((word >>> 8) & 0xff00) | (word >>> 24);
}

/** Its lower 32 bits. */
export function synRecordMacLow(words: Uint32Array, at: number): number {
  const word = words[at + SYN_RECORD.mac]!;
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}
