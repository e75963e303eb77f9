/**
 * Nodes that end, fall silent or go into maintenance while a client waits for the first byte of an
 * answer: another holder answers, and the client notices nothing.
 */
import { writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { type CurlAnswer, curl } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const LONGEST_MS = 30_000;
const resources = [{ path: '/poll', nodes: ['n1', 'n2'] }];

t.setTimeout(FILE_TIMEOUT_MS);

/** A farm of two application servers, of which the second one answers polls at once. */
async function withPolls(
  t: Test,
  body: (farm: Farm, poll: () => Promise<CurlAnswer>) => Promise<void>,
): Promise<void> {
  const web = [1, 2].map(() => ({ server: 'node' as const }));
  await withFarm(t, { resources, nodes: 2, web }, async (farm) => {
    await farm.waitFor(
      async () => (await farm.stats()).nodes.every(({ lastReportMs }) => lastReportMs !== null),
      'the balancer knows what each node can do',
    );
    writeFileSync(farm.webs[1]!.release, '');
    await body(farm, () => curl(farm.client, `${BASE}/poll`, [], LONGEST_MS));
  });
}

/** Polls until node 1 has a poll that it does not answer. */
async function waiting(
  farm: Farm,
  poll: () => Promise<CurlAnswer>,
): Promise<Promise<CurlAnswer>[]> {
  const polls = [poll(), poll()];
  await farm.waitFor(
    async () => (await farm.stats()).nodes[0]!.adopted === 1,
    'node 1 has confirmed a poll',
    LONGEST_MS,
  );
  return polls;
}

async function answered(t: Test, polls: readonly Promise<CurlAnswer>[]): Promise<void> {
  const answers = await Promise.all(polls);
  t.same(
    answers.map(({ status, body, exit }) => `${exit} ${status} ${body}`),
    ['0 200 released\n', '0 200 released\n'],
  );
}

t.test('a web server that ends while it works on a request', { skip: whyNoFarm() }, async (t) => {
  await withPolls(t, async (farm, poll) => {
    const polls = await waiting(farm, poll);
    farm.webs[0]!.signal('SIGKILL');
    await answered(t, polls);
    const { counters } = await farm.stats();
    t.equal(counters.retried_after_reset, 1);
  });
});

t.test('a node whose link fails while it works on a request', { skip: whyNoFarm() }, async (t) => {
  await withPolls(t, async (farm, poll) => {
    const polls = await waiting(farm, poll);
    await farm.nodes[0]!.run('ip', ['link', 'set', 'eth0', 'down']);
    await answered(t, polls);
    const { counters } = await farm.stats();
    t.equal(counters.retried_after_fence, 1);
  });
});

t.test('maintenance of a node that works on a request', { skip: whyNoFarm() }, async (t) => {
  await withPolls(t, async (farm, poll) => {
    const polls = await waiting(farm, poll);
    await farm
      .control()
      .change({ kind: 'node-state', node: 'n1', state: 'maintenance', reason: '' });
    await answered(t, polls);
    const { counters } = await farm.stats();
    t.equal(counters.retried_after_fence, 1);
    t.equal(counters.closed_maintenance, 0);
  });
});
