/**
 * The engine thread's end of the access log: writes what happens to sessions into the ring that the
 * log thread reads. It copies bytes and numbers, and allocates nothing.
 */
import { NO_NODE } from '../../engine/node-table.js';
import { CLOSE_REASONS, type CloseReason, type Observer } from '../../engine/options.js';
import {
  REQUEST_BYTES,
  SessionState,
  type SessionTable,
} from '../../engine/table/session-table.js';
import { ADDRESS_WORDS } from '../../engine/virtual-servers.js';
import {
  MOST_RECORDED_BYTES,
  RECORD,
  RECORD_CLOSE,
  RECORD_EVENT,
  RECORD_EVENT_WORDS,
  RECORD_PATH,
  RECORD_REQUEST,
  RecordKind,
  RING_HEAD_BYTES,
  RING_LOST,
  RING_READ,
  RING_WRITTEN,
} from './records.js';

const REQUEST_WORDS = REQUEST_BYTES / 4;
const CLOSE_WORDS = RECORD_CLOSE.request + REQUEST_WORDS;
const NONE = -1;

const REASON_INDEX = Object.fromEntries(
  CLOSE_REASONS.map((reason, index) => [reason, index]),
) as Readonly<Record<CloseReason, number>>;

export class AccessRecorder implements Observer {
  private readonly sessions: SessionTable;
  /** SessionTable.request as words. */
  private readonly requests: Uint32Array;
  private readonly head: Int32Array;
  private readonly words: Uint32Array;
  private readonly bytes: Uint8Array;
  private readonly mask: number;
  /** Where heads are, and the same memory as words. */
  private source: Uint8Array = new Uint8Array(0);
  private sourceWords: Uint32Array = new Uint32Array(0);
  /** The reader's position when it was last looked at. */
  private read: number;
  /** `written` after the record that is being written. */
  private next = 0;
  /** The session whose request was recorded in the present call of the engine. */
  private requestSlot = NONE;

  /**
   * @param memory of `ringMemory`
   * @param sessions the table of the engine that is observed
   */
  constructor(memory: SharedArrayBuffer, sessions: SessionTable) {
    this.sessions = sessions;
    this.requests = new Uint32Array(sessions.request.buffer);
    this.head = new Int32Array(memory, 0, RING_HEAD_BYTES / 4);
    this.words = new Uint32Array(memory, RING_HEAD_BYTES);
    this.bytes = new Uint8Array(memory, RING_HEAD_BYTES);
    this.mask = this.words.length - 1;
    this.read = Atomics.load(this.head, RING_READ);
  }

  request(
    slot: number,
    _verdict: number,
    bytes: Uint8Array,
    start: number,
    _end: number,
    now: number,
    filled: number,
  ): void {
    const present = filled - start;
    const length = Math.min(present, MOST_RECORDED_BYTES);
    // An even number of words.
    const words = (RECORD_REQUEST.bytes + ((length + 3) >>> 2) + 1) & ~1;
    const at = this.reserve(RecordKind.request, words, slot, now);
    if (at < 0) return;
    this.words[at + RECORD_REQUEST.length] = length;
    this.words[at + RECORD_REQUEST.cut] = length < present ? 1 : 0;
    this.copy(bytes, start, length, at + RECORD_REQUEST.bytes);
    this.commit();
    this.requestSlot = slot;
  }

  rewritten(slot: number, bytes: Uint8Array, start: number, end: number, now: number): void {
    const length = Math.min(end - start, MOST_RECORDED_BYTES);
    const words = (RECORD_PATH.bytes + ((length + 3) >>> 2) + 1) & ~1;
    const at = this.reserve(RecordKind.path, words, slot, now);
    if (at < 0) return;
    this.words[at + RECORD_PATH.length] = length;
    this.copy(bytes, start, length, at + RECORD_PATH.bytes);
    this.commit();
  }

  handoff(slot: number, node: number, attempt: number, now: number): void {
    if (attempt <= 1) this.leaves(slot, node, now);
  }

  answered(slot: number, _answer: number, now: number): void {
    this.leaves(slot, this.sessions.node(slot), now);
  }

  unconfirmed(slot: number, node: number, now: number): void {
    this.event(RecordKind.unconfirmed, slot, node, now);
  }

  refused(slot: number, node: number, _reason: number, now: number): void {
    this.event(RecordKind.refused, slot, node, now);
  }

  silent(slot: number, node: number, now: number): void {
    this.event(RecordKind.silent, slot, node, now);
  }

  released(slot: number, node: number, now: number): void {
    this.event(RecordKind.released, slot, node, now);
  }

