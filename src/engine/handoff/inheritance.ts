/**
 * Sessions of an earlier process. Those that a node has simply go on. Those that were being handed
 * over are in doubt: the record was written before the handoff was sent, and the head ended with
 * that process.
 *
 *     in doubt --- the node answers a question, or the client has an answer ---> passing
 *         |    --- the client sends its head again: an ADOPT to the same node, which knows
 *         |        whether it has the session
 *         |
 *         +------- the node refuses, or answers no question
 *                      --- the head comes again ----------> collecting
 *                      --- the client sends other bytes --> lost: RST
 *
 * Until then nothing goes to the node in plain form. A client sends again only bytes that were
 * never acknowledged, so a head that begins again is whole.
 */
import { Counter } from '../../base/counters.js';
import { Protocol } from '../../directory/dispatcher.js';
import { IPV6_HEADER_BYTES } from '../../wire/ipv6.js';
import { IxpType } from '../../wire/ixp.js';
import { TcpFlag } from '../../wire/tcp.js';
import type { Answers } from '../answers/answers.js';
import type { Core } from '../core.js';
import type { RecordReader } from '../table/session-record.js';
import { SessionFlag, SessionState } from '../table/session-table.js';
import type { NodeWriter } from './node-writer.js';

/** Questions to a node before it counts as one that does not have the session. */
const QUESTIONS = 5;

const FINS = SessionFlag.clientFin | SessionFlag.nodeFin;

export class Inheritance {
  private readonly core: Core;
  private readonly toNode: NodeWriter;
  private readonly answers: Answers;

  constructor(core: Core, toNode: NodeWriter, answers: Answers) {
    this.core = core;
    this.answers = answers;
    this.toNode = toNode;
  }

  /** See `Engine.takeOver`. */
  takeOver(old: RecordReader, slot: number, node: number, server: number): boolean {
    const { core } = this;
    const { sessions } = core;
    const state = old.state(slot);
    if (state === SessionState.answering) return this.takeAnswered(old, slot, server);
    if (state !== SessionState.handing && state !== SessionState.passing) return true;
    if (node < 0) return true;
    const client = old.client(slot);
    const key = keyAt(old, slot, server);
    if (core.isOtherWorkers(client, key)) return true;
    const known = sessions.find(client, key);
    if (known >= 0) {
      if (sessions.nonce(known) === old.nonce(slot)) this.catchUp(old, slot, known, node);
      return true;
    }
    const taken = this.copy(old, slot, client, key);
    if (taken < 0) return false;
    sessions.setNode(taken, node);
    core.attach(taken);
    core.counters.count(Counter.taken_over);
    sessions.setState(taken, SessionState.handing);
    if (state === SessionState.passing || this.isProven(taken)) this.pass(taken);
    else core.timers.set(taken, core.now + core.options.timeouts.handoff);
    return true;
  }

  /**
   * A session that the earlier process was answering. If this one cannot make the same answer, the
   * client may send its head again: it does so if it has nothing of the answer.
   */
  private takeAnswered(old: RecordReader, slot: number, server: number): boolean {
    const { core } = this;
    const { sessions } = core;
    const client = old.client(slot);
    const key = keyAt(old, slot, server);
    if (core.isOtherWorkers(client, key) || sessions.find(client, key) >= 0) return true;
    const taken = this.copy(old, slot, client, key);
    if (taken < 0) return false;
    core.counters.count(Counter.taken_over);
    if (!this.answers.resume(taken, old.answer(slot))) {
      sessions.setFlags(taken, sessions.flags(taken) & ~FINS);
      this.waitForHead(taken);
    }
    return true;
  }

  /** See `Engine.takeLoss`. */
  takeLoss(old: RecordReader, slot: number, server: number): void {
    const { core } = this;
    const { sessions } = core;
    if (old.state(slot) !== SessionState.collecting) return;
    // Nothing was acknowledged: the client sends all of it again, and that opens the session. A
    // client that waits for the server to speak sends nothing.
    const waits = core.servers.protocol[server] === Protocol.tcp;
    if (old.receiveNext(slot) === old.clientFirst(slot) && !waits) return;
    const client = old.client(slot);
    const key = keyAt(old, slot, server);
    if (core.isOtherWorkers(client, key) || sessions.find(client, key) >= 0) return;
    const taken = this.copy(old, slot, client, key);
    if (taken >= 0) this.waitForHead(taken);
  }

  /** Bytes of the head ended with the earlier process (Core.isHeadLost). */
  private waitForHead(slot: number): void {
    const { sessions, timers, now } = this.core;
    sessions.setState(slot, SessionState.collecting);
    timers.set(slot, now + this.core.timeToRead(slot));
  }

