/**
 * One session in memory that the kernel may share: `struct session_record` of bpf/lib/session.h, 64
 * bytes, a cache line.
 *
 * The engine reads and writes fields in place, by slot, and caches nothing. The kernel writes
 * lastSeen, packets, receiveNext and clientAck of sessions that it forwards for. It clears the
 * action of a session that has ended when it answers a new SYN of the client.
 */
import { seqAdd, seqDiff } from '../../wire/seq.js';

/** Bytes of a record. */
export const SESSION_RECORD_BYTES = 64;

/** Byte offset of each field. Numbers are in host byte order. */
export const SESSION_RECORD = {
  client: 0,
  portServer: 4,
  state: 8,
  action: 9,
  node: 10,
  lastSeen: 12,
  packets: 16,
  receiveNext: 20,
  clientAck: 24,
  nonce: 28,
  clientIsn: 32,
  serverIsn: 36,
  handedTo: 40,
  tsOffset: 44,
  tsval: 48,
  openedAt: 52,
  mss: 56,
  scales: 58,
  flags: 59,
  answer: 60,
  tries: 61,
  window: 62,
} as const;

/**
 * What the kernel does with segments of a session: bits, as in bpf/lib/session.h. With 0 it gives
 * them to the engine.
 */
export const SessionAction = {
  /** Forwards to the node, with new MAC addresses. */
  forward: 0x01,
  /**
   * With `forward`: gives segments with payload to the engine, unless they end at `handedTo` or
   * before.
   */
  payloadUp: 0x02,
  /**
   * Sends new payload behind the handoff to the node in IXP, and gives everything else to the
   * engine.
   */
  wrap: 0x04,
  /** During the handoff: forwards a segment that acknowledges the answer, as with `forward`. */
  answered: 0x08,
  /** The session has ended without a node: only a SYN that opens a new one is for the kernel. */
  ended: 0x10,
  /** With `payloadUp`: forwards the head that begins at `handedTo`, if it was judged before. */
  heads: 0x20,
  /**
   * The balancer has answered, and sent FIN before `handedTo`: the kernel takes the ACK of all of
   * it, and acknowledges and reports the client's FIN.
   */
  closing: 0x40,
} as const;

/**
 * Hash of a session's key, unsigned. Both words are mixed separately before they are combined, each
 * with its own seed, so no pair of keys collides under every seed.
 */
export function sessionHash(
  client: number,
  portServer: number,
  clientSeed: number,
  portSeed: number,
): number {
  let port = portServer ^ portSeed;
  port = Math.imul(port ^ (port >>> 16), 0x85ebca6b);
  port = Math.imul(port ^ (port >>> 13), 0xc2b2ae35);
  let mixed = client ^ clientSeed ^ port ^ (port >>> 16);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x7feb352d);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x846ca68b);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}

/** The engine thread that owns a session: the upper bits of the hash, scaled. */
export function sessionWorker(hash: number, workers: number): number {
  return Math.floor((hash * workers) / 0x1_0000_0000);
}

// Strides, and offsets in the views below.
const WORDS_SHIFT = 4;
const HALVES_SHIFT = 5;
const BYTES_SHIFT = 6;
const CLIENT = SESSION_RECORD.client >> 2;
const PORT_SERVER = SESSION_RECORD.portServer >> 2;
const STATE = SESSION_RECORD.state;
const ACTION = SESSION_RECORD.action;
const NODE = SESSION_RECORD.node >> 1;
const LAST_SEEN = SESSION_RECORD.lastSeen >> 2;
const PACKETS = SESSION_RECORD.packets >> 2;
const RECEIVE_NEXT = SESSION_RECORD.receiveNext >> 2;
const CLIENT_ACK = SESSION_RECORD.clientAck >> 2;
const NONCE = SESSION_RECORD.nonce >> 2;
const CLIENT_ISN = SESSION_RECORD.clientIsn >> 2;
const SERVER_ISN = SESSION_RECORD.serverIsn >> 2;
const HANDED_TO = SESSION_RECORD.handedTo >> 2;
const TS_OFFSET = SESSION_RECORD.tsOffset >> 2;
const TSVAL = SESSION_RECORD.tsval >> 2;
const OPENED_AT = SESSION_RECORD.openedAt >> 2;
const MSS = SESSION_RECORD.mss >> 1;
const SCALES = SESSION_RECORD.scales;
const FLAGS = SESSION_RECORD.flags;
const ANSWER = SESSION_RECORD.answer;
const TRIES = SESSION_RECORD.tries;
const WINDOW = SESSION_RECORD.window >> 1;

const NO_ADDRESSES = new Uint32Array(0);

/** Reads records: of the table in use, or of one that an earlier process has left. */
export class RecordReader {
  /** Number of records in the memory. */
  readonly capacity: number;
  /** See the parameter of the constructor. */
  readonly addresses: Uint32Array;
  protected readonly words: Uint32Array;
  protected readonly halves: Uint16Array;
  protected readonly bytes: Uint8Array;

