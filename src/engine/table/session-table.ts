/**
 * All sessions: an array of records, and an index that finds them. Both lie in memory that the
 * kernel may share (bpf/lib/session.h).
 *
 *     index (session-index.ts)                      records of 64 bytes
 *     +---------+                                   client  port|server  state action node ...
 *     |    0    |                                 0 ......  ..........   ..... ...... ....
 *     | a7    3 | ------------------------------> 2 10.0..  40112|0      PASS  FWD    1
 *     | 31    1 | ---> slot 0
 *     +---------+    (a word: upper 8 bits of a seeded hash, and slot + 1; 0 is empty)
 *
 * A session's key is client address, client port and virtual server. An attacker chooses ports
 * and so the keys: the hash has a secret seed. A slot that is freed and used again gets a new
 * nonce, which goes with the session to the node and comes back in its notices: the slot's
 * generation. Addresses are IPv4 words; see docs/decisions.md.
 *
 * What the kernel has no use for is kept beside the records, a structure of arrays. Its fields are
 * public and written in place by the engine, as the records are: they are its registers.
 */
import { SlotList } from '../../base/slot-list.js';
import { LOCAL_NODE } from '../node-table.js';
import { indexWordsFor, SessionIndex } from './session-index.js';
import { SESSION_RECORD_BYTES, SessionAction, SessionRecords } from './session-record.js';

/** Life of a session. The order matters: half open is evicted before what is further on. */
export const SessionState = {
  free: 0,
  /** SYN/ACK sent (RFC 9293: SYN-RECEIVED): half open. */
  synReceived: 1,
  /** Handshake complete; the request head is being collected. */
  collecting: 2,
  /** Handed over; the node has not confirmed. */
  handing: 3,
  /** The node has the connection: client packets pass through. */
  passing: 4,
  /** Ended: late packets still pass through. */
  lingering: 5,
} as const;
/**
 * What people read, by SessionState; '' for a free record. RFC 9293's SYN-RECEIVED is commonly
 * "half-open".
 */
export const SESSION_STATE_NAMES = [
  '',
  'half-open',
  'collecting',
  'handing',
  'passing',
  'closing',
] as const;

export const SessionFlag = {
  windowScaleOk: 0x01,
  sackOk: 0x02,
  timestampsOk: 0x04,
  clientFin: 0x08,
  nodeFin: 0x10,
  /** The node has confirmed, but not yet all the bytes that we keep. */
  adopted: 0x20,
  /** Some handoff of this session ran into silence: a second node may know it. */
  moved: 0x40,
  /**
   * While it passes, the engine gets the client's payload. For connections that move at each
   * request: nothing raises it yet.
   */
  watched: 0x80,
} as const;

/** Bytes of method and target kept for people to read. */
export const REQUEST_BYTES = 40;

const NONE = -1;

/** Where a worker's part of the shared memory begins. Offsets are bytes, multiples of 4. */
export interface SessionMemory {
  records: ArrayBuffer;
  recordsOffset: number;
  index: ArrayBuffer;
  indexOffset: number;
  /** Of this worker: what `indexWordsFor` says. */
  indexWords: number;
  /** One word, in which the kernel reads where the index is now. */
  indexState: Uint32Array;
}

/** Memory of this process alone, for so many sessions. */
function privateMemory(capacity: number): SessionMemory {
  const indexWords = indexWordsFor(capacity);
  return {
    records: new ArrayBuffer(capacity * SESSION_RECORD_BYTES),
    recordsOffset: 0,
    index: new ArrayBuffer(indexWords * Uint32Array.BYTES_PER_ELEMENT),
    indexOffset: 0,
    indexWords,
    indexState: new Uint32Array(1),
  };
}

export class SessionTable extends SessionRecords {
  /** Sessions in each state; index 0 is not kept. */
  readonly inState = new Uint32Array(SESSION_STATE_NAMES.length);
  /** Sessions of each virtual server, without those that have ended and linger. */
  readonly ofServer: Uint32Array;
  /** Sessions in all. */
  size = 0;
  /** Sessions in SYN-RECEIVED, oldest first. The table adds and removes them. */
  readonly halfOpen: Pick<SlotList, 'size' | 'oldest'>;

