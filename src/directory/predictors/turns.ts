/**
 * Smooth weighted round-robin, as nginx does it: at each turn every candidate gains its weight, the
 * richest is picked and pays the weights of all. With weights 5, 1, 1 that gives a a b a c a a
 * rather than five of a in a row. The credits of one holder set always sum to 0.
 */
export class Turns {
  private readonly credit: Float64Array;
  private total = 0;
  private best = -1;

  /** `holders`: how many there are over all sets. */
  constructor(holders: number) {
    this.credit = new Float64Array(holders);
  }

  /** Begins a turn. */
  begin(): void {
    this.total = 0;
    this.best = -1;
  }

  /**
   * Lets the holder at index `holder` of HolderSets.node take part in this turn. Among equals the
   * first wins.
   */
  enter(holder: number, weight: number): void {
    const credit = this.credit[holder]! + weight;
    this.credit[holder] = credit;
    this.total += weight;
    if (this.best < 0 || credit > this.credit[this.best]!) this.best = holder;
  }

  /** Ends the turn. Returns the holder whose turn it is, or -1 when none took part. */
  end(): number {
    const best = this.best;
    if (best >= 0) this.credit[best] = this.credit[best]! - this.total;
    return best;
  }
}
