/** Why a node does not take a session: `NodeStates.available` in words, for people who ask. */
import { IxpFlag } from '../wire/ixp.js';
import { Admin, type NodeViews } from './node-memory.js';

/**
 * Options that a session cannot go on without once they are agreed. It can go on without SACK,
 * since no side is obliged to use it (RFC 2018).
 */
export const NEEDED_OPTIONS = IxpFlag.windowScaleOk | IxpFlag.timestampsOk;

/**
 * - `weight`: its weight is 0.
 * - `unresolved`: its MAC address is not known.
 * - `draining`, `maintenance`: an operator has said so.
 * - `unable`: its agent says that it cannot adopt, or that it is stopping.
 * - `address`: it lacks the virtual address.
 * - `options`: its kernel refuses TCP options of the session.
 * - `suspended`: it was silent, and is the last choice for a while.
 * - `resting`: it refused, or its web server stands still; it is the last choice of this virtual
 *   server for a while.
 */
export type Obstacle =
  | 'weight'
  | 'unresolved'
  | 'draining'
  | 'maintenance'
  | 'unable'
  | 'address'
  | 'options'
  | 'suspended'
  | 'resting';

/** The first thing that keeps a node from taking a session now. */
export interface NodeObstacle {
  obstacle: Obstacle;
  /** ms until it ends; null: that is not known. */
  forMs: number | null;
}

/**
 * The reason why `NodeStates.available` is false, or undefined where it is true.
 *
 * @param pair of node and virtual server
 * @param options IxpFlag bits of the session's agreed options
 * @param now ms on the engine's clock
 */
export function obstacleOf(
  views: NodeViews,
  node: number,
  pair: number,
  options: number,
  now: number,
): NodeObstacle | undefined {
  const is = (obstacle: Obstacle, until?: number): NodeObstacle => ({
    obstacle,
    forMs: until === undefined ? null : until - now,
  });
  const { admin, able, lacks, refused, suspendedUntil, restsUntil } = views;
  if (admin[node] === Admin.draining) return is('draining');
  if (admin[node] !== Admin.up) return is('maintenance');
  if (able[node] !== 1) return is('unable');
  if (lacks[pair] !== 0) return is('address');
  if ((refused[node]! & options & NEEDED_OPTIONS) !== 0) return is('options');
  if (now < suspendedUntil[node]!) return is('suspended', suspendedUntil[node]);
  if (now < restsUntil[pair]!) return is('resting', restsUntil[pair]);
  return undefined;
}
