/** The contract of a predictor: the rule that picks one candidate of a holder set. */
export interface Predictor {
  /**
   * Picks a candidate of holder set `set`. Leaves out the holders whose bit is set in `tried` (see
   * holderBit), candidates of weight 0, and those that are not available. Returns its index, or -1.
   * `pickedBit` is then its bit, or 0.
   */
  pick(set: number, tried: number): number;
  readonly pickedBit: number;
}
