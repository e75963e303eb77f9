/** How the limits of a balancer are shared among its engine threads. */
import type { Limits } from '../../engine/options.js';

/** Limits that count something of the whole balancer. The others hold for each session. */
type Shared = Pick<Limits, 'sessions' | 'halfOpen'> & Partial<Pick<Limits, 'heads'>>;

/** The share of each of `workers` threads, rounded up: together no less than the whole. */
export function shareOfLimits<Given extends Shared>(limits: Given, workers: number): Given {
  const share = (total: number): number => Math.ceil(total / workers);
  return {
    ...limits,
    sessions: share(limits.sessions),
    halfOpen: share(limits.halfOpen),
    ...(limits.heads === undefined ? {} : { heads: share(limits.heads) }),
  };
}
