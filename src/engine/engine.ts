/**
 * The engine: (frames, now) in, frames out. It has no socket and no clock. A datapath feeds it and
 * sends what it builds, in real time or in the time of a capture file.
 *
 *                    +------------+  SYN     +-----------+
 *     receive ------>|            |--------->| handshake |--- established ---+
 *                    |   engine   |          +-----------+                   v
 *                    |  (find the |  data    +-----------+   head read  +---------+
 *                    |  session)  |--------->| collector |------------->| handoff |
 *                    |            |          +-----------+              +---------+
 *                    |            |  IXCP    +-----------+  confirmed,       ^
 *                    |            |--------->|  notices  |--refused, FIN ----+
 *                    |            |          +-----------+
 *                    |            |          +--------------+
 *                    |            |--------->| pass-through |--- to the node, new MAC addresses
 *                    +------------+          +--------------+
 */
import type { Counters } from '../base/counters.js';
import { type TimerHandler, TimerWheel } from '../base/timer-wheel.js';
import type { FrameSink, TransmitQueue } from '../datapath/datapath.js';
import type { Dispatcher } from '../directory/dispatcher.js';
import { Answers } from './answers/answers.js';
import { ClientWriter } from './client-writer.js';
import { Collector } from './collector.js';
import { Core } from './core.js';
import type { EngineFarm } from './farm.js';
import { ForwardPorts } from './forward/ports.js';
import { Choice } from './handoff/choice.js';
import { Confirmation } from './handoff/confirmation.js';
import { Handoff } from './handoff/handoff.js';
import { Inheritance } from './handoff/inheritance.js';
import { NodeWriter } from './handoff/node-writer.js';
import { Notices } from './handoff/notices.js';
import { Recall } from './handoff/recall.js';
import { HandoffSender } from './handoff/sender.js';
import { Handshake } from './handshake.js';
import { Following } from './moving/following.js';
import { Gathering } from './moving/gathering.js';
import { showLastRequest } from './moving/kernel-heads.js';
import { Leaving } from './moving/leaving.js';
import { Parking } from './moving/parking.js';
import type { NodeChange, NodeTable } from './node-table.js';
import type { EngineOptions, Observer, Timeouts } from './options.js';
import { PassThrough } from './pass-through.js';
import { Reception } from './reception.js';
import { Search } from './search/search.js';
import { Sweep } from './sweep.js';
import { KERNEL_EVENT, kernelEventKind } from './table/kernel-event.js';
import type { RecordReader } from './table/session-record.js';
import { SessionFlag, SessionState, type SessionTable } from './table/session-table.js';
import { VirtualServerTable } from './virtual-servers.js';

/** Another farm, ready to be put in place. */
export interface EngineChange {
  readonly nodes: NodeChange;
  readonly servers: VirtualServerTable;
  readonly forwardPorts: ForwardPorts;
  /** The slots whose virtual server leaves. */
  readonly replacedServers: readonly number[];
  readonly timeouts: Timeouts;
}

export class Engine implements FrameSink, TimerHandler {
  /** Ends the sessions of nodes in maintenance. */
  readonly sweep: Sweep;
  private readonly core: Core;
  private readonly toClient: ClientWriter;
  private readonly toNode: NodeWriter;
  private readonly handshake: Handshake;
  private readonly answers: Answers;
  private readonly collector: Collector;
  private readonly handoff: Handoff;
  private readonly confirmation: Confirmation;
  private readonly notices: Notices;
  private readonly passThrough: PassThrough;
  private readonly reception: Reception;
  private readonly recall: Recall;
  private readonly leaving: Leaving;
  private readonly gathering: Gathering;
  private readonly inheritance: Inheritance;
  private readonly search: Search;

