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
 * A session's key is client address, client port and virtual server. An attacker chooses ports and
 * so the keys; therefore the hash has a secret seed. A slot that is freed and used again gets a new
 * nonce. The nonce is the slot's generation: it goes with the session to the node and comes back in
 * its notices. An IPv6 address is known by its alias, a word of 32 bits; see docs/decisions.md.
 *
 * Fields that the kernel does not need are kept beside the records, as a structure of arrays. They
 * are public, and the engine writes them in place, as it does the records.
 */
import { SlotList } from '../../base/slot-list.js';
import { MOST_PARKED } from '../../datapath/heads-layout.js';
import { type Address, toAddress } from '../../wire/address.js';
import type { Streams } from '../moving/streams.js';
import { NO_NODE } from '../node-table.js';
import { ClientAddresses } from './client-addresses.js';
import { indexWordsFor, SessionIndex } from './session-index.js';
import { SESSION_RECORD_BYTES, SessionAction, SessionRecords } from './session-record.js';

/**
 * Life of a session. The order matters: half-open sessions are evicted before those further on.
 */
export const SessionState = {
  free: 0,
  /** SYN/ACK sent (RFC 9293: SYN-RECEIVED): half open. */
  synReceived: 1,
  /** Handshake complete; the request head is being collected. */
  collecting: 2,
  /** Being handed over: the node has not confirmed. */
  handing: 3,
  /** The node has the connection, and client packets pass through. */
  passing: 4,
  /** Ended; late packets still pass through. */
  lingering: 5,
  /** The balancer itself answers the client (answers/). */
  answering: 6,
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
  'answering',
] as const;

export const SessionFlag = {
  windowScaleOk: 0x01,
  sackOk: 0x02,
  timestampsOk: 0x04,
  clientFin: 0x08,
  nodeFin: 0x10,
  /**
   * The node has confirmed. While it has not acknowledged all bytes that we keep, the state is
   * still `handing`.
   */
  adopted: 0x20,
  /** A handoff of this session met silence, so a second node may know it. */
  moved: 0x40,
  /** Its requests are followed, because it may move to another node (moving/). */
  watched: 0x80,
} as const;

/** Bytes of method and target that are kept for people to read. */
export const REQUEST_BYTES = 40;

/** In place of a resource: the current directory has none for the request any more. */
export const NO_RESOURCE = 0xffff_ffff;

const NONE = -1;

/**
 * Where an engine thread's part of the shared memory begins. Offsets are in bytes, multiples of 4.
 */
export interface SessionMemory {
  records: ArrayBuffer;
  recordsOffset: number;
  index: ArrayBuffer;
  indexOffset: number;
  /** Words of this engine thread: as many as `indexWordsFor` returns. */
  indexWords: number;
  /** One word, from which the kernel reads where the index is now. */
  indexState: Uint32Array;
  /**
   * Four words for each session: the addresses of IPv6 clients, for the kernel. By default the
   * table makes memory of its own when it needs it.
   */
  addresses?: Uint32Array;
}

