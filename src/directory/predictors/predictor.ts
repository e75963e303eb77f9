/** The contract of a predictor: the rule that picks one candidate of a holder set. */
export interface Predictor {
  /**
   * Picks a candidate of holder set `set`. Leaves out the holders whose bit is set in `tried` (see
   * holderBit), candidates of weight 0, and those that are not available. Returns its index, or -1.
   * `pickedBit` is then its bit, or 0.
   */
  pick(set: number, tried: number): number;
  readonly pickedBit: number;
  /**
   * What `pick(set, 0)` would do now. Changes nothing: neither the turns nor `pickedBit`. For
   * people; it allocates.
   */
  preview(set: number): Preview;
}

/** What a pick would do. */
export interface Preview {
  /** The candidate that it would return, or -1. */
  picked: number;
  /** For each holder of the set, in its order. */
  holders: PreviewedHolder[];
}

export interface PreviewedHolder {
  /** Load divided by weight, the lowest wins; null: loads are not compared, or it takes no part. */
  score: number | null;
  /**
   * Its credit in this turn: among holders with equal scores the highest wins, and of those the
   * first. null: it takes no part in the turn.
   */
  credit: number | null;
}