  constructor(
    options: EngineOptions,
    nodes: NodeTable,
    dispatcher: Dispatcher,
    transmit: TransmitQueue,
    counters: Counters,
  ) {
    this.core = new Core(options, nodes, dispatcher, transmit, counters);
    const choice = new Choice(this.core);
    this.toClient = new ClientWriter(this.core);
    this.toNode = new NodeWriter(this.core);
    this.core.parking = new Parking(this.core, this.toNode);
    this.answers = new Answers(this.core, this.toClient);
    this.passThrough = new PassThrough(this.core, this.toNode);
    this.recall = new Recall(this.core, this.toClient, this.toNode, choice);
    this.inheritance = new Inheritance(this.core, this.toNode, this.answers);
    const following = new Following(this.core, this.toNode, this.passThrough);
    const sender = new HandoffSender(this.core, this.toNode);
    this.confirmation = new Confirmation(
      this.core,
      this.toClient,
      this.toNode,
      sender,
      this.recall,
      this.inheritance,
      following,
    );
    this.handoff = new Handoff(
      this.core,
      this.toClient,
      this.toNode,
      sender,
      this.recall,
      this.inheritance,
      choice,
      this.confirmation,
      this.answers,
    );
    this.handshake = new Handshake(this.core, this.toClient);
    this.search = new Search(this.core, this.handshake);
    this.leaving = new Leaving(this.core, this.toNode, this.handoff, following);
    this.collector = new Collector(
      this.core,
      this.toClient,
      this.handoff,
      this.confirmation,
      this.answers,
      following,
    );
    this.gathering = new Gathering(
      this.core,
      this.toClient,
      this.toNode,
      this.collector,
      following,
      this.leaving,
    );
    this.notices = new Notices(
      this.core,
      this.toNode,
      this.handoff,
      this.confirmation,
      this.inheritance,
      this.leaving,
      this.gathering,
      this.search,
    );
    this.sweep = new Sweep(this.core, this.toClient, this.toNode, this.handoff);
    this.reception = new Reception(this.core, {
      toClient: this.toClient,
      toNode: this.toNode,
      handshake: this.handshake,
      collector: this.collector,
      handoff: this.handoff,
      confirmation: this.confirmation,
      answers: this.answers,
      passThrough: this.passThrough,
      following,
      gathering: this.gathering,
      notices: this.notices,
      sweep: this.sweep,
      search: this.search,
    });
  }

  /** Read access for code that shows or checks sessions. Only the engine writes. */
  get sessions(): SessionTable {
    return this.core.sessions;
  }

  /** Bytes of memory for each session: the table and its timers. */
  get bytesPerSession(): number {
    return this.core.sessions.bytesPerSession + TimerWheel.bytesPerSlot;
  }

  /**
   * Whether the limit of half-open sessions is reached, so that SYNs are answered with cookies.
   */
  get stateless(): boolean {
    return this.handshake.stateless;
  }

  /**
   * How many more sessions may be half open. A datapath that answers SYNs itself must switch to
   * cookies before it has opened more than these.
   */
  get halfOpenRoom(): number {
    return this.handshake.room;
  }

  /** From now on this observer gets the events of sessions, in place of the one before. */
  setObserver(observer: Observer): void {
    this.core.observer = observer;
  }

  /**
   * Prepares the engine for another farm, and changes nothing yet.
   *
   * @throws BatonError BATON_IN_USE when a slot would get another address, or none, and its present
   *   owner is not retired or has sessions of this engine; BATON_CONFIG for a slot that does not
   *   exist
   */
  prepare(farm: EngineFarm): EngineChange {
    const { nodes, servers, sessions } = this.core;
    const next = new VirtualServerTable(farm.servers, this.core.numberOf);
    return {
      nodes: nodes.prepare(farm.nodes),
      servers: next,
      forwardPorts: new ForwardPorts(farm.servers, this.core.numberOf),
      replacedServers: servers.replaced(next, sessions.heldByServer),
      timeouts: farm.timeouts,
    };
  }

  /**
   * Puts a prepared farm in place, between two batches. The caller changes the dispatcher's
   * directory in the same turn: indexes of resources mean the new one from here on.
   */
  commit(change: EngineChange): void {
    const { core } = this;
    core.judged?.directoryChanged(core.clock);
    core.nodes.commit(change.nodes);
    for (const node of change.nodes.changed) core.objects.clearNode(node);
    for (const server of change.replacedServers) core.objects.clearServer(server);
    core.servers = change.servers;
    if (core.forwarding !== undefined) core.forwarding.ports = change.forwardPorts;
    core.makeTables();
    this.sweep.farmChanged();
    core.options.timeouts = change.timeouts;
    core.directory = (core.directory + 1) >>> 0;
  }

  /** Counts and shows what the kernel has done by itself, as far as that was not done yet. */
  settle(): void {
    this.core.judged?.settleAll(this.core.clock);
    this.core.parking.takeNodes();
  }

  /** Shows the session's last request to people, also if the kernel forwarded it. */
  showLastRequest(slot: number): void {
    showLastRequest(this.core, slot);
  }

  /** The slots that have a virtual server, in use or retired. */
  get serverSlots(): Uint16Array {
    return this.core.servers.slots;
  }

  /**
   * Must be called before the first frame. An engine of an earlier process may have answered SYNs:
   * the first segments of those clients open sessions here. It may also have had sessions: nodes
   * are asked for them, also those that have not reported yet.
   */
  begin(now: number): void {
    this.core.setNow(now);
    this.handshake.cookieSent(this.core.clock);
    this.search.begin();
  }

