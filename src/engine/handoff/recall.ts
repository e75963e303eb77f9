/**
 * Takes a session back from a node that has confirmed, while the client has no byte of the answer
 * and the head is still kept. The next holder gets the request then. Two nodes must never answer
 * one client, so one of two proofs is needed:
 *
 *     the node sent nothing:   it gives the session back (RELEASED), or its socket was reset and
 *                              it has told only us (a held-back reset)
 *     the client takes nothing
 *     of what the node sends:  the client is fenced (fence.ts)
 *
 *     node confirms -----> passing, the head is kept
 *     timeouts.answer ---> no answer: RELEASE to the node, which knows whether its server has
 *                          read the request
 *         RELEASED ------> the next holder gets the session
 *         ADOPTED -------> the server works on it: passing; asked again later
 *         silence -------> the client is fenced, then the next holder gets the session
 *     a held-back reset -> the next holder gets the session
 *     maintenance -------> the client is fenced, then the next holder gets the session
 *
 * A request goes to a second server only if repeating it does no harm (`HeadStore.repeatable`): the
 * first server may have read it.
 */
import { Counter } from '../../base/counters.js';
import { NodeCounter } from '../../base/object-counters.js';
import { IxcpFlag } from '../../wire/ixcp.js';
import { IxpType } from '../../wire/ixp.js';
import { TcpFlag } from '../../wire/tcp.js';
import type { ClientWriter } from '../client-writer.js';
import type { Core } from '../core.js';
import { HeadStep } from '../head-store.js';
import { SessionFlag, SessionState } from '../table/session-table.js';
import type { Choice } from './choice.js';
import { Fence } from './fence.js';
import type { NodeWriter } from './node-writer.js';

/** The wait for an answer doubles with each question, this many times at most. */
const MOST_DOUBLINGS = 3;

export class Recall {
  private readonly core: Core;
  private readonly toNode: NodeWriter;
  private readonly choice: Choice;
  private readonly fence: Fence;

  constructor(core: Core, toClient: ClientWriter, toNode: NodeWriter, choice: Choice) {
    this.core = core;
    this.toNode = toNode;
    this.choice = choice;
    this.fence = new Fence(core, toClient);
  }

  /**
   * A node has confirmed the whole head of a session that is about to pass, or it has answered a
   * question. Returns true if the head is kept and a timer is set for the answer, false if nothing
   * more is to be done.
   */
  keepsHead(slot: number): boolean {
    const { sessions, heads, states } = this.core;
    const room = sessions.head[slot]!;
    const node = sessions.node(slot);
    if (room < 0 || heads.repeatable[room] === 0) return false;
    if (!this.isRecalling(slot) && !heads.mostlyFree) return false;
    if (!states.can(node, IxcpFlag.canRelease) || !this.isUnanswered(slot)) return false;
    this.waitForAnswer(slot);
    return true;
  }

  /** The timer of a session that passes and whose head is kept. */
  answerOverdue(slot: number): void {
    const { core } = this;
    const { sessions } = core;
    const node = sessions.node(slot);
    if (!this.isUnanswered(slot)) {
      // The client may have sent more without an answer. But it cannot have acknowledged what the
      // node has not sent.
      if (core.hasAnswer(slot)) core.states.serverAnswered(node, core.serverOf(slot));
      core.waitForEnd(slot);
      return;
    }
    if (!this.hasOtherHolder(slot)) {
      this.waitForAnswer(slot);
      return;
    }
    this.takeFromNode(slot);
    if (core.reachable(node)) this.ask(slot);
    else this.silent(slot);
  }

  /** Whether a session that is being handed over waits for a proof, of its node or its client. */
  isRecalling(slot: number): boolean {
    const step = this.core.stepOf(slot);
    return step === HeadStep.asking || step === HeadStep.fencing;
  }

  /** Whether it waits for the client's proof. The node does not count any more. */
  isFencing(slot: number): boolean {
    return this.core.stepOf(slot) === HeadStep.fencing;
  }

  /** No proof has come in time. */
  expired(slot: number): void {
    const { sessions, options } = this.core;
    const again = this.isUnanswered(slot) && sessions.tries(slot) < options.limits.handoffTries;
    if (this.isFencing(slot)) {
      if (again) this.sendFence(slot);
      else this.giveUp(slot);
    } else if (again) this.ask(slot);
    else if (this.isUnanswered(slot)) this.silent(slot);
    else this.giveUp(slot);
  }

  /**
   * The current segment is of the client of a session that is being fenced. Returns whether the
   * next node may have the session.
   */
  isFenced(slot: number): boolean {
    return this.fence.isProven(slot);
  }

