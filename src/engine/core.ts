/**
 * What all parts of the engine share: the tables, the time of the current call, and the operations
 * on a session that every part needs (reach its node, close it).
 */

import { Counter, type Counters } from '../base/counters.js';
import { ObjectCounters } from '../base/object-counters.js';
import { TimerWheel } from '../base/timer-wheel.js';
import { Port, type PortNumber, type TransmitQueue } from '../datapath/datapath.js';
import { MOST_VIRTUAL_SERVERS } from '../datapath/xdp-layout.js';
import { Answer } from '../directory/answers.js';
import { type Dispatcher, Protocol } from '../directory/dispatcher.js';
import type { NodeStates } from '../directory/node-states.js';
import { Aliases } from '../wire/alias.js';
import { ETHERNET, writeMac } from '../wire/ethernet.js';
import { seqAdd, seqAfter } from '../wire/seq.js';
import { SipHash } from '../wire/siphash.js';
import { TcpFlag } from '../wire/tcp.js';
import {
  acknowledges,
  acknowledgesAnswer,
  finIsInSequence,
  isPlausibleAck,
  movesOn,
} from './acceptance.js';
import { BatchSlots } from './batch-slots.js';
import { CLOSE_COUNTERS } from './close-counters.js';
import { KeepAlive, type NumberOf } from './farm.js';
import { ForwardCounts } from './forward/counts.js';
import { Forwarding } from './forward/forwarding.js';
import { ForwardPorts } from './forward/ports.js';
import { ForwardTables } from './forward/tables.js';
import { HeadStep, HeadStore } from './head-store.js';
import { idleLimit } from './idle-limit.js';
import type { JudgedHeads } from './moving/judged-heads.js';
import { openHeads, showLastRequest } from './moving/kernel-heads.js';
import type { Parking } from './moving/parking.js';
import { Streams } from './moving/streams.js';
import { NO_NODE, type NodeTable } from './node-table.js';
import type { CloseReason, EngineOptions, Observer } from './options.js';
import { Segment } from './segment.js';
import { offeredMss } from './syn-ack-options.js';
import { sessionWorker } from './table/session-record.js';
import { SessionFlag, SessionState, SessionTable } from './table/session-table.js';
import { VirtualServerTable } from './virtual-servers.js';

/** The observer when no one listens. */
const NO_OBSERVER: Observer = {};

/**
 * Silence in ms after which the engine asks the node whether it still has such a session. The
 * notice of the node's FIN is sent once and may be lost. The engine asks again each time the
 * silence has doubled. A node that answers keeps the session for as long as any session may be
 * idle. Its answer is not a sign of the client, so the silence continues.
 */
export const ASK_MS = 10_000;
const BOTH_FINS = SessionFlag.clientFin | SessionFlag.nodeFin;

const ONLY_SHARD = { worker: 0, workers: 1 };

export class Core {
  /** A copy of our own: a change replaces the timeouts. */
  readonly options: EngineOptions;
  readonly nodes: NodeTable;
  /** States of `nodes`. */
  readonly states: NodeStates;
  readonly dispatcher: Dispatcher;
  readonly transmit: TransmitQueue;
  readonly counters: Counters;
  /** Counters of each node and virtual server. */
  readonly objects: ObjectCounters;
  observer: Observer;
  servers: VirtualServerTable;
  /** Packets of virtual servers with mode forward. Undefined: the XDP program has them. */
  readonly forwarding: Forwarding | undefined;
  readonly sessions: SessionTable;
  readonly heads: HeadStore;
  readonly timers: TimerWheel;
  /** The frame that the engine is processing. */
  readonly segment: Segment;
  /** SipHash under the key shared with the nodes. */
  readonly hash: SipHash;
  /** Our own MAC addresses: on the interface of the clients, and on that of the nodes. */
  readonly macHigh: number;
  readonly macLow: number;
  readonly nodeMacHigh: number;
  readonly nodeMacLow: number;
  /** The port on which frames to nodes on other machines leave. */
  readonly nodePort: PortNumber;
  /** The MSS in our SYN/ACKs over IPv4. It leaves room below the MTU for what the nodes need. */
  mss = 0;
  /** Names IPv6 addresses by numbers. */
  readonly aliases: Aliases;
  readonly numberOf: NumberOf;
  /** Our own IPv4 address, and the alias of our IPv6 address; 0: none. */
  readonly address: number;
  readonly address6: number;
  /** Time of the current call in ms; `clock` is the same time as the tables keep it. */
  now: number;
  clock: number;
  /** Number of the current directory. Indexes of resources of an earlier one mean nothing. */
  directory = 0;
  /** Sockets that sessions have left at nodes. The engine sets it before the first frame. */
  parking!: Parking;
  /** Sessions whose handoff was sent in the current batch. */
  readonly batchHandoffs = new BatchSlots();
  /** Heads that the kernel may forward. Undefined: it forwards none. */
  judged: JudgedHeads | undefined;

