/** Single changes to a config as data. */
import t from 'tap';
import { BatonError } from '../../src/base/errors.js';
import type { BalancerData } from '../../src/config/data.js';
import {
  addNode,
  addResource,
  addVirtualServer,
  removeNode,
  removeResource,
  removeVirtualServer,
  setWeight,
} from '../../src/config/edit.js';

const DATA: BalancerData = deepFreeze({
  interface: 'eth0',
  keyFile: 'key.hex',
  virtualServers: [{ name: 'www', address: '10.99.0.100', port: 80 }],
  nodes: [
    { name: 'n1', address: '10.99.0.3', weight: 2 },
    { name: 'n2', address: '10.99.0.4' },
    { name: 'spare', address: '10.99.0.5' },
  ],
  resources: [
    { host: 'www.example.org', path: '/a/', nodes: ['n1', 'n2'] },
    { path: '/b', nodes: ['n1'] },
    { path: '/c', nodes: ['n1'] },
    { path: '/d', nodes: ['n1'] },
    { path: '/', nodes: ['n2'] },
  ],
});

/** An edit that changed the data in place would throw. */
function deepFreeze<Value>(value: Value): Value {
  if (typeof value === 'object' && value !== null) {
    Object.values(value).forEach(deepFreeze);
    Object.freeze(value);
  }
  return value;
}

/** "CODE message (hint)" of the error that `edit` throws. */
function refused(edit: () => unknown): string {
  try {
    edit();
  } catch (error) {
    if (error instanceof BatonError) return `${error.code} ${error.toLine()}`;
    throw error;
  }
  return 'done';
}

t.test('nodes', async (t) => {
  const n4 = { name: 'n4', address: '10.99.0.6', weight: 3 };
  t.same(addNode(DATA, n4), { ...DATA, nodes: [...DATA.nodes, n4] });
  t.same(removeNode(DATA, 'spare').nodes, DATA.nodes.slice(0, 2));
  t.same(setWeight(DATA, 'n2', 7).nodes[1], { name: 'n2', address: '10.99.0.4', weight: 7 });
  t.same(setWeight(DATA, 'n1', 1).nodes[0], { name: 'n1', address: '10.99.0.3', weight: 1 });
  t.same(setWeight(DATA, 'n2', 1), DATA, 'the default weight needs no key');
  t.equal(
    refused(() => addNode(DATA, { name: 'n1', address: '10.99.0.3' })),
    'BATON_IN_USE node "n1" exists already, with the address 10.99.0.3',
  );
  t.equal(
    refused(() => addNode(DATA, { name: 'n9', address: '10.99.0.3' })),
    'BATON_IN_USE "10.99.0.3" is the address of node "n1"',
  );
  t.equal(
    refused(() => removeNode(DATA, 'n1')),
    'BATON_IN_USE node "n1" holds the resources "www.example.org/a/", "/b", "/c" and 1 more (take it out of the holders first, or remove these resources)',
  );
  t.equal(
    refused(() => removeNode(DATA, 'spar')),
    'BATON_UNKNOWN there is no node "spar" (did you mean spare?)',
  );
  t.equal(
    refused(() => setWeight(DATA, 'x', 1)),
    'BATON_UNKNOWN there is no node "x"',
  );
  for (const weight of [0, 1.5, 1_001, Number.NaN]) {
    t.equal(
      refused(() => setWeight(DATA, 'n1', weight)),
      `BATON_ARGUMENT weight: is ${weight}, expected a whole number from 1 to 1000`,
    );
  }
});

t.test('virtual servers', async (t) => {
  const tls = { name: 'tls', address: '10.99.0.100', port: 443 };
  const two = addVirtualServer(DATA, tls);
  t.same(two.virtualServers, [...DATA.virtualServers, tls]);
  t.same(removeVirtualServer(two, 'www').virtualServers, [tls]);
  t.equal(
    refused(() => addVirtualServer(DATA, { ...tls, name: 'www' })),
    'BATON_IN_USE virtual server "www" exists already, at 10.99.0.100:80',
  );
  t.equal(
    refused(() => addVirtualServer(DATA, { ...tls, port: 80 })),
    'BATON_IN_USE 10.99.0.100:80 is used by virtual server "www"',
  );
  t.equal(
    refused(() => removeVirtualServer(DATA, 'www')),
    'BATON_IN_USE virtual server "www" is the only one (a balancer needs a virtual server: add another first, or stop the balancer)',
  );
  t.equal(
    refused(() => removeVirtualServer(DATA, 'wwww')),
    'BATON_UNKNOWN there is no virtual server "wwww" (did you mean www?)',
  );
});