  /**
   * The session's node is to get nothing any more. Returns whether the session can go to the next
   * holder; that begins then.
   */
  leave(slot: number): boolean {
    const { core, fence } = this;
    const { sessions, heads } = core;
    if (this.isRecalling(slot)) {
      if (!this.isFencing(slot) && fence.isPossible(slot)) this.beginFence(slot);
      return true;
    }
    const room = sessions.head[slot]!;
    if (sessions.state(slot) !== SessionState.passing || room < 0) return false;
    if (heads.repeatable[room] === 0 || !fence.isPossible(slot)) return false;
    if (!this.isUnanswered(slot) || !this.hasOtherHolder(slot)) return false;
    this.takeFromNode(slot);
    this.beginFence(slot);
    return true;
  }

  /**
   * Whether the session can go to the next holder at once: its node has sent nothing and has no
   * socket of it any more.
   */
  isHeld(slot: number): boolean {
    const { sessions, heads } = this.core;
    const room = sessions.head[slot]!;
    return room >= 0 && heads.repeatable[room] === 1 && this.isUnanswered(slot);
  }

  /** Prepares a session for the next holder. `Handoff` must choose one in the same turn. */
  takeBack(slot: number): void {
    const { sessions, heads } = this.core;
    const node = sessions.node(slot);
    if (sessions.state(slot) === SessionState.passing) this.takeFromNode(slot);
    heads.step[sessions.head[slot]!] = HeadStep.none;
    heads.asked[sessions.head[slot]!] = 0;
    sessions.setFlags(slot, sessions.flags(slot) & ~SessionFlag.adopted);
    this.core.objects.countNode(node, NodeCounter.taken_back);
  }

  /** From here on nothing may reach the old node in plain form: its socket may be gone. */
  private takeFromNode(slot: number): void {
    const { sessions } = this.core;
    sessions.setState(slot, SessionState.handing);
    sessions.setTries(slot, 0);
  }

  /** Sets the timer of a session whose head is kept. */
  private waitForAnswer(slot: number): void {
    const { sessions, heads, timers, options, now } = this.core;
    const room = sessions.head[slot]!;
    heads.step[room] = HeadStep.none;
    timers.set(slot, now + options.timeouts.answer * 2 ** heads.asked[room]!);
  }

  private ask(slot: number): void {
    const { sessions, heads, timers, counters, options, now } = this.core;
    const room = sessions.head[slot]!;
    if (heads.step[room] === HeadStep.none)
      heads.asked[room] = Math.min(MOST_DOUBLINGS, heads.asked[room]! + 1);
    heads.step[room] = HeadStep.asking;
    sessions.setTries(slot, sessions.tries(slot) + 1);
    timers.set(slot, now + options.timeouts.handoff);
    if (this.toNode.sendKept(slot, IxpType.release, 0, 0, TcpFlag.ack))
      counters.count(Counter.unanswered_asked);
  }

  /** The node of a session does not answer, although it has confirmed. */
  private silent(slot: number): void {
    const { core } = this;
    const node = core.sessions.node(slot);
    core.states.handoffTimedOut(node, core.now);
    core.objects.countNode(node, NodeCounter.silent);
    core.observer.silent?.(slot, node, core.now);
    if (this.fence.isPossible(slot) && this.hasOtherHolder(slot)) this.beginFence(slot);
    else {
      // The node may have been cut off from us alone, and the client may get its answer.
      core.sessions.setState(slot, SessionState.passing);
      this.waitForAnswer(slot);
    }
  }

  private beginFence(slot: number): void {
    const { sessions, heads, counters } = this.core;
    heads.step[sessions.head[slot]!] = HeadStep.fencing;
    sessions.setTries(slot, 0);
    counters.count(Counter.fenced);
    // If the node hears this, it stops. The fence does not depend on it.
    this.toNode.resetNode(slot, sessions.node(slot), sessions.handedTo(slot));
    this.fence.raise(slot);
    this.sendFence(slot);
  }

  private sendFence(slot: number): void {
    const { sessions, timers, options, now } = this.core;
    sessions.setTries(slot, sessions.tries(slot) + 1);
    timers.set(slot, now + options.timeouts.handoff);
    this.fence.send(slot);
  }

  /** The session stays with its node, and the head is given up. */
  private giveUp(slot: number): void {
    this.core.sessions.setState(slot, SessionState.passing);
    this.core.waitForEnd(slot);
  }

  /**
   * Whether the client has sent nothing but the head that is kept, and the node nothing at all.
   */
  private isUnanswered(slot: number): boolean {
    const { sessions } = this.core;
    return (
      !this.core.hasAnswer(slot) &&
      !sessions.has(slot, SessionFlag.clientFin | SessionFlag.nodeFin | SessionFlag.moved) &&
      sessions.receiveNext(slot) === sessions.handedTo(slot)
    );
  }

  /**
   * Whether there is a node that was not tried yet, takes the session, and is not itself a last
   * choice.
   */
  private hasOtherHolder(slot: number): boolean {
    const { sessions, nodes, now } = this.core;
    const node = this.choice.next(slot);
    if (node < 0) return false;
    return nodes.takesHandoffs(node, this.core.serverOf(slot), sessions.flags(slot), now);
  }
}
