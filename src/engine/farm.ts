/**
 * The farm as an engine sees it: nodes and virtual servers in numbered slots. Session records name
 * both by slot. So nothing is ever renumbered: an engine takes another farm between two batches,
 * and sessions do not notice.
 */
import { BatonError } from '../base/errors.js';
import type { Timeouts } from './options.js';

/** A node in its slot. */
export interface NodeAt {
  readonly slot: number;
  /** IPv4, as an unsigned 32-bit number. */
  readonly address: number;
  /** It gets no new sessions; those that it has go on. */
  readonly retired: boolean;
}

/** A virtual server in its slot. */
export interface ServerAt {
  readonly slot: number;
  readonly address: number;
  readonly port: number;
  /** It is closed to new connections; its sessions go on. */
  readonly retired: boolean;
}

export interface EngineFarm {
  readonly nodes: readonly NodeAt[];
  readonly servers: readonly ServerAt[];
  readonly timeouts: Timeouts;
}

/** Each entry in the slot of its place in the list, and none retired. */
export function inSlots<Entry>(
  entries: readonly Entry[],
): (Entry & { slot: number; retired: boolean })[] {
  return entries.map((entry, slot) => ({ ...entry, slot, retired: false }));
}

/**
 * A slot may be freed, or taken by another address, only when nothing names it any more.
 *
 * @param what for example "node"
 * @param retired whether its present owner gets no new sessions
 * @param held sessions of this engine that name it
 * @throws BatonError BATON_IN_USE
 */
export function requireUnused(what: string, slot: number, retired: boolean, held: number): void {
  if (retired && held === 0) return;
  const why = retired ? `${held} sessions still have it` : 'it is not retired';
  throw new BatonError('BATON_IN_USE', `the slot ${slot} of a ${what} cannot be freed: ${why}`);
}