  /**
   * A SYN was answered that this engine may not know: by the datapath, or by an engine of an
   * earlier process.
   *
   * @param clock the last time when that happened: ms on the engine's clock, an unsigned 32-bit
   *   number
   */
  cookieSent(clock: number): void {
    this.handshake.cookieSent(clock);
  }

  /**
   * Handles an event of the XDP program. It answered a SYN: this opens the half-open session,
   * unless a session that has not ended has its key. Or it forwarded or acknowledged a client's
   * FIN, or checked a node's notice. Events must be handled before the frames that arrived after
   * them: the engine answers an ACK of an unknown session with RST.
   *
   * @param words holds an event of KERNEL_EVENT_WORDS words at `at` (kernel-event.ts)
   */
  kernelEvent(words: Uint32Array, at: number, now: number): void {
    this.core.setNow(now);
    switch (kernelEventKind(words, at)) {
      case 'syn':
        this.handshake.synAnswered(words, at);
        return;
      case 'fin':
        this.finTaken(words, at);
        return;
      case 'notice':
        this.notices.receiveChecked(words, at);
    }
  }

  private finTaken(words: Uint32Array, at: number): void {
    const { sessions } = this.core;
    const slot = sessions.find(
      words[at + KERNEL_EVENT.client]!,
      words[at + KERNEL_EVENT.portServer]!,
    );
    if (slot < 0 || sessions.nonce(slot) !== words[at + KERNEL_EVENT.serverIsn]!) return;
    sessions.raise(slot, SessionFlag.clientFin);
    const state = sessions.state(slot);
    // Before the node has confirmed, the kernel forwards a FIN only if it acknowledges the answer.
    if (state === SessionState.handing) this.confirmation.confirmedByClient(slot);
    else if (state === SessionState.passing) this.core.waitForEnd(slot);
    else if (state === SessionState.answering) this.answers.closed(slot);
  }

  /**
   * Takes over a session from the table of an earlier process, if a node has the session, or it was
   * being handed over to one, or the balancer was answering it. Other sessions, and those of
   * another engine thread, are skipped. A session that was taken over before is brought up to date,
   * because the earlier XDP program may have forwarded for it meanwhile. Returns false when the
   * table is full.
   *
   * @param old records of the earlier process, on the clock of this engine
   * @param slot of the session in `old`
   * @param node index in this engine of the node that has the session; -1 if there is none
   * @param server index in this engine of its virtual server
   */
  takeOver(old: RecordReader, slot: number, node: number, server: number, now: number): boolean {
    this.core.setNow(now);
    return this.inheritance.takeOver(old, slot, node, server);
  }

  /**
   * Records a session of an earlier process that cannot continue: that process had acknowledged
   * bytes of the head, and they ended with it. The client gets an RST when it sends more. Other
   * sessions are skipped. Parameters are those of `takeOver`. Must be called after all other
   * sessions were taken over, because it may use the last slot.
   */
  takeLoss(old: RecordReader, slot: number, server: number, now: number): void {
    this.core.setNow(now);
    this.inheritance.takeLoss(old, slot, server);
  }

  receive(offset: number, length: number, flags: number, now: number): void {
    this.reception.receive(offset, length, flags, now);
  }

  tick(now: number): void {
    this.core.setNow(now);
    this.core.batchHandoffs.clear();
    this.core.timers.advance(now, this);
    this.core.judged?.tick(this.core.clock);
    this.core.parking.tick();
    this.search.tick();
    this.sweep.tick();
  }

  /** A session's timer has fired: the event that the session waited for did not happen. */
  expired(slot: number): void {
    const { sessions } = this.core;
    switch (sessions.state(slot)) {
      case SessionState.synReceived:
        this.handshake.expired(slot);
        return;
      case SessionState.collecting:
        this.collector.expired(slot);
        return;
      case SessionState.handing:
        if (this.leaving.isAsking(slot)) this.leaving.expired(slot);
        else if (this.gathering.concerns(slot)) this.gathering.expired(slot);
        else this.handoff.expired(slot);
        return;
      case SessionState.passing:
        if (sessions.head[slot]! >= 0) {
          this.recall.answerOverdue(slot);
          return;
        }
        if (this.core.parking.isForsaken(slot)) this.handoff.resetIdle(slot);
        else this.passThrough.expired(slot);
        return;
      case SessionState.answering:
        this.answers.expired(slot);
        return;
      default:
        this.passThrough.lingered(slot);
    }
  }
}