  constructor(
    options: EngineOptions,
    nodes: NodeTable,
    dispatcher: Dispatcher,
    transmit: TransmitQueue,
    counters: Counters,
  ) {
    this.options = { ...options };
    this.nodes = nodes;
    this.states = nodes.states;
    this.dispatcher = dispatcher;
    this.transmit = transmit;
    this.counters = counters;
    this.observer = options.observer ?? NO_OBSERVER;
    this.aliases = new Aliases(options.key);
    this.numberOf = (address) => this.aliases.of(address);
    this.address = options.address;
    this.address6 = options.address6 === undefined ? 0 : this.numberOf(options.address6);
    this.servers = new VirtualServerTable(options.virtualServers, this.numberOf);
    this.objects = options.objects ?? new ObjectCounters(nodes.count, MOST_VIRTUAL_SERVERS);
    this.sessions = new SessionTable(
      options.limits.sessions,
      MOST_VIRTUAL_SERVERS,
      options.seeds.client,
      options.seeds.port,
      options.memory,
    );
    this.heads = new HeadStore(options.limits.heads, options.limits.headBytes);
    this.makeTables();
    this.timers = new TimerWheel(options.limits.sessions, options.now);
    this.now = options.now;
    this.clock = options.now >>> 0;
    this.segment = new Segment(transmit.memory.view, this.aliases);
    this.hash = new SipHash(options.key);
    const { mac, nodeMac = mac } = options;
    const macView = new DataView(mac.buffer, mac.byteOffset, 6);
    const nodeMacView = new DataView(nodeMac.buffer, nodeMac.byteOffset, 6);
    this.macHigh = macView.getUint16(0);
    this.macLow = macView.getUint32(2);
    this.nodeMacHigh = nodeMacView.getUint16(0);
    this.nodeMacLow = nodeMacView.getUint32(2);
    this.nodePort = options.nodeMac === undefined ? Port.wire : Port.nodes;
    const { forward } = options;
    if (forward !== undefined) {
      const counts = new ForwardCounts(forward.counts);
      this.forwarding = new Forwarding(this, new ForwardTables(forward.memory), counts);
      this.forwarding.ports = new ForwardPorts(options.virtualServers, this.numberOf);
    }
  }

  /** Makes the parts of the session table that only some farms need, and what depends on nodes. */
  makeTables(): void {
    const { servers, sessions, options } = this;
    this.mss = offeredMss(options.mtu - this.nodes.carryBytes);
    if (servers.hasIpv6) sessions.clients.makeRoom();
    if (sessions.streams !== undefined || !servers.keepAlive.includes(KeepAlive.migrate)) return;
    sessions.streams = new Streams(options.limits.sessions, options.heads);
    if (options.heads !== undefined) this.judged = openHeads(this, options.heads);
  }

  /** See `SessionTable.streams`. */
  get streams(): Streams | undefined {
    return this.sessions.streams;
  }

  setNow(now: number): void {
    this.now = now;
    this.clock = now >>> 0;
  }

  /** Bytes of the IP header of a session's packets. */
  ipBytesOf(slot: number): number {
    return this.servers.ipBytes[this.serverOf(slot)]!;
  }

  /** Slot of a session's virtual server. */
  serverOf(slot: number): number {
    return this.sessions.portServer(slot) & 0xffff;
  }

  /** Whether nothing is read of the session before its handoff. The server may speak first. */
  readsNothing(slot: number): boolean {
    return this.servers.protocol[this.serverOf(slot)] === Protocol.tcp;
  }

  /** How long a client has to send what is read before the handoff, in ms. */
  timeToRead(slot: number): number {
    return this.readsNothing(slot)
      ? this.servers.firstBytes[this.serverOf(slot)]!
      : this.options.timeouts.head;
  }

  /**
   * Our timestamp clock for a session (RFC 7323 section 5.4): 1 ms a tick, with an offset of its
   * own.
   */
  tsvalOf(slot: number): number {
    return seqAdd(this.sessions.tsOffset(slot), this.clock);
  }