  /** Where the client's frames come from: upper 16 and lower 32 bits of a MAC address. */
  readonly macHigh: Uint16Array;
  readonly macLow: Uint32Array;
  /** The room of the session's head in the head store, or -1. */
  readonly head: Int32Array;
  /** The next byte that the node expects of those handed over. 0 until a handoff begins. */
  readonly nodeAck: Uint32Array;
  /** Index of the requested resource in the directory. 0 until the head has been read. */
  readonly resource: Uint32Array;
  /** The holders that this session was handed to: bits of `Dispatcher.pickedBit`. */
  readonly tried: Uint32Array;
  /** `Dispatcher.resume` of the last look at the head. */
  readonly resume: Uint32Array;
  /**
   * The start of method and target: REQUEST_BYTES for each session, and how many of them are in
   * use. A length of REQUEST_BYTES + 1 says that there was more.
   */
  readonly requestLength: Uint8Array;
  readonly request: Uint8Array;

  private readonly index: SessionIndex;
  private readonly halfOpenList: SlotList;
  /**
   * Links of the one list that a slot can be in: free slots (`next` only), or half-open sessions.
   * A session further on is in neither list. Only then does it have `nodeAck` and `resource`, so
   * the links use the same memory (docs/decisions.md). Nothing outside this class sees the links:
   * `setState` zeroes both words when a session leaves SYN-RECEIVED. A list of other sessions needs
   * arrays of its own.
   */
  private readonly next: Int32Array;
  private readonly previous: Int32Array;
  private firstFree = NONE;
  /** Slots from here up have never been used: their pages are not touched before. */
  private used = 0;

  /**
   * @param capacity sessions at one time, less than 2^24 - 1
   * @param servers virtual servers
   * @param clientSeed and portSeed any numbers: the secret of the hash
   * @param memory all 0; by default the table's own
   */
  constructor(
    capacity: number,
    servers: number,
    clientSeed: number,
    portSeed: number,
    memory: SessionMemory = privateMemory(capacity),
  ) {
    super(memory.records, memory.recordsOffset, capacity);
    this.ofServer = new Uint32Array(servers);
    const words = (): Uint32Array => new Uint32Array(capacity);
    this.macHigh = new Uint16Array(capacity);
    this.macLow = words();
    this.head = new Int32Array(capacity);
    this.nodeAck = words();
    this.resource = words();
    this.tried = words();
    this.resume = words();
    this.next = new Int32Array(this.nodeAck.buffer);
    this.previous = new Int32Array(this.resource.buffer);
    this.halfOpenList = new SlotList(this.next, this.previous);
    this.halfOpen = this.halfOpenList;
    this.requestLength = new Uint8Array(capacity);
    this.request = new Uint8Array(capacity * REQUEST_BYTES);
    this.index = new SessionIndex(this, clientSeed | 0, portSeed | 0, {
      words: new Uint32Array(memory.index, memory.indexOffset, memory.indexWords),
      state: memory.indexState,
    });
  }

  /** Hash of a session's key, an unsigned 32-bit number. */
  hash(client: number, portServer: number): number {
    return this.index.hash(client, portServer);
  }

  /** Slot of a session, or -1. */
  find(client: number, portServer: number): number {
    return this.index.find(client, portServer);
  }

  /**
   * A slot for a session that is not in the table, half open and with every field fresh; -1 when
   * the table is full.
   */
  insert(client: number, portServer: number, clock: number): number {
    const slot = this.allocate();
    if (slot === NONE) return NONE;
    this.clear(slot, client, portServer, clock);
    this.head[slot] = NONE;
    this.tried[slot] = 0;
    this.resume[slot] = 0;
    this.requestLength[slot] = 0;
    this.writeState(slot, SessionState.synReceived);
    this.halfOpenList.push(slot);
    this.index.add(slot);
    this.inState[SessionState.synReceived]! += 1;
    this.ofServer[portServer & 0xffff]! += 1;
    this.size += 1;
    return slot;
  }

