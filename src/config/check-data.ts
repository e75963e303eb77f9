/** Checks changed data by the same schema and rules as a file. */
import type { BalancerData } from './data.js';
import { type BalancerConfig, balancerConfig } from './load.js';
import { DataSource } from './source.js';

/**
 * Makes the config of a balancer from plain data.
 * @param data the keys of a config file, without defaults; it stays as it is
 * @param file the config file that the data is from: relative paths start at its directory
 * @throws BatonError BATON_CONFIG whose message has one line for each problem:
 *   `key.path: problem, expected value`
 */
export function checkData(data: BalancerData, file: string): BalancerConfig {
  return balancerConfig(new DataSource(data, file));
}
