/** Joins observers, so that several can listen to one engine. */
import type { Observer } from './options.js';

/** An observer that tells all of these. An event to which none of them listens costs nothing. */
export function joinObservers(observers: readonly Observer[]): Observer {
  return observers.length === 0 ? {} : observers.reduce(joinTwo);
}

function joinTwo(one: Observer, other: Observer): Observer {
  const joined: Observer = {};
  const listens = (event: keyof Observer): boolean =>
    one[event] !== undefined || other[event] !== undefined;
  if (listens('opened'))
    joined.opened = (slot, now) => {
      one.opened?.(slot, now);
      other.opened?.(slot, now);
    };
  if (listens('established'))
    joined.established = (slot, now) => {
      one.established?.(slot, now);
      other.established?.(slot, now);
    };
  if (listens('request'))
    joined.request = (slot, verdict, bytes, start, end, now, filled) => {
      one.request?.(slot, verdict, bytes, start, end, now, filled);
      other.request?.(slot, verdict, bytes, start, end, now, filled);
    };
  if (listens('handoff'))
    joined.handoff = (slot, node, attempt, now) => {
      one.handoff?.(slot, node, attempt, now);
      other.handoff?.(slot, node, attempt, now);
    };
  if (listens('answered'))
    joined.answered = (slot, answer, now) => {
      one.answered?.(slot, answer, now);
      other.answered?.(slot, answer, now);
    };
  if (listens('adopted'))
    joined.adopted = (slot, node, now) => {
      one.adopted?.(slot, node, now);
      other.adopted?.(slot, node, now);
    };
  if (listens('refused'))
    joined.refused = (slot, node, reason, now) => {
      one.refused?.(slot, node, reason, now);
      other.refused?.(slot, node, reason, now);
    };
  if (listens('unconfirmed'))
    joined.unconfirmed = (slot, node, now) => {
      one.unconfirmed?.(slot, node, now);
      other.unconfirmed?.(slot, node, now);
    };
  if (listens('silent'))
    joined.silent = (slot, node, now) => {
      one.silent?.(slot, node, now);
      other.silent?.(slot, node, now);
    };
  if (listens('released'))
    joined.released = (slot, node, now) => {
      one.released?.(slot, node, now);
      other.released?.(slot, node, now);
    };
  if (listens('rewritten'))
    joined.rewritten = (slot, bytes, start, end, now) => {
      one.rewritten?.(slot, bytes, start, end, now);
      other.rewritten?.(slot, bytes, start, end, now);
    };
  if (listens('closed'))
    joined.closed = (slot, reason, now) => {
      one.closed?.(slot, reason, now);
      other.closed?.(slot, reason, now);
    };
  if (listens('reported'))
    joined.reported = (node, flags, now) => {
      one.reported?.(node, flags, now);
      other.reported?.(node, flags, now);
    };
  if (listens('badKey'))
    joined.badKey = (node, now) => {
      one.badKey?.(node, now);
      other.badKey?.(node, now);
    };
  return joined;
}
