import t from 'tap';
import { addressNumber } from '../../../lab/packet.js';
import {
  type Change,
  changeToJson,
  describeChange,
  parseChange,
  sameThing,
} from '../../../src/host/journal/changes.js';

const address = {
  kind: 'address',
  interface: 'lo',
  address: addressNumber('10.99.0.100'),
  prefix: 32,
} as const satisfies Change;
const setting: Change = {
  kind: 'setting',
  setting: 'ipv4/tcp_syncookies',
  value: '1',
  previous: '0',
};
const clsact: Change = { kind: 'clsact' };
const filter: Change = {
  kind: 'filter',
  hook: 'ingress',
  priority: 2,
  handle: 1,
  program: 'shim_ingress',
};
const xdp: Change = { kind: 'xdp', mode: 'generic' };
const pins: Change = { kind: 'pins', name: 'eth0.100-4026531840' };
/** On an interface other than the journal's own. */
const at = { interface: 'eth1', index: 7 };
const elsewhere: Change[] = [
  { kind: 'clsact', at },
  { kind: 'filter', at, hook: 'ingress', priority: 1, handle: 1, program: 'guard_ingress' },
];
const all = [address, setting, clsact, filter, xdp, pins];

t.test('a change is the same after a round trip through JSON', async (t) => {
  for (const change of [...all, ...elsewhere]) {
    t.same(parseChange(JSON.parse(JSON.stringify(changeToJson(change)))), change);
  }
});

t.test('JSON that is not a change is refused', async (t) => {
  const wrong: unknown[] = [null, 7, 'address', [], {}, { kind: 'mount' }];
  for (const change of all) {
    for (const key of Object.keys(change)) {
      const data = changeToJson(change);
      wrong.push({ ...data, [key]: undefined }, { ...data, [key]: [] });
    }
  }
  for (const change of elsewhere) {
    for (const place of [[], 'eth1', null, {}, { interface: 'eth1' }, { ...at, index: '7' }]) {
      wrong.push({ ...change, at: place });
    }
  }
  wrong.push({ ...address, address: 'localhost' }, address);
  for (const data of wrong) t.equal(parseChange(data), undefined, JSON.stringify(data));
});

t.test('a setting outside /proc/sys/net is refused', async (t) => {
  for (const path of [
    '../../kernel/core_pattern',
    '/etc/passwd',
    'ipv4/../../kernel/x',
    'ipv4//x',
    'a/',
    '',
    'a\0b',
  ]) {
    t.equal(parseChange({ ...setting, setting: path }), undefined, JSON.stringify(path));
  }
  t.ok(
    parseChange({ ...setting, setting: 'ipv4/conf/eth0.100/arp_ignore' }),
    'names may contain dots',
  );
});

t.test('pins outside a directory of Baton are refused', async (t) => {
  for (const name of [
    '..',
    '.',
    '../x-1',
    'a/b-1',
    '/etc-1',
    'eth0',
    'eth0-',
    'eth0-x',
    '-1',
    '',
    'a\0-1',
  ]) {
    t.equal(parseChange({ ...pins, name }), undefined, JSON.stringify(name));
  }
  t.equal(parseChange({ ...xdp, mode: 'hardware' }), undefined);
});

t.test('two changes are about the same object', async (t) => {
  for (const one of all) for (const other of all) t.equal(sameThing(one, other), one === other);
  t.ok(sameThing(setting, { ...setting, value: '2', previous: '7' }), 'whatever its value');
  t.notOk(sameThing(address, { ...address, interface: 'eth0' }));
  t.ok(sameThing(xdp, { ...xdp, mode: 'native' }));
  t.notOk(sameThing(pins, { ...pins, name: 'eth1-4026531840' }));
  t.notOk(sameThing(filter, { ...filter, hook: 'egress' }));
  t.notOk(sameThing(filter, { ...filter, at }), 'on another interface');
  t.notOk(sameThing(clsact, { ...clsact, at }));
  t.ok(
    sameThing({ ...filter, at }, { ...filter, at: { ...at, index: 8 } }),
    'an interface that was made again under the same name',
  );
});

t.test('a change in words', async (t) => {
  t.same(all.map(describeChange), [
    'address 10.99.0.100/32 on lo',
    'net/ipv4/tcp_syncookies = 1',
    'clsact',
    'tc filter shim_ingress (ingress)',
    'XDP program baton_xdp (generic)',
    'pins in /sys/fs/bpf/baton/eth0.100-4026531840',
  ]);
  t.same(elsewhere.map(describeChange), [
    'clsact on eth1',
    'tc filter guard_ingress (ingress) on eth1',
  ]);
});
