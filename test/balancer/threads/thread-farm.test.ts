/** The farm of an engine thread: what a change puts in place, and when. */
import t from 'tap';
import { httpServer, serverSlot } from '../../../lab/virtual-server.js';
import type { Farm, NodeSlot, ServerSlot } from '../../../src/balancer/objects/farm.js';
import { firstFarm } from '../../../src/balancer/objects/first-farm.js';
import { namesOf, routesOf, ThreadFarm } from '../../../src/balancer/threads/thread-farm.js';
import type { Routes } from '../../../src/directory/request-dispatcher.js';
import { requireAddress } from '../../../src/wire/address.js';
import { Conversation } from '../../support/conversation.js';

const TIMEOUTS = {
  synAck: 1,
  head: 2,
  handoff: 3,
  answer: 4,
  idle: 5,
  closing: 6,
  linger: 7,
};

function node(slot: number, last: number): NodeSlot {
  const address = requireAddress(`10.9.0.${last}`);
  return { slot, name: `n${last}`, address, weight: 1, retired: false };
}

function server(slot: number, port: number): ServerSlot {
  const address = requireAddress('10.9.0.100');
  return serverSlot(slot, httpServer(`port-${port}`, address, port, 'least-connections'));
}

function farmOf(nodes: readonly NodeSlot[], servers: readonly ServerSlot[], path = '/'): Farm {
  const resources = [{ host: undefined, path, nodes: [0] }];
  return firstFarm({ resources, timeouts: TIMEOUTS }, { nodes, servers });
}

t.test('a prepared farm is in place after commit, and never after discard', async (t) => {
  const talk = new Conversation(t);
  const used: Routes[] = [];
  const forgotten: number[] = [];
  const users = {
    engine: talk.engine,
    dispatcher: { use: (routes: Routes) => void used.push(routes) },
    events: { forget: (slot: number) => void forgotten.push(slot) },
  };
  const nodes = [node(0, 10), node(1, 11), node(2, 12)];
  const current = new ThreadFarm(users, farmOf(nodes, [server(0, 80)]));
  t.equal(current.names.nodes.get(1), 'n11');
  t.same(forgotten, []);
  used.length = 0;

  const leaving = nodes.map((each) => ({ ...each, retired: each.slot === 2 }));
  current.prepare(farmOf(leaving, [server(0, 80)]));
  current.discard();
  current.commit();
  t.same(used, []);
  current.prepare(farmOf(leaving, [server(0, 80)]));
  t.same(used, [], 'nothing changes yet');
  current.commit();
  t.equal(used.length, 1);

  const other = [...nodes.slice(0, 2), { ...node(2, 99), name: 'new' }];
  const next = farmOf(other, [server(0, 80), server(3, 81)], '/a');
  current.prepare(next);
  t.equal(current.names.nodes.get(2), 'n12');
  current.commit();
  t.equal(current.names.nodes.get(2), 'new');
  t.equal(current.names.virtualServers.get(3), 'port-81');
  t.same(forgotten, [2]);
  t.same([...talk.engine.serverSlots], [0, 3]);
  t.equal(talk.nodes.find(requireAddress('10.9.0.99')), 2);
  current.commit();
  t.equal(used.length, 2, 'a second commit changes nothing');

  t.throws(() => current.prepare(farmOf(nodes, [])), { code: 'BATON_IN_USE' });
  current.commit();
  t.equal(used.length, 2, 'a farm that cannot be prepared changes nothing');
});

t.test('routes and names are by slot', async (t) => {
  const farm = farmOf([node(4, 14)], [server(2, 82), server(0, 80)]);
  t.same(routesOf(farm).predictors, ['least-connections', undefined, 'least-connections']);
  t.same([...namesOf(farm).nodes], [[4, 'n14']]);
  t.ok(farm.directory.paths.pool.buffer instanceof SharedArrayBuffer, 'threads share it');
});