  /**
   * Whether it is unknown if the node has this session of an earlier process. A session that we
   * hand over ourselves has a head.
   */
  inDoubt(slot: number): boolean {
    const { sessions } = this.core;
    return sessions.state(slot) === SessionState.handing && sessions.head[slot]! < 0;
  }

  /**
   * Bytes, or a FIN, of the head of a session in doubt: the client sends again what was not
   * acknowledged.
   */
  forwardRepeatedHead(slot: number): void {
    const { sessions, segment, timers, options, now } = this.core;
    const isFirst = segment.sequence === sessions.clientFirst(slot);
    if (!this.toNode.wrap(slot, isFirst ? IxpType.adopt : IxpType.segment) || !isFirst) return;
    // From here on an answer can be expected.
    sessions.setTries(slot, 0);
    timers.set(slot, now + options.timeouts.handoff);
  }

  /**
   * The timer of a session in doubt: asks the node. Returns false when it has been asked often
   * enough.
   */
  ask(slot: number): boolean {
    const { core } = this;
    const { sessions, timers, counters, options, now } = core;
    const node = sessions.node(slot);
    const tries = sessions.tries(slot);
    if (tries >= QUESTIONS) return false;
    timers.set(slot, now + options.timeouts.handoff);
    if (tries > 0) core.observer.unconfirmed?.(slot, node, now);
    if (!core.reachable(node)) return true;
    sessions.setTries(slot, tries + 1);
    // An ACK of a byte that a socket already has, so it answers. Without a byte of the client, that
    // is the one before the first, as in a keep-alive probe (RFC 9293 section 3.8.4). Without a
    // socket, this opens nothing.
    const at = sessions.handedTo(slot) === sessions.clientFirst(slot) ? -1 : 0;
    if (this.toNode.sendKept(slot, IxpType.segment, at, 0, TcpFlag.ack))
      counters.count(Counter.node_asked);
    return true;
  }

  /**
   * The node does not have the session in doubt. If the client sends the head again, it is
   * collected again.
   */
  collectAgain(slot: number): void {
    const { core } = this;
    const { sessions, timers, now } = core;
    core.detach(slot);
    sessions.setFlags(slot, sessions.flags(slot) & ~FINS);
    sessions.setTries(slot, 0);
    sessions.setState(slot, SessionState.collecting);
    timers.set(slot, now + core.timeToRead(slot));
  }

  /** A half-open slot with the contents of the record; -1 when the table is full. */
  private copy(old: RecordReader, from: number, client: number, key: number): number {
    const { sessions, observer, clock, now } = this.core;
    const slot = sessions.insert(client, key, clock);
    if (slot < 0) return slot;
    sessions.copyFrom(old, from, slot);
    if (this.core.ipBytesOf(slot) === IPV6_HEADER_BYTES)
      sessions.clients.copy(slot, old.addresses, from);
    // Where the client was in its stream ended with that process: the session stays with its node.
    sessions.setFlags(slot, sessions.flags(slot) & ~SessionFlag.watched);
    // The client's next segment will tell its MAC address.
    sessions.macHigh[slot] = 0;
    sessions.macLow[slot] = 0;
    observer.opened?.(slot, now);
    return slot;
  }

  /** Applies what the earlier XDP program did meanwhile to a session that was taken over. */
  private catchUp(old: RecordReader, from: number, slot: number, node: number): void {
    const { core } = this;
    const { sessions } = core;
    const state = sessions.state(slot);
    if (state !== SessionState.handing && state !== SessionState.passing) return;
    // That program has brought the session to another node.
    if (state === SessionState.passing && sessions.node(slot) !== node) {
      core.detach(slot);
      sessions.setNode(slot, node);
      core.attach(slot);
    }
    const ended = sessions.catchUp(old, from, slot, FINS);
    if (this.inDoubt(slot)) {
      if (this.isProven(slot)) this.pass(slot);
    } else if (ended && state === SessionState.passing) core.waitForEnd(slot);
  }

  /** Whether the record proves that the node has the session, although no notice was received. */
  private isProven(slot: number): boolean {
    const { sessions } = this.core;
    if (sessions.has(slot, SessionFlag.adopted | SessionFlag.nodeFin)) return true;
    return this.core.hasAnswer(slot) && !sessions.has(slot, SessionFlag.moved);
  }

  private pass(slot: number): void {
    const { core } = this;
    core.sessions.raise(slot, SessionFlag.adopted);
    core.sessions.setState(slot, SessionState.passing);
    core.waitForEnd(slot);
  }
}

/** The key of an earlier process's session whose virtual server has the index `server` here. */
function keyAt(old: RecordReader, slot: number, server: number): number {
  return ((old.portServer(slot) & 0xffff_0000) | server) >>> 0;
}