  /** Reserves room for a frame of our own. Returns its offset, or -1, which is counted. */
  reserve(length: number): number {
    const frame = this.transmit.reserve(length);
    if (frame < 0) this.counters.count(Counter.drop_transmit_full);
    return frame;
  }

  /** Whether frames can be sent to the node now, that is, whether its MAC address is known. */
  reachable(node: number): boolean {
    return this.nodes.resolved[node] === 1;
  }

  /** The port on which frames to this node leave. */
  portTo(node: number): PortNumber {
    return node === this.nodes.local ? Port.local : this.nodePort;
  }

  /** Writes both MAC addresses of a frame to a node, with ours as the source. */
  addressTo(frame: number, node: number): void {
    const view = this.transmit.memory.view;
    writeMac(
      view,
      frame + ETHERNET.destination,
      this.nodes.macHigh[node]!,
      this.nodes.macLow[node]!,
    );
    const source = frame + ETHERNET.source;
    if (node === this.nodes.local) writeMac(view, source, this.macHigh, this.macLow);
    else writeMac(view, source, this.nodeMacHigh, this.nodeMacLow);
  }

  /** The number of our own address of this node's family. */
  ownTowards(node: number): number {
    return this.nodes.isIpv6[node] === 1 ? this.address6 : this.address;
  }

  /**
   * Notes the source MAC address of the current segment: frames to the session's client go there.
   */
  noteClientMac(slot: number): void {
    const { segment, sessions } = this;
    const source = segment.offset + ETHERNET.source;
    sessions.macHigh[slot] = segment.view.getUint16(source);
    sessions.macLow[slot] = segment.view.getUint32(source + 2);
  }

  /** Frees the room of a session's head. */
  releaseHead(slot: number): void {
    const room = this.sessions.head[slot]!;
    if (room < 0) return;
    this.shift(slot, 0);
    this.heads.release(room);
    this.sessions.head[slot] = -1;
  }

  /**
   * Puts the session's first byte `by` numbers before the client's: the node gets that much more
   * than the client has sent, so that both end at the same number. The session has a head.
   */
  shift(slot: number, by: number): void {
    const { sessions, heads } = this;
    const room = sessions.head[slot]!;
    const more = by - heads.shifted[room]!;
    if (more === 0) return;
    heads.shifted[room] = by;
    sessions.setClientIsn(slot, seqAdd(sessions.clientIsn(slot), -more));
  }

  /** The number of the client's first byte. */
  clientFirst(slot: number): number {
    const { sessions, heads } = this;
    const room = sessions.head[slot]!;
    return seqAdd(sessions.clientFirst(slot), room < 0 ? 0 : heads.shifted[room]!);
  }

  /** Counts a session among those that its node has. */
  attach(slot: number): void {
    const node = this.sessions.node(slot);
    this.states.active[node]! += 1;
    this.states.heldHere[node]! += 1;
  }

  /** The session leaves its node. */
  detach(slot: number): void {
    this.endActive(slot);
    this.endHeld(slot);
  }

  /** The session has ended: it is no load to its node any more. */
  private endActive(slot: number): void {
    const node = this.sessions.node(slot);
    if (node !== NO_NODE) this.states.active[node]! -= 1;
  }

  /** The session's record names its node no more. */
  private endHeld(slot: number): void {
    const node = this.sessions.node(slot);
    if (node !== NO_NODE) this.states.heldHere[node]! -= 1;
  }

  /** How long a session that passes may be silent, in ms. */
  idleLimit(slot: number): number {
    return idleLimit(this.sessions, slot, this.options.timeouts);
  }

  /**
   * Whether the client of a session that passes has sent FIN, and its node has not as far as we
   * know.
   */
  isHalfClosed(slot: number): boolean {
    return (this.sessions.flags(slot) & BOTH_FINS) === SessionFlag.clientFin;
  }

  /**
   * Called when another side of a session that passes has sent FIN, or when it begins to pass and
   * need not be recalled. Sets the timer, or ends the session.
   */
  waitForEnd(slot: number): void {
    this.releaseHead(slot);
    if ((this.sessions.flags(slot) & BOTH_FINS) === BOTH_FINS) {
      this.linger(slot, 'fin');
      return;
    }
    const wait = this.idleLimit(slot);
    this.timers.set(slot, this.now + (this.isHalfClosed(slot) ? Math.min(wait, ASK_MS) : wait));
  }

