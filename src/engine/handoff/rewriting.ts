/**
 * Requests whose path is another one for the node. The head in the room stays as the client sent
 * it, so that it can be looked up again. The new path lies behind it, and takes the place of the
 * old one when the head is sent (HeadStore.copy).
 *
 *     client      |<-------- head -------->|<- body ...
 *     node   |<---------- head ----------->|<- body ...
 *            n more bytes begin n numbers earlier
 *
 * So no number is ever translated. For the node the head ends at the number at which it ends for
 * the client, and the kernel forwards what follows as it is. A head that became shorter begins
 * later. The node already has whatever the client repeats of its head, and TCP acknowledges and
 * drops that without looking at it (RFC 9293 section 3.10.7.4, first).
 *
 * While the head is kept, `SessionTable.clientFirst` is the number at which the node begins: so
 * everything that is sent to the node has its numbers. `Core.clientFirst` is the client's.
 */
import { Counter } from '../../base/counters.js';
import type { Core } from '../core.js';

export class Rewriting {
  private readonly core: Core;

  constructor(core: Core) {
    this.core = core;
  }

  /**
   * Gives the head the path that a node gets, after the dispatcher has found its resource. Returns
   * false if there is no room for it.
   */
  apply(slot: number): boolean {
    const { core } = this;
    const { sessions, heads, dispatcher, counters, observer, now } = core;
    const { rewritten, pathStart, pathEnd } = dispatcher;
    const room = rewritten === 0 ? sessions.head[slot]! : this.roomFor(slot, rewritten);
    if (room < 0) {
      if (rewritten === 0) return true;
      counters.count(Counter.rewrite_no_room);
      return false;
    }
    heads.newPath[room] = rewritten;
    heads.pathStart[room] = pathStart;
    heads.pathEnd[room] = pathEnd;
    core.shift(slot, heads.sent(room) - heads.filled[room]!);
    if (rewritten === 0) return true;
    counters.count(Counter.rewritten);
    const at = heads.start(room) + heads.filled[room]!;
    dispatcher.writePath(heads.bytes, at);
    observer.rewritten?.(slot, heads.bytes, at, at + rewritten, now);
    return true;
  }

  /** The room of a session if `bytes` more fit in there, else a larger one; -1: there is none. */
  private roomFor(slot: number, bytes: number): number {
    const { sessions, heads } = this.core;
    const room = sessions.head[slot]!;
    const needed = heads.filled[room]! + bytes;
    if (needed <= heads.size(room)) return room;
    if (needed > heads.largeBytes) return -1;
    const large = heads.grow(room);
    if (large >= 0) sessions.head[slot] = large;
    return large;
  }
}
