/**
 * Takes a session back from a node whose web server stands still. The kernel there has taken the
 * handoff and acknowledged the request, so nothing looks wrong; but nobody reads.
 *
 *     node confirms -----> passing, the head is kept
 *     timeouts.answer ---> no answer: RELEASE to the node, which knows whether anybody has read the request
 *     RELEASED ----------> it had not been read, and its socket is gone: the next holder gets the session
 *     ADOPTED, or silence  it stays, and the head is given up
 *
 * A request is given to a second server only when asking twice does no harm
 * (`Dispatcher.repeatable`): the first server may still read it from the removed socket when it
 * goes on.
 */
import { Counter } from '../../base/counters.js';
import { IxpType } from '../../wire/ixp.js';
import { TcpFlag } from '../../wire/tcp.js';
import type { Core } from '../core.js';
import { LOCAL_NODE } from '../node-table.js';
import { SessionFlag, SessionState } from '../table/session-table.js';
import type { NodeWriter } from './node-writer.js';

export class Recall {
  private readonly core: Core;
  private readonly toNode: NodeWriter;

  constructor(core: Core, toNode: NodeWriter) {
    this.core = core;
    this.toNode = toNode;
  }

  /**
   * A node has confirmed the whole head of a session that is about to pass. True when the head is
   * kept, and a timer set for the answer; false when nothing more is to be done for it.
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

  /** The timer of a session that passes, and whose head is kept. */
  answerOverdue(slot: number): void {
    const { core } = this;
    const { sessions } = core;
    const node = sessions.node(slot);
    if (!this.isUnanswered(slot)) {
      // The client may have sent more without an answer; but what the node has not sent, it has not
      // acknowledged.
      if (core.hasAnswer(slot)) core.states.serverAnswered(node, core.serverOf(slot));
      core.waitForEnd(slot);
      return;
    }
    if (!core.reachable(node) || !this.hasOtherHolder(slot)) {
      core.waitForEnd(slot);
      return;
    }
    // Nothing may reach the old node in plain form from here on: its socket may be gone.
    sessions.setState(slot, SessionState.handing);
    sessions.setTries(slot, 0);
    this.ask(slot);
  }

  /** Whether a session that is handed over waits for the answer to RELEASE. */
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
   * Whether the head that is kept is all that the client has sent, and neither side has said more.
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
   * Whether a node other than those that were tried takes the session, and is no last choice
   * itself.
   */
  private hasOtherHolder(slot: number): boolean {
    const { sessions, dispatcher, nodes, now } = this.core;
    const server = this.core.serverOf(slot);
    const flags = sessions.flags(slot);
    const node = dispatcher.pick(
      sessions.resource[slot]!,
      sessions.tried[slot]!,
      server,
      flags,
      now,
    );
    return node >= 0 && nodes.takesHandoffs(node, server, flags, now);
  }
}
