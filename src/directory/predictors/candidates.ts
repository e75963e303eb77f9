/**
 * What a predictor sees of those that it chooses among, by index. Candidates are nodes today; other
 * systems bring their own. What an index means, what counts as load and what makes a candidate
 * unavailable is up to the implementation.
 *
 * All three methods are called for every holder at every pick, so they allocate nothing. A process
 * should have one class of candidates: then these calls stay monomorphic.
 */
export interface Candidates {
  /** Its share of the load, a whole number. A candidate of weight 0 is never picked. */
  weight(candidate: number): number;
  /** Its present load, a whole number: its sessions, for example. */
  load(candidate: number): number;
  /** Whether it can take the request that is being dispatched. */
  available(candidate: number): boolean;
}
