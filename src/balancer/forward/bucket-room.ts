/** Gives each virtual server with buckets a part of the table of all buckets. */
import { BatonError } from '../../base/errors.js';

/** A part of the table: buckets [first, first + count). */
export interface Part {
  readonly first: number;
  readonly count: number;
}

/** What a virtual server wants: its slot, its name, and its number of buckets. */
export interface Wish {
  readonly slot: number;
  readonly name: string;
  readonly buckets: number;
}

/**
 * The parts for these virtual servers, by slot. One that has a part of the right size keeps it.
 * @param present the parts that are in use now, by slot
 * @param capacity of the table
 * @throws BatonError BATON_CONFIG when there is not enough room
 */
export function assignParts(
  present: ReadonlyMap<number, Part>,
  wishes: readonly Wish[],
  capacity: number,
): Map<number, Part> {
  const parts = new Map<number, Part>();
  const fresh: Wish[] = [];
  for (const wish of wishes) {
    const part = present.get(wish.slot);
    if (part?.count === wish.buckets) parts.set(wish.slot, part);
    else fresh.push(wish);
  }
  // The largest first, so that small ones do not cut their room in two.
  for (const wish of fresh.toSorted((a, b) => b.buckets - a.buckets)) {
    const first = firstFit([...parts.values()], wish.buckets, capacity);
    if (first === undefined) throw noRoom(wish, capacity);
    parts.set(wish.slot, { first, count: wish.buckets });
  }
  return parts;
}

function firstFit(taken: Part[], count: number, capacity: number): number | undefined {
  let first = 0;
  for (const part of taken.toSorted((a, b) => a.first - b.first)) {
    if (part.first - first >= count) break;
    first = part.first + part.count;
  }
  return first + count <= capacity ? first : undefined;
}

function noRoom({ name, buckets }: Wish, capacity: number): BatonError {
  return new BatonError(
    'BATON_CONFIG',
    `virtual server ${name} wants ${buckets} buckets: there is room for ${capacity} in all, which was measured at the start`,
    { hint: '`baton balancer --replace` starts a balancer with more room' },
  );
}
