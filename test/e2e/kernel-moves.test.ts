/**
 * Connections that go from node to node with each request (keepAlive: migrate), on links that lose
 * frames. With the datapath xdp the kernel moves most of them by itself, and keeps no request: what
 * is lost on the way to a node, the client repeats, and the engine hands it over.
 */
import t from 'tap';
import { Askers } from '../../lab/clients/askers.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const NODES = ['n1', 'n2'];
const PATHS = ['/a', '/b'];
const CONNECTIONS = 8;
/** Requests, and moves of the kernel, that are enough. */
const ENOUGH = 1_500;
const balancer = {
  // On these links a node often misses two handoffs in turn.
  limits: { handoffTries: 8 },
  virtualServers: [{ name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' }],
};
const resources = PATHS.map((path, index) => ({ path, nodes: [NODES[index] ?? ''] }));

t.setTimeout(FILE_TIMEOUT_MS);

t.test('each request gets the answer of its node', { skip: whyNoFarm() }, async (t) => {
  const fill = (farm: Farm): void => {
    for (const [index, web] of farm.webs.entries())
      web.put((PATHS[index] ?? '').slice(1), NODES[index] ?? '');
  };
  await withFarm(t, { resources, fill, nodes: 2, cards: true, balancer }, async (farm) => {
    await farm.waitFor(
      async () => (await farm.stats()).nodes.every(({ lastReportMs }) => lastReportMs !== null),
      'the balancer knows what each node can do',
    );
    for (const node of farm.nodes) await farm.loseFramesTo(node);
    const address = VIRTUAL_ADDRESS;
    const askers = Askers.start(farm, { address, connections: CONNECTIONS, paths: PATHS });
    await farm.waitFor(async () => {
      const { counters } = await farm.stats();
      const done = DATAPATH === 'xdp' ? counters.xdp_head_moved : counters.moved;
      return (done ?? 0) > ENOUGH && (counters.handoff_retransmitted ?? 0) > 1;
    }, `${ENOUGH} moves, and lost requests among them`);
    const asked = await askers.finish();
    const wrong = asked.filter(
      ({ path, status, text }) => status !== 200 || text !== NODES[PATHS.indexOf(path)],
    );
    t.same(wrong.slice(0, 3), [], `${wrong.length} of ${asked.length} requests`);

    const { counters } = await farm.stats();
    t.equal(counters.requests, asked.length, 'each request is counted, and once');
    // A connection comes to its first node by a handoff, and then moves with each request.
    t.equal(counters.moved, asked.length - CONNECTIONS, 'so is each move');
    await farm.waitFor(
      async () => (await farm.stats()).nodes.every(({ active }) => active === 0),
      'no node has a session any more',
    );
    t.comment(
      Object.entries(counters)
        .filter(
          ([name, value]) =>
            value !== 0 && /^(pinned|move|head|res|park|drop|hand|xdp_)/.test(name),
        )
        .map(([name, value]) => `${name} ${value}`)
        .join(', '),
    );
  });
});