  /**
   * Moves a session to another state, and with it what the kernel does: it forwards what passes to
   * a node, and the late packets of what has ended if the node is known to have had the session.
   * The record must already say all that the kernel needs for that. The action comes first: from
   * one that has ended the kernel may take it, and that must stay so.
   */
  setState(slot: number, state: number): void {
    const action = this.actionIn(slot, state);
    if (action !== this.action(slot)) this.writeAction(slot, action);
    if (this.state(slot) === SessionState.synReceived) this.leaveHalfOpen(slot);
    this.inState[this.state(slot)]! -= 1;
    this.inState[state]! += 1;
    if (state === SessionState.lingering) this.ofServer[this.portServer(slot) & 0xffff]! -= 1;
    this.writeState(slot, state);
  }

  /** Has the kernel wrap new payload of a session that is handed over, until its state changes. */
  wrapInKernel(slot: number): void {
    this.writeAction(slot, this.action(slot) | SessionAction.wrap);
  }

  /**
   * Has the kernel forward what a client sends that has had some of the answer, until the state
   * changes.
   */
  forwardAnsweredInKernel(slot: number): void {
    this.writeAction(slot, this.action(slot) | SessionAction.answered);
  }

  /** Every segment of the session goes to the engine from now on, until its state changes. */
  takeFromKernel(slot: number): void {
    if (this.action(slot) !== 0) this.writeAction(slot, 0);
  }

  /**
   * Whether the engine gets the client's payload of a session that passes, or the kernel forwards
   * it. For connections that move at each request: the engine does not call it yet.
   */
  watch(slot: number, on: boolean): void {
    const flags = this.flags(slot);
    this.setFlags(slot, on ? flags | SessionFlag.watched : flags & ~SessionFlag.watched);
    const action = this.actionIn(slot, this.state(slot));
    if (action !== 0) this.writeAction(slot, action);
  }

  remove(slot: number): void {
    this.takeFromKernel(slot);
    this.index.remove(slot);
    if (this.state(slot) === SessionState.synReceived) this.leaveHalfOpen(slot);
    this.inState[this.state(slot)]! -= 1;
    if (this.state(slot) !== SessionState.lingering)
      this.ofServer[this.portServer(slot) & 0xffff]! -= 1;
    this.writeState(slot, SessionState.free);
    this.next[slot] = this.firstFree;
    this.firstFree = slot;
    this.size -= 1;
  }

  /** First slot in use at or after `slot`, or -1: for walking the table. */
  nextUsed(slot: number): number {
    for (let at = slot; at < this.used; at++) if (this.state(at) !== SessionState.free) return at;
    return NONE;
  }

  /** Bytes of memory for each session at full capacity, the index included. */
  get bytesPerSession(): number {
    const beside = [
      this.index,
      this.macHigh,
      this.macLow,
      this.head,
      this.nodeAck,
      this.resource,
      this.tried,
      this.resume,
      this.requestLength,
      this.request,
    ];
    const bytes = beside.reduce((sum, { byteLength }) => sum + byteLength, 0);
    return SESSION_RECORD_BYTES + bytes / this.capacity;
  }

  private allocate(): number {
    const slot = this.firstFree;
    if (slot !== NONE) {
      this.firstFree = this.next[slot]!;
      return slot;
    }
    if (this.used === this.capacity) return NONE;
    this.used += 1;
    return this.used - 1;
  }

  /** Ends the use of the session's links: from here on it has `nodeAck` and `resource`. */
  private leaveHalfOpen(slot: number): void {
    this.halfOpenList.remove(slot);
    this.nodeAck[slot] = 0;
    this.resource[slot] = 0;
  }

  /** Bits of SessionAction for a state, but for `wrap`. */
  private actionIn(slot: number, state: number): number {
    const passes =
      state === SessionState.passing ||
      (state === SessionState.lingering && this.has(slot, SessionFlag.adopted));
    if (!passes || this.node(slot) === LOCAL_NODE) return 0;
    return (
      SessionAction.forward | (this.has(slot, SessionFlag.watched) ? SessionAction.payloadUp : 0)
    );
  }
}
