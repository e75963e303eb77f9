/**
 * Moves a session to another holder between two requests. The whole later head is in the session's
 * room, and its node must let the session go first: only the node knows whether its answers have
 * ended where the client's acknowledgement is (docs/ixp.md, "Moving on").
 *
 *     PARK to the node --- PARKED -----> to the next holder, as for a first request: RESUME if a
 *                     |                  socket waits there (parking.ts), else ADOPT
 *                     \--- REFUSED ----> the request goes where the last one went
 *                     \--- silence ----> the same: nobody else knows where its answer ends
 *     ENDED has come for this place ---> as PARKED: the node need not be asked
 *
 * A node that cannot keep the socket gets LEAVE in place of PARK, and ends it. One that should not,
 * because it drains, gets LEAVE behind PARKED.
 */
import { Counter } from '../../base/counters.js';
import { Pin, Verdict } from '../../directory/dispatcher.js';
import { IxcpFlag, IxcpReason } from '../../wire/ixcp.js';
import { IxpType } from '../../wire/ixp.js';
import { seqAdd } from '../../wire/seq.js';
import type { Core } from '../core.js';
import type { Handoff } from '../handoff/handoff.js';
import type { NodeWriter } from '../handoff/node-writer.js';
import { HeadStep } from '../head-store.js';
import { SessionFlag, SessionState } from '../table/session-table.js';
import type { Following } from './following.js';
import { Stay } from './pins.js';

export class Leaving {
  private readonly core: Core;
  private readonly toNode: NodeWriter;
  private readonly handoff: Handoff;
  private readonly following: Following;

  constructor(core: Core, toNode: NodeWriter, handoff: Handoff, following: Following) {
    this.core = core;
    this.toNode = toNode;
    this.handoff = handoff;
    this.following = following;
  }

  /** The head in the room of the session asks for content that its node does not serve. */
  begin(slot: number): void {
    const { sessions, heads } = this.core;
    heads.step[sessions.head[slot]!] = HeadStep.leaving;
    sessions.setTries(slot, 0);
    this.bound(slot);
    if (this.isParked(slot)) this.left(slot, true);
    else this.ask(slot);
  }

  /** More bytes of the client have come into the room. */
  extend(slot: number): void {
    this.bound(slot);
    this.inspectRoom(slot);
  }

  /** Whether the session waits for its node to let it go. */
  isAsking(slot: number): boolean {
    return this.core.stepOf(slot) === HeadStep.leaving;
  }

  /** The node did not answer in time. */
  expired(slot: number): void {
    const { core } = this;
    if (core.sessions.tries(slot) < core.options.limits.handoffTries) {
      this.ask(slot);
      return;
    }
    const node = core.sessions.node(slot);
    core.counters.count(Counter.moves_silent);
    core.states.handoffTimedOut(node, core.now);
    core.observer.silent?.(slot, node, core.now);
    // Only the node knows whether its last answer has ended. Another node's answer behind half of
    // it would be worse than none.
    this.stay(slot, false);
  }

  /** The node has said that the session can leave it here, before it was asked. */
  private isParked(slot: number): boolean {
    const { sessions, streams } = this.core;
    return (
      streams!.isEnded[slot] === 1 &&
      streams!.endedAnswers[slot] === (streams!.requests[slot]! & 0xffff) &&
      streams!.endedNext[slot] === sessions.clientFirst(slot) &&
      streams!.endedAt[slot] === sessions.serverFirst(slot)
    );
  }

  /**
   * The node has let the session go, and sends nothing to the client any more.
   * @param keeps whether it keeps its socket
   */
  left(slot: number, keeps: boolean): void {
    const { core } = this;
    const { sessions, heads, counters } = core;
    const node = sessions.node(slot);
    if (keeps && core.parking.parks(node)) core.parking.remember(slot, node);
    else if (keeps) core.parking.leave(slot, node);
    counters.count(Counter.moved);
    core.streams!.moves[slot]! += 1;
    core.streams!.unproven[slot] = 0;
    heads.step[sessions.head[slot]!] = HeadStep.none;
    sessions.setFlags(slot, sessions.flags(slot) & ~SessionFlag.adopted);
    this.handoff.goOn(slot);
  }

