/**
 * What is in a frame. Several parts of a world read the same frame: its checker, the machine that
 * sends it, and the one that gets it. Nobody changes a frame that has been sent.
 */
import { type ParsedPacket, parse } from '../support/packet-parse.js';

/** In the frame itself: a WeakMap of all frames costs more than it saves. */
const PACKET = Symbol('packet');

interface Known {
  [PACKET]?: { packet: ParsedPacket; key: Uint8Array | undefined };
}

/** @param key checks tags with it, else there is no check, or one with the key of another caller */
export function parsed(frame: Uint8Array & Known, key?: Uint8Array): ParsedPacket {
  const known = frame[PACKET];
  if (known !== undefined && (key === undefined || known.key === key)) return known.packet;
  const packet = parse(frame, key);
  frame[PACKET] = { packet, key };
  return packet;
}
