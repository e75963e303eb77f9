/**
 * Chooses the node that a session is handed over to.
 *
 * The directory may change while a session is being handed over. Then `sessions.resource` and
 * `sessions.tried` mean nothing any more, because both belong to the earlier directory. The head is
 * still in its room. So the request is looked up again when the session needs another node:
 *
 *     found      all holders are new, except the node that has just failed
 *     not found  no node holds the resource any more: 404, as for any new request
 */
import { Verdict } from '../../directory/dispatcher.js';
import type { Core } from '../core.js';
import { NO_RESOURCE } from '../table/session-table.js';
import { Rewriting } from './rewriting.js';

const NO_NODE = -1;

export class Choice {
  private readonly core: Core;
  private readonly rewriting: Rewriting;

  constructor(core: Core) {
    this.core = core;
    this.rewriting = new Rewriting(core);
  }

  /**
   * The first node for a session whose head asks for `resource` of the current directory, as the
   * dispatcher has just found; -1: none.
   */
  first(slot: number, resource: number): number {
    const { sessions, heads, directory } = this.core;
    if (!this.rewriting.apply(slot)) return NO_NODE;
    sessions.resource[slot] = resource;
    sessions.tried[slot] = 0;
    heads.directory[sessions.head[slot]!] = directory;
    return this.pick(slot);
  }

  /**
   * Another node for a session whose node has failed, or may have; -1: there is none. `take` must
   * follow if the session goes to it.
   */
  next(slot: number): number {
    return this.isLookedUp(slot) ? this.pick(slot) : NO_NODE;
  }

  /**
   * Before a later request goes to another node: its head gets the path that nodes get. Returns
   * false if there is no room for it.
   */
  renew(slot: number): boolean {
    const { sessions, heads, directory } = this.core;
    const room = sessions.head[slot]!;
    if (heads.rewrites[room] === 0) return true;
    heads.rewrites[room] = 0;
    // With another directory the request will be looked up again in any case.
    if (heads.directory[room] !== directory) return true;
    return this.inspect(slot, room) === Verdict.found && this.rewriting.apply(slot);
  }

  /** The session goes to the node that `first` or `next` has just returned. */
  take(slot: number): void {
    this.core.sessions.tried[slot]! |= this.core.dispatcher.pickedBit;
  }

  /** After `next` returned -1: whether no node holds the resource any more. */
  isGone(slot: number): boolean {
    return this.core.sessions.resource[slot] === NO_RESOURCE;
  }

  private pick(slot: number): number {
    const { sessions, dispatcher, now } = this.core;
    return dispatcher.pick(
      sessions.resource[slot]!,
      sessions.tried[slot]!,
      this.core.serverOf(slot),
      sessions.flags(slot),
      now,
    );
  }

  /**
   * Whether the session's resource is one of the current directory. If it is of an earlier one,
   * looks the request up again.
   */
  private isLookedUp(slot: number): boolean {
    const { sessions, heads, dispatcher, directory } = this.core;
    const room = sessions.head[slot]!;
    if (room < 0) return false;
    if (heads.directory[room] === directory) return sessions.resource[slot] !== NO_RESOURCE;
    const verdict = this.inspect(slot, room);
    heads.directory[room] = directory;
    if (verdict !== Verdict.found) {
      sessions.resource[slot] = NO_RESOURCE;
      return false;
    }
    const { resource } = dispatcher;
    sessions.resource[slot] = resource;
    sessions.tried[slot] = dispatcher.holderBit(resource, sessions.node(slot));
    return this.rewriting.apply(slot);
  }

  /** Has the dispatcher inspect the head in the room of a session. */
  private inspect(slot: number, room: number): number {
    const { heads, dispatcher } = this.core;
    const start = heads.start(room);
    const end = start + heads.filled[room]!;
    return dispatcher.inspect(heads.bytes, start, end, 0, this.core.serverOf(slot));
  }
}