t.test('resources', async (t) => {
  const added = { host: '*.example.org', path: '/', nodes: ['n1'] };
  t.same(addResource(DATA, added).resources, [...DATA.resources, added]);
  t.same(
    addResource(DATA, { host: 'WWW.example.org.', path: '/x/../a/', nodes: ['n2', 'spare'] })
      .resources[0],
    { host: 'www.example.org', path: '/a/', nodes: ['n1', 'n2', 'spare'] },
    'a second spelling names the same resource, which gets further holders',
  );
  t.same(removeResource(DATA, { path: '/b' }).resources[1], DATA.resources[2]);
  t.same(removeResource(DATA, { host: 'www.example.org', path: '/a/' }, 'n1').resources[0], {
    host: 'www.example.org',
    path: '/a/',
    nodes: ['n2'],
  });
  t.equal(
    refused(() => addResource(DATA, { path: '/b', nodes: ['n1'] })),
    'BATON_IN_USE resource "/b" has the holder "n1" already',
  );
  t.equal(
    refused(() => addResource(DATA, { path: '/b', nodes: ['N1'] })),
    'BATON_UNKNOWN there is no node "N1" (did you mean n1?)',
  );
  t.equal(
    refused(() => addResource(DATA, { path: 'b', nodes: ['n1'] })),
    'BATON_ARGUMENT path: is "b": a path must begin with "/"',
  );
  t.match(
    refused(() => addResource(DATA, { host: 'a b', path: '/', nodes: ['n1'] })),
    /^BATON_ARGUMENT host: is "a b": a host consists of labels/,
  );
  t.equal(
    refused(() => removeResource(DATA, { path: '/a/' })),
    'BATON_UNKNOWN there is no resource "/a/" (did you mean www.example.org/a/?)',
  );
  t.equal(
    refused(() => removeResource(DATA, { path: '/b' }, 'n2')),
    'BATON_UNKNOWN node "n2" is no holder of "/b" (its holders are n1)',
  );
  t.equal(
    refused(() => removeResource(DATA, { path: '/b' }, 'n7')),
    'BATON_UNKNOWN there is no node "n7"',
  );
  t.equal(
    refused(() => removeResource(DATA, { path: '/' }, 'n2')),
    'BATON_IN_USE node "n2" is the only holder of "/" (add another holder first, or remove the resource)',
  );
  const last = { ...DATA, resources: DATA.resources.slice(0, 1) };
  t.equal(
    refused(() => removeResource(last, { host: 'www.example.org', path: '/a/' })),
    'BATON_IN_USE resource "www.example.org/a/" is the only one (a balancer needs a resource: add another first)',
  );
});

t.test('virtual servers of several ports, and their nodes', async (t) => {
  const files = { name: 'files', address: '10.99.0.101', mode: 'forward', nodes: ['spare'] };
  const data = addVirtualServer(DATA, { ...files, ports: [21, '9000-9100'] });
  const add = (keys: object) => () =>
    addVirtualServer(data, { name: 'new', address: '10.99.0.101', ...keys });
  t.equal(
    refused(add({ port: 9050 })),
    'BATON_IN_USE 10.99.0.101:9050 is used by virtual server "files"',
  );
  t.equal(refused(add({ port: 9050, mode: 'forward', transport: 'udp' })), 'done');
  t.equal(
    refused(add({ name: 'files', ports: 'any' })),
    'BATON_IN_USE virtual server "files" exists already, at 10.99.0.101:21,9000-9100',
  );
  t.equal(
    refused(() => removeNode(data, 'spare')),
    'BATON_IN_USE node "spare" gets the connections of virtual server "files" (take it out of the nodes of this virtual server first: in the config file, with a reload)',
  );
});

t.test('a resource with protocols is another one; a rewrite stays as it is', async (t) => {
  const h2 = { path: '/', alpn: ['h2'], nodes: ['n1'] };
  const data = addResource(DATA, h2);
  t.same(data.resources.at(-1), h2);
  t.same(removeResource(data, { path: '/', alpn: ['h2'] }), DATA);
  t.equal(
    refused(() => removeResource(data, { path: '/', alpn: ['h3'] })),
    'BATON_UNKNOWN there is no resource "/ (alpn h3)" (did you mean /?)',
  );
  const rewritten = addResource(DATA, { path: '/e/', rewrite: '/f/%p', nodes: ['n1'] });
  const again = (rewrite: string) => () =>
    addResource(rewritten, { path: '/e/', rewrite, nodes: ['n2'] });
  t.equal(refused(again('/f/%p')), 'done');
  t.equal(
    refused(again('/g/%p')),
    'BATON_IN_USE resource "/e/" exists already, with the rewrite /f/%p (remove it first, and add it with the other rewrite)',
  );
});

t.test('the last resource may go if no virtual server needs it', async (t) => {
  const last = { ...DATA, resources: [{ path: '/', nodes: ['n1'] }] };
  const forward = { name: 'f', address: '10.99.0.101', port: 80, mode: 'forward' };
  t.match(
    refused(() => removeResource(last, { path: '/' })),
    /^BATON_IN_USE resource "\/" is the only one/,
  );
  t.same(removeResource({ ...last, virtualServers: [forward] }, { path: '/' }).resources, []);
});
