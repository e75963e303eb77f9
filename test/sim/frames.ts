/** What network devices do to frames: padding, and checksums left to hardware. */
import { ETHERNET, IPV4, IXP, PROTOCOL_TCP, pseudoHeader, sum16 } from '../../lab/packet.js';
import type { Random } from './random.js';

const LEAST_FRAME = 60;

/** Pads a short frame as Ethernet does. Some devices leave old bytes in the padding. */
export function padded(frame: Uint8Array, random: Random): Uint8Array {
  if (frame.length >= LEAST_FRAME) return frame;
  const long = new Uint8Array(LEAST_FRAME);
  if (random.chance(0.5))
    for (let i = frame.length; i < LEAST_FRAME; i++) long[i] = random.bits() & 255;
  long.set(frame);
  return long;
}

function tcpRange(frame: Uint8Array): [number, number] {
  const at = ETHERNET + IPV4 + (frame[ETHERNET + 9] === IXP.protocol ? IXP.length : 0);
  return [at, ETHERNET + ((frame[ETHERNET + 2]! << 8) | frame[ETHERNET + 3]!)];
}

/** Leaves the TCP checksum to hardware: only the pseudo header is summed (CHECKSUM_PARTIAL). */
export function unfinished(frame: Uint8Array): Uint8Array {
  const copy = frame.slice();
  const [at, end] = tcpRange(copy);
  const sum = pseudoHeader(copy, ETHERNET, PROTOCOL_TCP, end - at);
  copy[at + 16] = sum >> 8;
  copy[at + 17] = sum & 255;
  return copy;
}

/** Finishes the checksum, as the hardware does. */
export function finished(frame: Uint8Array): Uint8Array {
  const copy = frame.slice();
  const [at, end] = tcpRange(copy);
  const sum = ~sum16(copy, at, end) & 0xffff;
  copy[at + 16] = sum >> 8;
  copy[at + 17] = sum & 255;
  return copy;
}