  /** Ends a session, but forwards its late packets for a while. */
  linger(slot: number, reason: CloseReason): void {
    const sessions = this.sessions;
    const state = sessions.state(slot);
    if (state < SessionState.handing || state === SessionState.lingering) return;
    this.releaseHead(slot);
    this.parking.endAll(slot);
    this.endActive(slot);
    sessions.setState(slot, SessionState.lingering);
    this.timers.set(slot, this.now + this.options.timeouts.linger);
    this.counters.count(CLOSE_COUNTERS[reason]);
    showLastRequest(this, slot);
    this.observer.closed?.(slot, reason, this.now);
  }

  /**
   * Ends a session whose node and client were reset. The balancer keeps it for a while without a
   * node, to reset the client again if it has missed that.
   */
  cut(slot: number, reason: CloseReason): void {
    const { sessions } = this;
    this.releaseHead(slot);
    this.parking.endAll(slot);
    this.counters.count(CLOSE_COUNTERS[reason]);
    showLastRequest(this, slot);
    // The observer still sees the node.
    this.observer.closed?.(slot, reason, this.now);
    this.detach(slot);
    sessions.setFlags(slot, sessions.flags(slot) & ~SessionFlag.adopted);
    sessions.setNode(slot, NO_NODE);
    sessions.setAnswer(slot, Answer.none);
    sessions.setState(slot, SessionState.lingering);
    this.timers.set(slot, this.now + this.options.timeouts.linger);
  }

  /** Whether `cut` has ended the session. One that was answered has the number of its answer. */
  isCut(slot: number): boolean {
    const { sessions } = this;
    return (
      sessions.state(slot) === SessionState.lingering &&
      sessions.node(slot) === NO_NODE &&
      sessions.answer(slot) === Answer.none
    );
  }

  /**
   * Records how far the client has got, from a segment that goes on to its node. Returns true for a
   * FIN that is in sequence and so counts. The balancer does not believe a number far from what it
   * has seen, nor a segment with such an acknowledgement: it may be forged. The node decides.
   */
  followClient(slot: number): boolean {
    const { sessions, segment } = this;
    if (!acknowledges(segment.flags)) return false;
    const { sequence, acknowledgement } = segment;
    const clientAck = sessions.clientAck(slot);
    if (!isPlausibleAck(acknowledgement, clientAck)) return false;
    if (seqAfter(acknowledgement, clientAck)) sessions.setClientAck(slot, acknowledgement);
    const before = sessions.receiveNext(slot);
    const end = seqAdd(sequence, segment.payloadLength);
    if (movesOn(end, before)) sessions.setReceiveNext(slot, end);
    if ((segment.flags & TcpFlag.fin) === 0) return false;
    const fin = sessions.has(slot, SessionFlag.clientFin);
    if (!finIsInSequence(sequence, end, before, sessions.receiveNext(slot), fin)) return false;
    sessions.setReceiveNext(slot, seqAdd(end, 1));
    sessions.raise(slot, SessionFlag.clientFin);
    return true;
  }

  /** HeadStep of a session that is being handed over; HeadStep.none of any other. */
  stepOf(slot: number): number {
    const room = this.sessions.head[slot]!;
    if (room < 0 || this.sessions.state(slot) !== SessionState.handing) return HeadStep.none;
    return this.heads.step[room]!;
  }

  /** Whether the client has acknowledged bytes of an answer. */
  hasAnswer(slot: number): boolean {
    return acknowledgesAnswer(this.sessions.clientAck(slot), this.sessions.serverFirst(slot));
  }

  /** Whether another engine of this balancer owns, or would own, a session with this key. */
  isOtherWorkers(client: number, portServer: number): boolean {
    const { worker, workers } = this.options.shard ?? ONLY_SHARD;
    return workers > 1 && sessionWorker(this.sessions.hash(client, portServer), workers) !== worker;
  }

  /**
   * Whether an earlier process has acknowledged bytes of a head that is being collected. They ended
   * with that process.
   */
  isHeadLost(slot: number): boolean {
    const { sessions } = this;
    return sessions.head[slot]! < 0 && sessions.receiveNext(slot) !== sessions.clientFirst(slot);
  }

  /** Removes a session at once. */
  remove(slot: number, reason: CloseReason): void {
    const sessions = this.sessions;
    const state = sessions.state(slot);
    this.timers.clear(slot);
    if (state === SessionState.lingering) this.endHeld(slot);
    else {
      this.releaseHead(slot);
      this.parking.endAll(slot);
      if (state === SessionState.handing || state === SessionState.passing) this.detach(slot);
      this.counters.count(CLOSE_COUNTERS[reason]);
      showLastRequest(this, slot);
      this.observer.closed?.(slot, reason, this.now);
    }
    sessions.remove(slot);
  }
}