/** Memory of this process alone, for `capacity` sessions. */
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
  /** Number of sessions in each state; index 0 is unused. */
  readonly inState = new Uint32Array(SESSION_STATE_NAMES.length);
  /** Sessions of each virtual server, by slot, except those that have ended and linger. */
  readonly ofServer: Uint32Array;
  /** The same with those that linger. */
  readonly heldByServer: Uint32Array;
  /** Number of all sessions. */
  size = 0;
  /** Sessions in SYN-RECEIVED, oldest first. The table adds and removes them. */
  readonly halfOpen: Pick<SlotList, 'size' | 'oldest'>;

  /**
   * Source of the client's frames: upper 16 and lower 32 bits of a MAC address. Both are 0 if it is
   * unknown.
   */
  readonly macHigh: Uint16Array;
  readonly macLow: Uint32Array;
  /** The room of the session's head in the head store, or -1. */
  readonly head: Int32Array;
  /**
   * The next byte that the node expects of those handed over. Valid from the beginning of a
   * handoff. From the beginning of an answer: the end of what was sent of it.
   */
  readonly nodeAck: Uint32Array;
  /**
   * Index of the requested resource in the directory `HeadStore.directory`, or NO_RESOURCE. Valid
   * from when the head has been read until it is given up. From the beginning of an answer: its
   * argument (`AnswerBook`).
   */
  readonly resource: Uint32Array;
  /**
   * The holders that this session was handed to: bits of `Dispatcher.pickedBit`. From the beginning
   * of an answer: when it began, as the record's times.
   */
  readonly tried: Uint32Array;
  /** `Dispatcher.resume` of the last look at the head. */
  readonly resume: Uint32Array;
  /**
   * The start of method and target: REQUEST_BYTES for each session, and how many of them are in
   * use. A length of REQUEST_BYTES + 1 means that there was more.
   */
  readonly requestLength: Uint8Array;
  readonly request: Uint8Array;

  /**
   * Where the clients of sessions that may move are. Undefined while no virtual server has such.
   */
  streams: Streams | undefined;

  /** The addresses of IPv6 clients, which the records know by their aliases. */
  readonly clients: ClientAddresses;

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
  /** Slots from here on have never been used, so that their pages are not touched. */
  private firstUnused = 0;

  /**
   * @param capacity sessions at one time, less than 2^24 - 1
   * @param servers slots for virtual servers
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
    this.clients = new ClientAddresses(capacity, memory.addresses);
    this.ofServer = new Uint32Array(servers);
    this.heldByServer = new Uint32Array(servers);
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
   * A slot for a session that is not in the table. It is half open, and every field is fresh. -1
   * when the table is full.
   */
  insert(client: number, portServer: number, clock: number): number {
    const slot = this.allocate();
    if (slot === NONE) return NONE;
    this.clear(slot, client, portServer, clock);
    this.head[slot] = NONE;
    this.tried[slot] = 0;
    this.resume[slot] = 0;
    this.requestLength[slot] = 0;
    this.streams?.clear(slot);
    this.clients.clear(slot);
    this.writeState(slot, SessionState.synReceived);
    this.halfOpenList.push(slot);
    this.index.add(slot);
    this.inState[SessionState.synReceived]! += 1;
    this.ofServer[portServer & 0xffff]! += 1;
    this.heldByServer[portServer & 0xffff]! += 1;
    this.size += 1;
    return slot;
  }

  /**
   * Moves a session to another state, and changes what the kernel does. The kernel forwards for
   * sessions that pass. It also forwards late packets of sessions that have ended, if the node is
   * known to have had them. The record must already hold all that the kernel needs. The action is
   * written before the state, because the kernel may clear the action of a session that has ended,
   * and that must last. No session returns to SYN-RECEIVED.
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

  /**
   * Has the kernel wrap new payload of a session that is being handed over, until its state
   * changes.
   */
  wrapInKernel(slot: number): void {
    this.writeAction(slot, this.action(slot) | SessionAction.wrap);
  }

  /**
   * Has the kernel forward segments of a client that has acknowledged part of the answer, until the
   * state changes.
   */
  forwardAnsweredInKernel(slot: number): void {
    const watched = this.has(slot, SessionFlag.watched) ? SessionAction.payloadUp : 0;
    this.writeAction(slot, this.action(slot) | SessionAction.answered | watched);
  }

  /**
   * Whether the kernel may have followed the client by itself. It does so no more, until
   * `renewAction` is called or the state changes.
   */
  takeHeadsFromKernel(slot: number): boolean {
    const action = this.action(slot);
    if ((action & SessionAction.heads) === 0) return false;
    this.writeAction(slot, action & ~SessionAction.heads);
    return true;
  }

  /** Has the kernel follow the client of a session that passes, if it can from `handedTo` on. */
  renewAction(slot: number): void {
    const action = this.actionIn(slot, this.state(slot));
    if (action !== this.action(slot)) this.writeAction(slot, action);
  }

  /** Has the kernel give every segment of the session to the engine, until its state changes. */
  takeFromKernel(slot: number): void {
    if (this.action(slot) !== 0) this.writeAction(slot, 0);
  }

  /**
   * Chooses whether the engine gets the client's payload of a session that passes, or the kernel
   * forwards it.
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
    const server = this.portServer(slot) & 0xffff;
    if (this.state(slot) !== SessionState.lingering) this.ofServer[server]! -= 1;
    this.heldByServer[server]! -= 1;
    this.writeState(slot, SessionState.free);
    this.next[slot] = this.firstFree;
    this.firstFree = slot;
    this.size -= 1;
  }

  /** Shows the text of a head that the kernel has forwarded as the session's last request. */
  keepText(slot: number, text: Uint8Array, length: number): void {
    this.request.set(text, slot * REQUEST_BYTES);
    this.requestLength[slot] = length;
  }

  /** Keeps method and target at bytes[start] for people to read. */
  keepRequest(slot: number, bytes: Uint8Array, start: number, length: number): void {
    const to = slot * REQUEST_BYTES;
    const kept = Math.min(length, REQUEST_BYTES);
    for (let i = 0; i < kept; i++) this.request[to + i] = bytes[start + i]!;
    this.requestLength[slot] = Math.min(length, REQUEST_BYTES + 1);
  }

  /** The client's address. For documents, not for packets. */
  clientAddress(slot: number): Address {
    return this.clients.address(slot) ?? toAddress(this.client(slot));
  }

  /** How often the session has moved to another node between two requests. */
  movesOf(slot: number): number {
    const { streams } = this;
    if (streams === undefined) return 0;
    return streams.moves[slot]! + (streams.kernel?.newMoves(slot) ?? 0);
  }

  /** The nodes that keep a socket of the session, to which it may come back. */
  parkedAt(slot: number): number[] {
    const { streams } = this;
    if (streams === undefined) return [];
    const nodes = streams.parked.subarray(
      streams.firstParked(slot),
      streams.firstParked(slot) + MOST_PARKED,
    );
    return [...nodes].filter((node) => node !== NO_NODE);
  }

  /** Bytes that the client has sent, as an unsigned 32-bit number. */
  clientBytes(slot: number): number {
    const fin = this.has(slot, SessionFlag.clientFin) ? 1 : 0;
    const present = this.receiveNext(slot) - this.clientFirst(slot) - fin;
    return (present + (this.streams?.before[slot] ?? 0)) >>> 0;
  }

  /** All sessions are in slots below this one. */
  get used(): number {
    return this.firstUnused;
  }

  /** The first slot in use at or after `slot`, or -1. Serves to walk the table. */
  nextUsed(slot: number): number {
    for (let at = slot; at < this.firstUnused; at++)
      if (this.state(at) !== SessionState.free) return at;
    return NONE;
  }

  /** Bytes of memory for each session at full capacity, with the index. */
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
    if (this.firstUnused === this.capacity) return NONE;
    this.firstUnused += 1;
    return this.firstUnused - 1;
  }

  /** Ends the use of the session's links. From here on it has `nodeAck` and `resource`. */
  private leaveHalfOpen(slot: number): void {
    this.halfOpenList.remove(slot);
    this.nodeAck[slot] = 0;
    this.resource[slot] = 0;
  }

  /** Bits of SessionAction for a state, without `wrap`. */
  private actionIn(slot: number, state: number): number {
    if (state === SessionState.answering) return SessionAction.closing;
    const lingers = state === SessionState.lingering;
    if (lingers && this.node(slot) === NO_NODE) return SessionAction.ended;
    const passes =
      state === SessionState.passing || (lingers && this.has(slot, SessionFlag.adopted));
    if (!passes || this.node(slot) === NO_NODE) return 0;
    if (!this.has(slot, SessionFlag.watched)) return SessionAction.forward;
    const follows = !lingers && this.streams?.kernelMayFollow(slot, this.handedTo(slot)) === true;
    return SessionAction.forward | SessionAction.payloadUp | (follows ? SessionAction.heads : 0);
  }
}
