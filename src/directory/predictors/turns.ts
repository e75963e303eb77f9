/**
 * Smooth weighted round-robin, as in nginx. At each turn every holder that takes part gains its
 * weight as credit. The holder with the most credit is picked and pays the sum of these weights.
 * With weights 5, 1, 1 this gives a a b a c a a instead of a five times in a row. The credits of
 * one holder set always add up to 0.
 *
 * The credits lie in parts, each made at the first turn of a set in it. So neither a new directory
 * of 100,000 sets nor a virtual server that uses few of them costs much at once. A set lies in the
 * part of its first holder, even if it ends behind it.
 */
import type { HolderSets } from '../holders.js';

/** Holders of a part: 2 to the power of this. */
const PART_SHIFT = 12;

const NO_PART = new Float64Array(0);

export class Turns {
  private readonly parts: (Float64Array | undefined)[];
  /** Length of a part. */
  private readonly length: number;
  /** The part of the current turn, and the holder with which it begins. */
  private credit: Float64Array = NO_PART;
  private base = 0;
  private total = 0;
  private best = -1;

  constructor(sets: HolderSets) {
    const parts = (sets.node.length >>> PART_SHIFT) + 1;
    this.parts = new Array<Float64Array | undefined>(parts).fill(undefined);
    this.length = (1 << PART_SHIFT) + sets.largest;
  }

  /** Begins a turn of the set with this first holder, an index in HolderSets.node. */
  begin(first: number): void {
    const part = first >>> PART_SHIFT;
    this.credit = this.parts[part] ?? this.makePart(part);
    this.base = part << PART_SHIFT;
    this.total = 0;
    this.best = -1;
  }

  /**
   * Adds a holder of the set, an index in HolderSets.node, to this turn. Among holders with the
   * same credit the first wins.
   */
  enter(holder: number, weight: number): void {
    const at = holder - this.base;
    const credit = this.credit[at]! + weight;
    this.credit[at] = credit;
    this.total += weight;
    if (this.best < 0 || credit > this.credit[this.best - this.base]!) this.best = holder;
  }

  /**
   * The credit with which a holder of the set with this first holder would take part in a turn now.
   * Begins no turn.
   */
  creditOf(first: number, holder: number, weight: number): number {
    const part = first >>> PART_SHIFT;
    return (this.parts[part]?.[holder - (part << PART_SHIFT)] ?? 0) + weight;
  }

  /** Ends the turn. Returns the picked holder, or -1 when none took part. */
  end(): number {
    const { best } = this;
    if (best >= 0) this.credit[best - this.base]! -= this.total;
    return best;
  }

  private makePart(part: number): Float64Array {
    const credit = new Float64Array(this.length);
    this.parts[part] = credit;
    return credit;
  }
}
