/** Sizes of the tables of virtual servers with mode forward, which are fixed at the start. */

import { WAYS } from '../../engine/forward/layout.js';
import type { ForwardSizes } from '../../engine/forward/tables.js';
import type { ServerSlot } from '../objects/farm.js';

/** Buckets and records that there is always room for: virtual servers may be added later. */
const FEWEST_BUCKETS = 131_072;
const FEWEST_FLOWS = 65_536;

/**
 * Records for twice as many flows as `sessions`, if a virtual server needs records: then
 * practically none has to give way before there are as many. Buckets for twice as many as the
 * config wants.
 *
 * @param sessions `limits.sessions` of the config
 */
export function forwardSizes(servers: readonly ServerSlot[], sessions: number): ForwardSizes {
  const forwarding = servers.filter(({ mode }) => mode === 'forward');
  const wanted = forwarding.reduce((sum, { buckets }) => sum + buckets, 0);
  const recorded = forwarding.some(({ buckets }) => buckets === 0);
  return {
    buckets: Math.max(FEWEST_BUCKETS, 2 * wanted),
    sets: powerOfTwo(recorded ? Math.max(FEWEST_FLOWS, 2 * sessions) : FEWEST_FLOWS) / WAYS,
  };
}

function powerOfTwo(least: number): number {
  return 2 ** Math.ceil(Math.log2(least));
}
