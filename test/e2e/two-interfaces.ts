/** The farm of tests with `nodeInterface`: the nodes have a network of their own. */
import { randomBytes } from 'node:crypto';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import type { FarmUse } from '../../lab/farm/needs.js';

export const BASE = `http://${VIRTUAL_ADDRESS}`;
export const DOWNLOAD_BYTES = 20_000_000;
/** What a download fetches: /one/long.bin and /two/long.bin. */
export const LONG = randomBytes(DOWNLOAD_BYTES);
export const RESOURCES = [
  { path: '/one/', nodes: ['n1'] },
  { path: '/two/', nodes: ['n2'] },
  { path: '/post', nodes: ['n1'] },
];
export const TIMEOUTS = { linger: '300ms', closing: '2s' };

function fill(farm: Farm): void {
  for (const [index, place] of ['one', 'two'].entries()) {
    farm.webs[index]?.put(`${place}/a.txt`, `from n${index + 1}\n`);
    farm.webs[index]?.put(`${place}/long.bin`, LONG);
  }
}

export const TWO_INTERFACES: FarmUse = {
  resources: RESOURCES,
  fill,
  nodes: 2,
  nodeNetwork: true,
  // XDP in the driver, on both interfaces.
  cards: true,
  balancer: { timeouts: TIMEOUTS },
};
