/** The farm that a balancer starts with. */
import { sharedArrays } from '../../base/arrays.js';
import type { BalancerConfig } from '../../config/load.js';
import { directoryImage } from '../../directory/directory-image.js';
import type { Farm, FarmSlots } from './farm.js';

/**
 * The farm of a config.
 *
 * @param slots in which each node has its place in the config: holders are named by that place
 */
export function firstFarm(
  config: Pick<BalancerConfig, 'resources' | 'timeouts'>,
  slots: FarmSlots,
): Farm {
  const directory = directoryImage(config.resources, undefined, sharedArrays);
  return { ...slots, generation: 1, directory, timeouts: config.timeouts };
}