  /**
   * @param memory that holds the records
   * @param offset bytes before the first record, a multiple of 4
   * @param capacity number of records; by default as many as fit
   * @param addresses of IPv6 clients: four words for each record, or less if none has one
   */
  constructor(
    memory: ArrayBuffer,
    offset = 0,
    capacity = Math.floor((memory.byteLength - offset) / SESSION_RECORD_BYTES),
    addresses?: ArrayBuffer,
  ) {
    this.capacity = capacity;
    this.addresses = addresses === undefined ? NO_ADDRESSES : new Uint32Array(addresses);
    this.words = new Uint32Array(memory, offset, capacity << WORDS_SHIFT);
    this.halves = new Uint16Array(memory, offset, capacity << HALVES_SHIFT);
    this.bytes = new Uint8Array(memory, offset, capacity << BYTES_SHIFT);
  }

  client(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + CLIENT]!;
  }

  /** Client port in the upper half, slot of the virtual server in the lower. */
  portServer(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + PORT_SERVER]!;
  }

  /** SessionState. */
  state(slot: number): number {
    return this.bytes[(slot << BYTES_SHIFT) + STATE]!;
  }

  /** Bits of SessionAction. */
  action(slot: number): number {
    return this.bytes[(slot << BYTES_SHIFT) + ACTION]!;
  }

  /** Slot of the node; NO_NODE: the balancer answers, or has cut the session. Undefined before. */
  node(slot: number): number {
    return this.halves[(slot << HALVES_SHIFT) + NODE]!;
  }

  /** ms on the engine's clock. Wraps, as all times here. */
  lastSeen(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + LAST_SEEN]!;
  }

  /** Client packets that were forwarded. */
  packets(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + PACKETS]!;
  }

  /**
   * RCV.NXT: the next sequence number expected of the client. In pass-through, the highest seen.
   */
  receiveNext(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + RECEIVE_NEXT]!;
  }

  /** The client's highest acknowledgement number. */
  clientAck(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + CLIENT_ACK]!;
  }

  /** Distinguishes the session from earlier ones with the same slot and key. */
  nonce(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + NONCE]!;
  }

  /** The client's initial sequence number. */
  clientIsn(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + CLIENT_ISN]!;
  }

  /** Our initial sequence number. */
  serverIsn(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + SERVER_ISN]!;
  }

  /** Sequence number of the client's first byte, the one after its SYN. */
  clientFirst(slot: number): number {
    return seqAdd(this.clientIsn(slot), 1);
  }

  /** Sequence number of the first byte of an answer, the one after our SYN. */
  serverFirst(slot: number): number {
    return seqAdd(this.serverIsn(slot), 1);
  }

  /**
   * End of the bytes (and FIN) that were handed over from the head store. From the beginning of an
   * answer of the balancer: the number behind its FIN.
   * Of a session that passes and is watched: end of the bytes that need not be read.
   */
  handedTo(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + HANDED_TO]!;
  }

  /** Our timestamp clock for this session is this offset plus ms. */
  tsOffset(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + TS_OFFSET]!;
  }

  /** The client's last TSval. */
  tsval(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + TSVAL]!;
  }

  /** When the SYN was answered, as well as it is known: ms as `lastSeen`. */
  openedAt(slot: number): number {
    return this.words[(slot << WORDS_SHIFT) + OPENED_AT]!;
  }

  /** The client's MSS. */
  mss(slot: number): number {
    return this.halves[(slot << HALVES_SHIFT) + MSS]!;
  }

  /** Window shifts: high nibble the client's, low nibble ours. */
  scales(slot: number): number {
    return this.bytes[(slot << BYTES_SHIFT) + SCALES]!;
  }

  /** Bits of SessionFlag. */
  flags(slot: number): number {
    return this.bytes[(slot << BYTES_SHIFT) + FLAGS]!;
  }

  /** Whether any of the bits is set. */
  has(slot: number, flags: number): boolean {
    return (this.bytes[(slot << BYTES_SHIFT) + FLAGS]! & flags) !== 0;
  }

  /** Number of the answer that the balancer gives (directory/answers.ts); 0: none. */
  answer(slot: number): number {
    return this.bytes[(slot << BYTES_SHIFT) + ANSWER]!;
  }

  /**
   * Unanswered transmissions: of the SYN/ACK, of the handoff to the present node, of questions to
   * it, or of the balancer's own answer.
   */
  tries(slot: number): number {
    return this.bytes[(slot << BYTES_SHIFT) + TRIES]!;
  }

  /** The client's window in its last segment, unscaled. */
  window(slot: number): number {
    return this.halves[(slot << HALVES_SHIFT) + WINDOW]!;
  }
}

/** Reads and writes records in place. RecordReader documents the fields. */
export class SessionRecords extends RecordReader {
  setLastSeen(slot: number, clock: number): void {
    this.words[(slot << WORDS_SHIFT) + LAST_SEEN] = clock;
  }

  countPacket(slot: number): void {
    this.words[(slot << WORDS_SHIFT) + PACKETS]! += 1;
  }

  setReceiveNext(slot: number, sequence: number): void {
    this.words[(slot << WORDS_SHIFT) + RECEIVE_NEXT] = sequence;
  }

