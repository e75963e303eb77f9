/**
 * Recalls a session from a node whose web server stands still. The kernel there has taken the
 * handoff and acknowledged the request, so nothing looks wrong. But no process reads the request.
 *
 *     node confirms -----> passing, the head is kept
 *     timeouts.answer ---> no answer: RELEASE to the node, which knows whether its server has
 *                          read the request
 *     RELEASED ----------> the server had not, and the socket is gone: the next holder gets the
 *                          session
 *     ADOPTED, or silence  the session stays, and the head is given up
 *
 * A request goes to a second server only if repeating it does no harm (`Dispatcher.repeatable`):
 * the first server may still read it from the removed socket when it goes on.
 */
import { Counter } from '../../base/counters.js';
import { IxpType } from '../../wire/ixp.js';
import { TcpFlag } from '../../wire/tcp.js';
import type { Core } from '../core.js';
import { LOCAL_NODE } from '../node-table.js';
import { SessionFlag, SessionState } from '../table/session-table.js';
import type { Choice } from './choice.js';
import type { NodeWriter } from './node-writer.js';

export class Recall {
  private readonly core: Core;
  private readonly toNode: NodeWriter;
  private readonly choice: Choice;

  constructor(core: Core, toNode: NodeWriter, choice: Choice) {
    this.core = core;
    this.toNode = toNode;
    this.choice = choice;
  }

  /**
   * A node has confirmed the whole head of a session that is about to pass. Returns true if the
   * head is kept and a timer is set for the answer, false if nothing more is to be done.
   */
  keepsHead(slot: number): boolean {
    const { sessions, heads, states, timers, options, now } = this.core;
    const room = sessions.head[slot]!;
    const node = sessions.node(slot);
    if (node === LOCAL_NODE || room < 0 || heads.repeatable[room] === 0 || this.isAsking(slot))
      return false;
    if (!heads.mostlyFree || !states.canRelease(node) || !this.isUnanswered(slot)) return false;
    sessions.nodeAck[slot] = sessions.handedTo(slot);
    timers.set(slot, now + options.timeouts.answer);
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
    if (!core.reachable(node) || !this.hasOtherHolder(slot)) {
      core.waitForEnd(slot);
      return;
    }
    // From here on nothing may reach the old node in plain form: its socket may be gone.
    sessions.setState(slot, SessionState.handing);
    sessions.setTries(slot, 0);
    this.ask(slot);
  }

  /** Whether a session that is being handed over waits for the answer to RELEASE. */
  isAsking(slot: number): boolean {
    const { sessions } = this.core;
    return (
      sessions.state(slot) === SessionState.handing &&
      sessions.has(slot, SessionFlag.adopted) &&
      sessions.nodeAck[slot] === sessions.handedTo(slot)
    );
  }

  /** The node did not answer RELEASE in time. */
  expired(slot: number): void {
    const { core } = this;
    const { sessions } = core;
    if (this.isUnanswered(slot) && sessions.tries(slot) < core.options.limits.handoffTries) {
      this.ask(slot);
      return;
    }
    sessions.setState(slot, SessionState.passing);
    core.waitForEnd(slot);
  }

  private ask(slot: number): void {
    const { sessions, timers, counters, options, now } = this.core;
    sessions.setTries(slot, sessions.tries(slot) + 1);
    timers.set(slot, now + options.timeouts.handoff);
    if (this.toNode.sendKept(slot, IxpType.release, 0, 0, TcpFlag.ack))
      counters.count(Counter.unanswered_asked);
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
