/** What a balancer changes on its second interface, which leads to the nodes. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { httpServer } from '../../lab/virtual-server.js';
import { detachAll } from '../../src/balancer/machine/detach.js';
import { Machine } from '../../src/balancer/machine/machine.js';
import type { MachineOptions } from '../../src/balancer/machine/options.js';
import { firstSlots } from '../../src/balancer/objects/farm.js';
import type { BatonError } from '../../src/base/errors.js';
import { loadObject } from '../../src/host/bpf-object.js';
import { hasClsact, listFilters } from '../../src/host/filters.js';
import { native } from '../../src/host/native.js';
import { insideNamespace, Peer, run, until } from './namespace.js';
import { snapshot } from './program.js';
import type { FarmConfig } from './xdp-machine.js';

const OWN = '10.98.0.2';
const VIRTUAL = '10.99.0.100';
/** As in a config. */
const NODE_INTERFACE = { name: 'eth1', where: 'balancer.yaml:2:16: nodeInterface' };

/** The next check finds what these tests wait for. */
const CHECK_MS = 500;

if (insideNamespace(import.meta.url)) {
  const clients = await Peer.make('eth0', '10.99.0.200/24', '02:00:00:00:00:c8');
  const nodes = await Peer.make('eth1', '10.98.0.3/24', '02:00:00:00:00:03');
  run('ip', 'address', 'add', `${OWN}/24`, 'dev', 'eth1');
  run('ip', 'link', 'set', 'eth1', 'mtu', '1400');
  const parent = mkdtempSync(join(tmpdir(), 'baton-interfaces-'));
  const directory = join(parent, 'run');
  t.teardown(() => {
    clients.stop();
    nodes.stop();
    rmSync(parent, { recursive: true, force: true });
  });
  const before = snapshot();
  const warnings: string[] = [];
  const lost: BatonError[] = [];
  const config: FarmConfig = {
    virtualServers: [httpServer('www', addressNumber(VIRTUAL), 80)],
    nodes: [{ name: 'n1', address: addressNumber('10.98.0.3'), weight: 1 }],
  };
  const options: MachineOptions & FarmConfig = {
    interface: 'eth0',
    nodeInterface: NODE_INTERFACE,
    address: undefined,
    key: new Uint8Array(16),
    ...config,
    farm: firstSlots(config),
    datapath: 'packet',
    workers: 2,
    limits: { sessions: 1_024, halfOpen: 1_024, headBytes: 16_384 },
    log: { warn: (message) => warnings.push(message), info: () => {} },
    onLost: (error) => lost.push(error),
    journalDirectory: directory,
    checkMs: CHECK_MS,
  };
  const programs = async (): Promise<(string | undefined)[]> =>
    listFilters('eth1').map((filter) => filter.program);
  const nothingLeft = async (t: Test): Promise<void> => {
    t.same(snapshot(), before);
    t.notOk(hasClsact('eth1'));
    t.same(readdirSync(directory), []);
  };

  t.test('only the guard is attached there, and removed again', async (t) => {
    const machine = await Machine.prepare(options);
    t.equal(machine.own.ipv4, addressNumber(OWN), 'nodes know us by the address where they are');
    t.same(await programs(), ['guard_ingress']);
    const side = machine.nodeInterfaceStart();
    const info = native().interfaceInfo('eth1');
    t.match(side, { interfaceIndex: info?.index, mac: info?.mac, mtu: 1400 });
    const start = machine.engineStart();
    t.not(side?.share.filterProgramFd, start.share.filterProgramFd, 'another filter');
    t.not(
      side?.share.fanout?.group,
      start.share.fanout?.group,
      'threads share each interface separately',
    );
    await machine.takeAddresses();
    t.notMatch(run('ip', '-4', 'address', 'show', 'dev', 'eth1'), VIRTUAL, 'clients are elsewhere');

    run('tc', 'filter', 'del', 'dev', 'eth1', 'ingress', 'pref', '1');
    await until('its repair', () => warnings.length >= 1);
    t.same(warnings.splice(0), [
      'tc filter guard_ingress (ingress) on eth1 was missing, and is restored',
    ]);

    await t.rejects(Machine.prepare({ ...options, interface: 'eth1', nodeInterface: undefined }), {
      code: 'BATON_IN_USE',
      where: 'eth1',
      message: 'another balancer is running on this interface',
    });
    t.same(await programs(), ['guard_ingress']);
    await machine.stop();
    await nothingLeft(t);
  });

  t.test('a start that fails leaves nothing on either interface', async (t) => {
    run('tc', 'qdisc', 'add', 'dev', 'eth1', 'clsact');
    const shim = loadObject('shim');
    shim.attachTc('shim_egress', native().interfaceInfo('eth1')?.index ?? 0, 'ingress', 1, 7);
    await t.rejects(Machine.prepare(options), {
      code: 'BATON_IN_USE',
      where: 'eth1',
      message: 'tc filters with priority 1 at ingress belong to another program (shim_egress)',
    });
    t.same(await programs(), ['shim_egress'], "the stranger's stays");
    shim.close();
    run('tc', 'qdisc', 'del', 'dev', 'eth1', 'clsact');
    await nothingLeft(t);
  });

  t.test('an unusable interface is reported with its place in the config', async (t) => {
    const refused = (name: string, line: string): Promise<unknown> =>
      t.rejects(
        Machine.prepare({ ...options, nodeInterface: { ...NODE_INTERFACE, name } }).catch(
          (error: BatonError) => {
            throw new Error(error.toLine());
          },
        ),
        { message: `${NODE_INTERFACE.where}: ${line}` },
      );
    await refused('eth9', 'eth9: no such interface (this machine has lo, eth0, eth1)');
    run('ip', 'link', 'property', 'add', 'dev', 'eth0', 'altname', 'clients0');
    await refused('clients0', 'clients0: is another name of eth0, expected another interface');
    run('ip', 'link', 'property', 'del', 'dev', 'eth0', 'altname', 'clients0');
    run('ip', 'address', 'flush', 'dev', 'eth1');
    await refused(
      'eth1',
      'eth1: has no IPv4 address of its own, which 10.98.0.3 needs (`ip address add ADDRESS/PREFIX dev eth1` adds one)',
    );
    run('ip', 'address', 'add', `${OWN}/24`, 'dev', 'eth1');
    await t.rejects(Machine.prepare({ ...options, address: addressNumber('10.98.0.77') }), {
      where: NODE_INTERFACE.where,
      message: 'eth1: does not have the address 10.98.0.77',
      hint: `it has ${OWN}`,
    });
    await nothingLeft(t);
  });

  t.test('down, up, and gone', async (t) => {
    warnings.length = 0;
    const machine = await Machine.prepare(options);
    await machine.takeAddresses();
    run('ip', 'link', 'set', 'eth1', 'down');
    await until('the word', () => warnings.length === 1);
    run('ip', 'link', 'set', 'eth1', 'up');
    await until('the other', () => warnings.length === 2);
    t.same(warnings, ['interface eth1 is down', 'interface eth1 is up again']);
    run('ip', 'link', 'del', 'eth1');
    await until('the loss', () => lost.length === 1);
    t.equal(lost[0]?.toLine(), 'eth1: the interface is gone (start the balancer again)');
    await machine.stop();
    t.same(readdirSync(directory), []);
    t.same(listFilters('eth0'), []);
  });

  t.test('if one interface is gone, everything is removed from the other', async (t) => {
    run('ip', 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'far');
    run('ip', 'address', 'add', `${OWN}/24`, 'dev', 'eth1');
    for (const name of ['far', 'eth1']) run('ip', 'link', 'set', name, 'up');
    const machine = await Machine.prepare({ ...options, nodeInterface: NODE_INTERFACE });
    await machine.takeAddresses();
    await machine.leave();
    t.same(await programs(), ['guard_ingress']);
    run('ip', 'link', 'del', 'eth1');
    const { removed, left } = await detachAll({
      ...options,
      nodeInterface: NODE_INTERFACE,
      warn: (message) => warnings.push(message),
      journalDirectory: directory,
    });
    t.same(left, []);
    t.ok(removed.includes('tc filter guard_ingress (ingress)'), removed.join(', '));
    t.notOk(
      removed.some((what) => what.includes('eth1')),
      'changes that vanished with the interface were not removed',
    );
    t.same(listFilters('eth0'), []);
    t.same(readdirSync(directory), []);
  });
}