  /** The node does not let the session go. @param reason IxcpReason */
  refused(slot: number, reason: number): void {
    this.core.counters.count(Counter.moves_refused);
    if (reason === IxcpReason.unfollowed || reason === IxcpReason.unknownSession)
      this.following.pin(slot, Stay.unfollowed);
    this.stay(slot);
  }

  /**
   * The session's node gets what is in the room, as the rest of what it has.
   * @param isAlive false: the node was silent, so the engine sends it again until the node confirms
   */
  stay(slot: number, isAlive = true): void {
    const { core } = this;
    if (core.streams!.requests[slot] === 0) {
      this.again(slot);
      return;
    }
    const { sessions, heads } = core;
    const room = sessions.head[slot]!;
    heads.step[room] = HeadStep.none;
    // An answer may be under way there, and another node's must not come behind half of it.
    heads.repeatable[room] = 0;
    // Only segments outside of the head store can say that an answer has no body.
    if (heads.hasNoAnswerBody[room] === 1) this.following.pin(slot, Stay.unfollowed);
    core.streams!.requests[slot]! += 1;
    sessions.setTries(slot, 0);
    this.bound(slot);
    this.handoff.sendOn(slot);
    if (!isAlive || core.streams!.unproven[slot] === 0) return;
    // Nothing in the room was acknowledged: the client repeats whatever the node misses.
    core.streams!.unproven[slot] = 0;
    sessions.setTries(slot, 0);
    sessions.setState(slot, SessionState.passing);
    core.waitForEnd(slot);
  }

  /**
   * The XDP program has brought the session to its node with the head that is in the room now, and
   * the client repeats the head. Maybe the node has not got it: it gets it again. A move has been
   * counted.
   */
  again(slot: number): void {
    const { core } = this;
    const { sessions, heads } = core;
    const room = sessions.head[slot]!;
    heads.step[room] = HeadStep.none;
    heads.rewrites[room] = 0;
    // Another node would need a new look-up.
    heads.directory[room] = (core.directory - 1) >>> 0;
    sessions.setFlags(slot, sessions.flags(slot) & ~SessionFlag.adopted);
    this.bound(slot);
    this.handoff.resumeAgain(slot);
  }

  private ask(slot: number): void {
    const { sessions, states, timers, counters, options, now, streams } = this.core;
    sessions.setTries(slot, sessions.tries(slot) + 1);
    timers.set(slot, now + options.timeouts.handoff);
    // LEAVE ends a socket that is parked already, whether or not the client has all of the answer.
    const type = states.can(sessions.node(slot), IxcpFlag.canPark) ? IxpType.park : IxpType.leave;
    if (this.toNode.sendLeave(slot, type, streams!.requests[slot]!))
      counters.count(Counter.moves_asked);
  }

  /** Sets the end of what the node is to get. */
  private bound(slot: number): void {
    const { sessions, heads } = this.core;
    const fin = sessions.has(slot, SessionFlag.clientFin) ? 1 : 0;
    const end = seqAdd(sessions.clientFirst(slot), heads.filled[sessions.head[slot]!]! + fin);
    sessions.setHandedTo(slot, end);
    sessions.setReceiveNext(slot, end);
  }

  /** Follows the body in the room again, which has grown. */
  private inspectRoom(slot: number): void {
    const { core } = this;
    const { sessions, heads, dispatcher } = core;
    const room = sessions.head[slot]!;
    const start = heads.start(room);
    const end = start + heads.filled[room]!;
    const verdict = dispatcher.inspect(heads.bytes, start, end, 0, core.serverOf(slot));
    // The config may have changed since the head was read.
    if (verdict === Verdict.found || verdict === Verdict.notFound) this.following.followRoom(slot);
    else this.following.pin(slot, Pin.head);
  }
}
