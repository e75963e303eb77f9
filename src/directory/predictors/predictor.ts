/** The contract of a predictor: the rule that picks one node among those that hold a resource. */
export interface Predictor {
  /**
   * Picks a node of holder set `set`, leaving out the holders whose bit is set in `tried` (see
   * holderBit), nodes of weight 0, and nodes that take no handoff of a session with these `options`
   * (IxpFlag bits) at `now` (ms). Returns its index, or -1; `pickedBit` is then its bit, or 0.
   */
  pick(set: number, tried: number, options: number, now: number): number;
  readonly pickedBit: number;
}
