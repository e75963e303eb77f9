/**
 * Virtual servers and nodes that come and go while a balancer runs: what changes on its machine,
 * what is refused, and what a killed process leaves behind.
 */
import { once } from 'node:events';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { httpServer, serverSlot } from '../../lab/virtual-server.js';
import type { Machine } from '../../src/balancer/machine/machine.js';
import type { MachineOptions } from '../../src/balancer/machine/options.js';
import type { FarmSlots, NodeSlot, ServerSlot } from '../../src/balancer/objects/farm.js';
import { monotonicClock } from '../../src/base/clock.js';
import { CONTROL, NODE, NODE_BYTES, SERVER_RETIRED } from '../../src/datapath/xdp-layout.js';
import { native } from '../../src/host/native.js';
import { insideNamespace, run, until } from './namespace.js';
import { snapshot } from './program.js';
import { NODE_MAC, OWN, VIRTUAL, xdpMachine } from './xdp-machine.js';

const ADDED = '10.99.0.102';
const NODE_AT = '10.99.0.3';

function server(slot: number, address: string, port: number, retired = false): ServerSlot {
  const name = `s${slot}`;
  return serverSlot(slot, httpServer(name, addressNumber(address), port), { retired });
}

function node(slot: number, address: string, retired = false): NodeSlot {
  return { slot, name: `m${slot}`, address: addressNumber(address), weight: 1, retired };
}

