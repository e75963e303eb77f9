/** The log thread's end of a ring of records. */
import { CLOSE_REASONS, type CloseReason } from '../../engine/options.js';
import { REQUEST_BYTES } from '../../engine/table/session-table.js';
import { type Address, toAddress, toAddress6 } from '../../wire/address.js';
import {
  RECORD,
  RECORD_CLOSE,
  RECORD_EVENT,
  RECORD_PATH,
  RECORD_REQUEST,
  RecordKind,
  RING_HEAD_BYTES,
  RING_LOST,
  RING_READ,
  RING_WRITTEN,
} from './records.js';

/** Words of a close before the client's IPv6 address. */
const CLOSE_WORDS = RECORD_CLOSE.request + REQUEST_BYTES / 4;

/** The session of a record, and when the engine wrote it. */
export interface RecordPlace {
  slot: number;
  nonce: number;
  /** ms on the engine's clock. */
  clock: number;
}

/** A session that has ended. */
export interface ClosedSession extends RecordPlace {
  client: Address;
  clientPort: number;
  /** Slot of the virtual server. */
  server: number;
  openedAt: number;
  packets: number;
  bytes: number;
  /** Slot of the node, or NO_NODE. */
  node: number;
  /** Number of the balancer's own answer; 0: none. */
  answer: number;
  reason: CloseReason;
  /** The start of method and target, one character for each byte. */
  request: string;
  /** The request was longer. */
  requestCut: boolean;
}

/** What is called with the records of a ring. */
export interface RecordSink {
  /** `head` has one character for each byte. */
  request(place: RecordPlace, head: string, cut: boolean): void;
  /** `kind`: a RecordKind between request and close. */
  /** `path` has one character for each byte. */
  rewritten(place: RecordPlace, path: string): void;
  event(place: RecordPlace, kind: number, node: number): void;
  closed(session: ClosedSession): void;
}

export class RingReader {
  private readonly head: Int32Array;
  private readonly words: Uint32Array;
  private readonly bytes: Buffer;
  private countedLost = 0;

  constructor(memory: SharedArrayBuffer) {
    this.head = new Int32Array(memory, 0, RING_HEAD_BYTES / 4);
    this.words = new Uint32Array(memory, RING_HEAD_BYTES);
    this.bytes = Buffer.from(memory, RING_HEAD_BYTES);
  }

  /** Gives the present records to `sink`, and frees their room. Returns how many there were. */
  drain(sink: RecordSink): number {
    const { head, words } = this;
    const mask = words.length - 1;
    const written = Atomics.load(head, RING_WRITTEN);
    let read = head[RING_READ]!;
    let records = 0;
    while (read !== written) {
      const at = read & mask;
      const size = words[at]! & 0xffff;
      if (words[at]! >>> 16 !== RecordKind.fill) {
        this.give(sink, at, words[at]! >>> 16);
        records += 1;
      }
      read = (read + size) | 0;
      Atomics.store(head, RING_READ, read);
    }
    return records;
  }

  /** Records that did not fit since the last call. */
  takeLost(): number {
    const lost = Atomics.load(this.head, RING_LOST);
    const grown = (lost - this.countedLost) >>> 0;
    this.countedLost = lost;
    return grown;
  }

  private give(sink: RecordSink, at: number, kind: number): void {
    const { words } = this;
    const place = {
      slot: words[at + RECORD.slot]!,
      nonce: words[at + RECORD.nonce]!,
      clock: words[at + RECORD.clock]!,
    };
    switch (kind) {
      case RecordKind.request: {
        const length = words[at + RECORD_REQUEST.length]!;
        const head = this.text(at + RECORD_REQUEST.bytes, length);
        sink.request(place, head, words[at + RECORD_REQUEST.cut] === 1);
        return;
      }
      case RecordKind.path:
        sink.rewritten(place, this.text(at + RECORD_PATH.bytes, words[at + RECORD_PATH.length]!));
        return;
      case RecordKind.close:
        sink.closed({ ...place, ...this.close(at) });
        return;
      default:
        sink.event(place, kind, words[at + RECORD_EVENT.node]!);
    }
  }

  private close(at: number): Omit<ClosedSession, keyof RecordPlace> {
    const { words } = this;
    const portServer = words[at + RECORD_CLOSE.portServer]!;
    const packed = words[at + RECORD_CLOSE.answerReasonLength]!;
    const length = (packed >>> 16) & 0xff;
    return {
      client:
        packed >>> 24 === 0
          ? toAddress(words[at + RECORD_CLOSE.client]!)
          : toAddress6(words, at + CLOSE_WORDS),
      clientPort: portServer >>> 16,
      server: portServer & 0xffff,
      openedAt: words[at + RECORD_CLOSE.openedAt]!,
      packets: words[at + RECORD_CLOSE.packets]!,
      bytes: words[at + RECORD_CLOSE.bytes]!,
      node: words[at + RECORD_CLOSE.node]!,
      answer: packed & 0xff,
      reason: CLOSE_REASONS[(packed >>> 8) & 0xff] ?? 'lost',
      request: this.text(at + RECORD_CLOSE.request, Math.min(length, REQUEST_BYTES)),
      requestCut: length > REQUEST_BYTES,
    };
  }

  private text(word: number, length: number): string {
    return this.bytes.toString('latin1', word * 4, word * 4 + length);
  }
}