  setClientAck(slot: number, sequence: number): void {
    this.words[(slot << WORDS_SHIFT) + CLIENT_ACK] = sequence;
  }

  setNonce(slot: number, nonce: number): void {
    this.words[(slot << WORDS_SHIFT) + NONCE] = nonce;
  }

  setClientIsn(slot: number, sequence: number): void {
    this.words[(slot << WORDS_SHIFT) + CLIENT_ISN] = sequence;
  }

  setServerIsn(slot: number, sequence: number): void {
    this.words[(slot << WORDS_SHIFT) + SERVER_ISN] = sequence;
  }

  setHandedTo(slot: number, sequence: number): void {
    this.words[(slot << WORDS_SHIFT) + HANDED_TO] = sequence;
  }

  setTsOffset(slot: number, offset: number): void {
    this.words[(slot << WORDS_SHIFT) + TS_OFFSET] = offset;
  }

  setTsval(slot: number, tsval: number): void {
    this.words[(slot << WORDS_SHIFT) + TSVAL] = tsval;
  }

  setNode(slot: number, node: number): void {
    this.halves[(slot << HALVES_SHIFT) + NODE] = node;
  }

  setOpenedAt(slot: number, clock: number): void {
    this.words[(slot << WORDS_SHIFT) + OPENED_AT] = clock;
  }

  setMss(slot: number, mss: number): void {
    this.halves[(slot << HALVES_SHIFT) + MSS] = mss;
  }

  setScales(slot: number, scales: number): void {
    this.bytes[(slot << BYTES_SHIFT) + SCALES] = scales;
  }

  setFlags(slot: number, flags: number): void {
    this.bytes[(slot << BYTES_SHIFT) + FLAGS] = flags;
  }

  /** Sets these bits in addition to the others. */
  raise(slot: number, flags: number): void {
    this.bytes[(slot << BYTES_SHIFT) + FLAGS]! |= flags;
  }

  setAnswer(slot: number, answer: number): void {
    this.bytes[(slot << BYTES_SHIFT) + ANSWER] = answer;
  }

  setTries(slot: number, tries: number): void {
    this.bytes[(slot << BYTES_SHIFT) + TRIES] = tries;
  }

  setWindow(slot: number, window: number): void {
    this.halves[(slot << HALVES_SHIFT) + WINDOW] = window;
  }

  /** Copies the record of a session that passes, except for its key, node, state and action. */
  copyFrom(other: RecordReader, from: number, slot: number): void {
    this.setLastSeen(slot, other.lastSeen(from));
    this.words[(slot << WORDS_SHIFT) + PACKETS] = other.packets(from);
    this.setReceiveNext(slot, other.receiveNext(from));
    this.setClientAck(slot, other.clientAck(from));
    this.setNonce(slot, other.nonce(from));
    this.setClientIsn(slot, other.clientIsn(from));
    this.setServerIsn(slot, other.serverIsn(from));
    this.setHandedTo(slot, other.handedTo(from));
    this.setTsOffset(slot, other.tsOffset(from));
    this.setTsval(slot, other.tsval(from));
    this.words[(slot << WORDS_SHIFT) + OPENED_AT] = other.openedAt(from);
    this.setMss(slot, other.mss(from));
    this.setScales(slot, other.scales(from));
    this.setFlags(slot, other.flags(from));
    this.setWindow(slot, other.window(from));
  }

  /**
   * Applies what has happened to the other record of the same session since it was copied. Returns
   * whether a side has ended meanwhile.
   *
   * @param fins the flags that say so
   */
  catchUp(other: RecordReader, from: number, slot: number, fins: number): boolean {
    if (seqDiff(other.lastSeen(from), this.lastSeen(slot)) > 0)
      this.setLastSeen(slot, other.lastSeen(from));
    if (seqDiff(other.receiveNext(from), this.receiveNext(slot)) > 0) {
      this.setReceiveNext(slot, other.receiveNext(from));
    }
    if (seqDiff(other.clientAck(from), this.clientAck(slot)) > 0) {
      this.setClientAck(slot, other.clientAck(from));
    }
    const ended = other.flags(from) & fins & ~this.flags(slot);
    if (ended !== 0) this.raise(slot, ended);
    return ended !== 0;
  }

  /** Clears a record: all fields are 0 except for its key and its times. */
  protected clear(slot: number, client: number, portServer: number, clock: number): void {
    const at = slot << WORDS_SHIFT;
    for (let word = at; word < at + (1 << WORDS_SHIFT); word++) this.words[word] = 0;
    this.words[at + CLIENT] = client;
    this.words[at + PORT_SERVER] = portServer;
    this.words[at + LAST_SEEN] = clock;
    this.words[at + OPENED_AT] = clock;
  }

  protected writeState(slot: number, state: number): void {
    this.bytes[(slot << BYTES_SHIFT) + STATE] = state;
  }

  /**
   * Tells the kernel what to do. Everything written to the record before is visible when the action
   * is, so the kernel never acts on a half-written record.
   */
  protected writeAction(slot: number, action: number): void {
    Atomics.store(this.bytes, (slot << BYTES_SHIFT) + ACTION, action);
  }
}