if (insideNamespace(import.meta.url)) {
  const made = await xdpMachine(t);
  const { peer, options, warnings, pins, directory, nothingLeft, started, startAndKill, words } =
    made;
  const { detach } = made;
  const { farm } = options;
  const withServers = (...servers: ServerSlot[]): FarmSlots => ({
    nodes: farm.nodes,
    servers: [...farm.servers, ...servers],
  });
  const withNodes = (...nodes: NodeSlot[]): FarmSlots => ({
    nodes: [...farm.nodes, ...nodes],
    servers: farm.servers,
  });
  const change = async (machine: Machine, next: FarmSlots): Promise<void> =>
    (await machine.prepareChange(next)).commit();
  const addresses = (): string => run('ip', '-4', 'address', 'show');
  const gro = (state: string): string => peer.run('ethtool', '-K', 'eth0', 'gro', state);
  /** Waits until the kernel of this machine refuses a connection. */
  const refused = async (port: number, address = VIRTUAL): Promise<void> => {
    const source = `require('net').connect(${port}, '${address}').on('error', (e) => console.log(e.code)).on('connect', () => console.log('connected'));`;
    const child = peer.script(source);
    const [answer] = await once(child.stdout!, 'data');
    child.kill('SIGKILL');
    if (String(answer) !== 'ECONNREFUSED\n') throw new Error(`${address}:${port}: ${answer}`);
  };
  /** Waits until a connection raises a counter: the balancer has it. */
  const raises = async (
    machine: Machine,
    counter: string,
    port: number,
    address = VIRTUAL,
  ): Promise<void> => {
    const count = (): number => {
      const { guard, xdp } = machine.counters();
      return (xdp as Record<string, number> | undefined)?.[counter] ?? { ...guard }[counter] ?? -1;
    };
    if (machine.datapath !== 'packet') words('control')[CONTROL.aliveAt / 4] = monotonicClock()();
    const before = count();
    const source = `require('net').connect(${port}, '${address}').on('error', () => {}); setInterval(() => {}, 1000);`;
    const child = peer.script(source);
    await until(`${counter} by ${address}:${port}`, () => count() > before);
    child.kill('SIGKILL');
  };
  /** The virtual servers that the XDP program knows: values by endpoint. */
  const known = (): Record<string, number> =>
    Object.fromEntries(
      native()
        .openMap({ path: join(pins, 'virtual_servers') })
        .entries()
        .map(({ key, value }) => [
          `${key.subarray(0, 4).join('.')}:${key[4]! * 256 + key[5]!}`,
          value[0]! + value[1]! * 256,
        ]),
    );

  t.beforeEach(() => {
    warnings.length = 0;
  });

  const datapaths: [string, string, Partial<MachineOptions>, string, string][] = [
    ['native', 'on', {}, 'syn_answered', 'to_engine_syn'],
    ['generic', 'off', { datapath: 'auto' }, 'syn_answered', 'to_engine_syn'],
    ['packet', 'on', { datapath: 'packet' }, 'kept_virtual', 'kept_virtual'],
  ];
  for (const [how, groState, more, taken, untaken] of datapaths) {
    t.test(`${how}: virtual servers are added, retired and removed`, async (t) => {
      gro(groState);
      const machine = await started(more);
      t.match(machine.datapath, how);
      await refused(81);
      const before = snapshot();
      const added = [server(2, VIRTUAL, 81), server(7, ADDED, 80)];
      const prepared = await machine.prepareChange(withServers(...added));
      t.same(snapshot(), before);
      await refused(81);
      await prepared.commit();
      t.match(addresses(), `inet ${ADDED}/32`);
      t.same(machine.slots, withServers(...added));
      await raises(machine, taken, 81);
      await raises(machine, taken, 80, ADDED);
      await raises(machine, taken, 80);

      await change(machine, withServers(...added.map((one) => ({ ...one, retired: true }))));
      t.match(addresses(), `inet ${ADDED}/32`, 'sessions go on at the address');
      await raises(machine, untaken, 81);
      await raises(machine, untaken, 80, ADDED);
      await raises(machine, taken, 80);
      if (machine.datapath !== 'packet') {
        t.same(known(), {
          '10.99.0.100:80': 0,
          '10.99.0.101:8080': 1,
          '10.99.0.100:81': 2 | SERVER_RETIRED,
          '10.99.0.102:80': 7 | SERVER_RETIRED,
        });
      }

      await change(machine, withServers(server(2, VIRTUAL, 81)));
      t.notMatch(addresses(), ADDED);
      await raises(machine, taken, 81);
      await change(machine, farm);
      await refused(81);
      await raises(machine, taken, 80);
      t.same(snapshot(), before);
      await machine.stop();
      nothingLeft(t);
      t.same(
        warnings.filter((line) => !line.startsWith('datapath')),
        [],
      );
    });

    t.test(`${how}: killed after a change`, async (t) => {
      const next = withServers(server(2, ADDED, 80), server(3, '10.99.0.103', 80, true));
      await startAndKill(next, more);
      t.match(addresses(), `inet ${ADDED}/32`);
      const machine = await started(more);
      t.notMatch(addresses(), ADDED, 'it is not in the config of this start');
      t.notMatch(addresses(), '10.99.0.103');
      await raises(machine, taken, 80);
      await machine.stop();
      nothingLeft(t);
      await startAndKill(next, more);
      const { removed, left } = await detach();
      t.same(left, []);
      t.ok(removed.includes(`address ${ADDED}/32 on eth0`), removed.join(', '));
      nothingLeft(t);
    });
  }

  t.test('a new address is announced, and comes back if another program removes it', async (t) => {
    gro('on');
    const heard = peer.script(
      `Promise.all([import('${new URL('../../src/balancer/machine/arp-port.js', import.meta.url)}'), import('${new URL('../../src/host/native.js', import.meta.url)}')]).then(([m, n]) => {
        new m.ArpPort(n.native().interfaceInfo('eth0').index, (p) => console.log(p.operation, p.senderAddress, p.targetAddress));
        console.log('listening');
      });`,
    );
    let lines = '';
    heard.stdout?.setEncoding('utf8').on('data', (part: string) => {
      lines += part;
    });
    await until('the listener', () => lines.includes('listening'));
    const announced = (address: string): number =>
      lines.split(`1 ${addressNumber(address)} ${addressNumber(address)}\n`).length - 1;
    const machine = await started();
    await until('those of the start', () => announced(VIRTUAL) === 2);
    await change(machine, withServers(server(2, ADDED, 80)));
    await until('two announcements', () => announced(ADDED) === 2);
    t.equal(announced(VIRTUAL), 2, 'only the new one');
    heard.kill('SIGKILL');
    run('ip', 'address', 'del', `${ADDED}/32`, 'dev', 'eth0');
    await until('the repair', () => warnings.length > 0);
    t.same(warnings, [`address ${ADDED}/32 on eth0 was missing, and is restored`]);
    t.match(addresses(), `inet ${ADDED}/32`);
    await machine.stop();
    nothingLeft(t);
  });

  t.test('what is refused changes nothing', async (t) => {
    const machine = await started();
    const before = snapshot();
    const servers = known();
    peer.run('ip', 'address', 'add', `${ADDED}/32`, 'dev', 'eth0');
    const listener = createServer().listen(81, '0.0.0.0');
    await once(listener, 'listening');
    const full = 'those that were removed count until their last session has ended';
    const cases: [FarmSlots, { code?: string; message: string | RegExp; hint?: string }][] = [
      [
        withServers(server(2, ADDED, 80)),
        { code: 'BATON_IN_USE', message: `${ADDED} is already in use by 02:00:00:00:00:03` },
      ],
      [
        withServers(server(2, VIRTUAL, 81)),
        { code: 'BATON_IN_USE', message: /^port 81 of every address is already bound by / },
      ],
      [
        withServers(server(2, OWN, 80)),
        {
          code: 'BATON_IN_USE',
          message: `virtual server s2 has ${OWN}, which is the balancer's own address`,
        },
      ],
      [
        withServers(server(2, NODE_AT, 80)),
        { message: `virtual server s2 has ${NODE_AT}, which is the address of node n1` },
      ],
      [
        {
          nodes: farm.nodes.map((one) => ({ ...one, retired: true })),
          servers: [...farm.servers, server(2, NODE_AT, 80)],
        },
        {
          message: `virtual server s2 has ${NODE_AT}, which is the address of node n1`,
          hint: 'that one is removed: try again when its last session has ended',
        },
      ],
      [
        withNodes(node(2, VIRTUAL)),
        { message: `node m2 has ${VIRTUAL}, which is the address of virtual server www` },
      ],
      [
        withNodes(node(2, OWN)),
        { message: `node m2 has ${OWN}, which is the balancer's own address` },
      ],
      [
        withServers(server(256, '10.99.0.103', 80)),
        {
          code: 'BATON_CONFIG',
          message: 'there is room for 256 virtual servers',
          hint: full,
        },
      ],
      [withNodes(node(1_024, '10.99.0.9')), { message: 'there is room for 1024 nodes' }],
    ];
    for (const [next, error] of cases) await t.rejects(machine.prepareChange(next), error);
    t.same(snapshot(), before);
    t.same(known(), servers);
    t.same(machine.slots, farm);
    listener.close();
    peer.run('ip', 'address', 'del', `${ADDED}/32`, 'dev', 'eth0');

    const first = await machine.prepareChange(withServers(server(2, ADDED, 80)));
    await t.rejects(machine.prepareChange(farm), {
      code: 'BATON_IN_USE',
      message: 'another change is under way',
    });
    await first.abandon();
    t.same(snapshot(), before);
    const again = await machine.prepareChange(withServers(server(2, ADDED, 80)));
    await machine.stop();
    await t.rejects(again.commit(), { message: 'the balancer has stopped' });
    nothingLeft(t);
  });

  t.test('a change that fails half-way is undone', async (t) => {
    const machine = await started();
    const before = snapshot();
    const servers = known();
    const [journal] = readdirSync(directory);
    const next = withServers(server(2, VIRTUAL, 81), server(3, ADDED, 80));
    const prepared = await machine.prepareChange(next);
    // The journal is written under this name first.
    const obstacle = join(directory, `${journal}.new`);
    mkdirSync(obstacle);
    await t.rejects(prepared.commit(), { code: 'BATON_SYSTEM', message: /^cannot be written: / });
    t.same(snapshot(), before);
    t.same(known(), servers);
    t.same(machine.slots, farm);
    await refused(81);
    rmSync(obstacle, { recursive: true });
    await change(machine, next);
    t.match(addresses(), `inet ${ADDED}/32`);
    await raises(machine, 'syn_answered', 81);
    await machine.stop();
    nothingLeft(t);
  });

  t.test(
    'an address that this machine has already stays when its virtual server goes',
    async (t) => {
      run('ip', 'address', 'add', `${ADDED}/32`, 'dev', 'lo');
      const before = snapshot();
      const machine = await started();
      await change(machine, withServers(server(2, ADDED, 80)));
      await raises(machine, 'syn_answered', 80, VIRTUAL);
      await change(machine, farm);
      await machine.stop();
      t.same(snapshot(), before);
      run('ip', 'address', 'del', `${ADDED}/32`, 'dev', 'lo');
      nothingLeft(t);
    },
  );

  t.test('one address belongs to several virtual servers; a slot gets another one', async (t) => {
    const machine = await started();
    await change(machine, withServers(server(2, ADDED, 80), server(3, ADDED, 443)));
    await change(machine, withServers(server(3, ADDED, 443, true)));
    t.match(addresses(), `inet ${ADDED}/32`, 'a retired one needs it too');
    await change(machine, withServers(server(3, '10.99.0.103', 80)));
    t.notMatch(addresses(), ADDED);
    t.match(addresses(), 'inet 10.99.0.103/32');
    t.match(known(), { '10.99.0.103:80': 3 });
    t.equal(Object.keys(known()).length, 3);
    await machine.stop();
    nothingLeft(t);
  });

  t.test('nodes come and go', async (t) => {
    const machine = await started();
    const element = (slot: number): unknown => {
      const bytes = new Uint8Array(words('nodes').buffer, slot * NODE_BYTES, NODE_BYTES);
      return {
        address: bytes.slice(NODE.address, NODE.address + 4).join('.'),
        resolved: bytes[NODE.interface] !== 0,
      };
    };
    machine.setNeighbour(9, NODE_MAC);
    t.same(element(9), { address: '0.0.0.0', resolved: false }, 'no node has this slot');
    await change(machine, withNodes(node(9, '10.99.0.9'), node(1_023, '10.99.0.10')));
    t.same(element(9), { address: '10.99.0.9', resolved: false });
    t.same(element(1_023), { address: '10.99.0.10', resolved: false });
    machine.setNeighbour(9, NODE_MAC);
    t.same(element(9), { address: '10.99.0.9', resolved: true });
    await change(machine, withNodes(node(9, '10.99.0.9', true)));
    t.same(element(9), { address: '10.99.0.9', resolved: true }, 'retired');
    t.same(element(1_023), { address: '0.0.0.0', resolved: false });
    await change(machine, withNodes(node(9, '10.99.0.11')));
    t.same(element(9), { address: '10.99.0.11', resolved: false }, 'another node has the slot');
    await change(machine, farm);
    t.same(element(9), { address: '0.0.0.0', resolved: false });
    await machine.stop();
    nothingLeft(t);
  });

  t.test('sessions of a virtual server that was retired end with the next start', async (t) => {
    await startAndKill(withServers(server(2, VIRTUAL, 81, true)));
    const machine = await started();
    const { earlier } = made.startOf(machine);
    t.same([...(earlier?.servers ?? [])], [0, 1, -1]);
    await machine.stop();
    nothingLeft(t as Test);
  });
}
