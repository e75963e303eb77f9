/**
 * The candidates of a predictor, by index. The implementation defines what an index means, what
 * counts as load, and when a candidate is unavailable. Candidates are nodes today; other systems
 * bring their own.
 *
 * A pick calls these methods for every holder, so they must not allocate. A process should have one
 * class of candidates: then the calls stay monomorphic.
 */
export interface Candidates {
  /** Its share of the load relative to others, a whole number. Weight 0 is never picked. */
  weight(candidate: number): number;
  /** Its current load, a whole number: the number of its sessions, for example. */
  load(candidate: number): number;
  /** Whether it can take the current request. */
  available(candidate: number): boolean;
}
