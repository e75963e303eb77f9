/**
 * Smooth weighted round-robin, as in nginx. At each turn every holder that takes part gains its
 * weight as credit. The holder with the most credit is picked and pays the sum of these weights.
 * With weights 5, 1, 1 this gives a a b a c a a instead of a five times in a row. The credits of
 * one holder set always add up to 0.
 */
export class Turns {
  private readonly credit: Float64Array;
  private total = 0;
  private best = -1;

  /** @param holders their number over all sets */
  constructor(holders: number) {
    this.credit = new Float64Array(holders);
  }

  /** Begins a turn. */
  begin(): void {
    this.total = 0;
    this.best = -1;
  }

  /**
   * Adds a holder, an index in HolderSets.node, to this turn. Among holders with the same credit
   * the first wins.
   */
  enter(holder: number, weight: number): void {
    const credit = this.credit[holder]! + weight;
    this.credit[holder] = credit;
    this.total += weight;
    if (this.best < 0 || credit > this.credit[this.best]!) this.best = holder;
  }

  /** Ends the turn. Returns the picked holder, or -1 when none took part. */
  end(): number {
    const best = this.best;
    if (best >= 0) this.credit[best] = this.credit[best]! - this.total;
    return best;
  }
}