  /** Records a session that has completed its handshake. */
  closed(slot: number, reason: CloseReason, now: number): void {
    const { sessions, words } = this;
    const state = sessions.state(slot);
    // The kernel may have seen the ACK of a session that is half open for the engine.
    const acknowledged = sessions.clientAck(slot) === sessions.serverFirst(slot);
    if (state === SessionState.synReceived && !acknowledged) return;
    const address = sessions.clients.wordsAt(slot);
    const isIpv6 = address < 0 ? 0 : 1;
    const length = CLOSE_WORDS + isIpv6 * ADDRESS_WORDS;
    const at = this.reserve(RecordKind.close, length, slot, now);
    if (at < 0) return;
    const handed = state >= SessionState.handing;
    words[at + RECORD_CLOSE.client] = sessions.client(slot);
    words[at + RECORD_CLOSE.portServer] = sessions.portServer(slot);
    words[at + RECORD_CLOSE.openedAt] = sessions.openedAt(slot);
    words[at + RECORD_CLOSE.packets] = sessions.packets(slot);
    words[at + RECORD_CLOSE.bytes] = sessions.clientBytes(slot);
    words[at + RECORD_CLOSE.node] = handed ? sessions.node(slot) : NO_NODE;
    words[at + RECORD_CLOSE.answerReasonLength] =
      (handed ? sessions.answer(slot) : 0) |
      (REASON_INDEX[reason] << 8) |
      (sessions.requestLength[slot]! << 16) |
      (isIpv6 << 24);
    const from = slot * REQUEST_WORDS;
    for (let word = 0; word < REQUEST_WORDS; word++)
      words[at + RECORD_CLOSE.request + word] = this.requests[from + word]!;
    if (isIpv6 === 1)
      for (let word = 0; word < ADDRESS_WORDS; word++)
        words[at + CLOSE_WORDS + word] = sessions.clients.words[address + word]!;
    this.commit();
  }

  /**
   * Copies bytes[start, start + length) to the word at `to`. Heads mostly begin at a whole word.
   */
  private copy(bytes: Uint8Array, start: number, length: number, to: number): void {
    // An engine keeps all heads in one memory. Other memory has a text in place of a head, and is
    // smaller.
    if (bytes.length > this.source.length) this.setSource(bytes);
    const { words, sourceWords } = this;
    const from = start >>> 2;
    const count = (length + 3) >>> 2;
    const isSource = bytes === this.source;
    if (isSource && (start & 3) === 0 && from + count <= sourceWords.length) {
      for (let word = 0; word < count; word++) words[to + word] = sourceWords[from + word]!;
      return;
    }
    const byte = to << 2;
    for (let i = 0; i < length; i++) this.bytes[byte + i] = bytes[start + i]!;
  }

  private setSource(bytes: Uint8Array): void {
    this.source = bytes;
    const { buffer, byteOffset, length } = bytes;
    this.sourceWords =
      byteOffset % 4 === 0 ? new Uint32Array(buffer, byteOffset, length >>> 2) : new Uint32Array(0);
  }

  /** The session goes to a node, or to no node because the balancer answers it. */
  private leaves(slot: number, node: number, now: number): void {
    // The first handoff follows the request in the same call, so the request's time is its time.
    const first = this.requestSlot === slot;
    this.requestSlot = NONE;
    if (!first) this.event(RecordKind.handoff, slot, node, now);
  }

  private event(kind: number, slot: number, node: number, now: number): void {
    const at = this.reserve(kind, RECORD_EVENT_WORDS, slot, now);
    if (at < 0) return;
    this.words[at + RECORD_EVENT.node] = node;
    this.commit();
  }

  /**
   * Begins a record of an even number of words. Returns the index of its first word, or -1 when the
   * ring is full, which is counted.
   */
  private reserve(kind: number, words: number, slot: number, now: number): number {
    const { head, sessions, mask } = this;
    const written = head[RING_WRITTEN]!;
    let at = written & mask;
    const rest = mask + 1 - at;
    const needed = words <= rest ? words : rest + words;
    if (!this.fits(written, needed)) {
      Atomics.add(head, RING_LOST, 1);
      return NONE;
    }
    if (words > rest) {
      this.words[at + RECORD.wordsAndKind] = rest & 0xffff;
      at = 0;
    }
    this.next = (written + needed) | 0;
    this.words[at + RECORD.wordsAndKind] = words | (kind << 16);
    this.words[at + RECORD.slot] = slot;
    this.words[at + RECORD.nonce] = sessions.nonce(slot);
    this.words[at + RECORD.clock] = now;
    return at;
  }

  /** Looks at the reader's position only when the room that was known is used up. */
  private fits(written: number, needed: number): boolean {
    const most = this.mask + 1 - needed;
    if ((written - this.read) >>> 0 <= most) return true;
    this.read = Atomics.load(this.head, RING_READ);
    return (written - this.read) >>> 0 <= most;
  }

  /** Shows the record to the reader. */
  private commit(): void {
    Atomics.store(this.head, RING_WRITTEN, this.next);
  }
}
