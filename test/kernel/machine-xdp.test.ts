import { once } from 'node:events';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { httpServer } from '../../lab/virtual-server.js';
import { Machine } from '../../src/balancer/machine/machine.js';
import { firstSlots } from '../../src/balancer/objects/farm.js';
import { monotonicClock } from '../../src/base/clock.js';
import { CONTROL, NODE, NODE_BYTES, OUTPUT, SHARED_LAYOUT } from '../../src/datapath/xdp-layout.js';
import { loadObject } from '../../src/host/bpf-object.js';
import { native } from '../../src/host/native.js';
import { hasPins, PIN_ROOT, pinDirectory } from '../../src/host/pins.js';
import { insideNamespace, run, until } from './namespace.js';
import { snapshot } from './program.js';
import { project } from './shim-fixture.js';
import { NODE_MAC, OTHER_VIRTUAL, VIRTUAL, xdpMachine } from './xdp-machine.js';

const PASS_ALL = join(project, 'build', 'bpf', 'bounce.bpf.o');
const LOST =
  'eth0 (driver veth) loses the frames that it sends in native XDP, because its peer does not poll: run `ethtool -K PEER gro on` there';

if (insideNamespace(import.meta.url)) {
  const machine = await xdpMachine(t);
  const {
    peer,
    options,
    warnings,
    infos,
    pins,
    name,
    directory,
    index,
    attached,
    nothingLeft,
    startOf,
  } = machine;
  const { detach, started, startAndKill, words } = machine;

  t.beforeEach(() => {
    warnings.length = 0;
    infos.length = 0;
  });

  t.test('generic, if the peer of a veth would lose frames that XDP sends', async (t) => {
    const machine = await started({ datapath: 'auto' });
    t.equal(attached()?.mode, 'generic');
    t.equal(machine.datapath, 'xdp (generic)');
    t.equal(new Uint8Array(words('control').buffer)[CONTROL.output], OUTPUT.generic);
    t.same(infos, [`datapath xdp (generic): ${LOST}`]);
    t.same(warnings, []);
    await machine.stop();
    nothingLeft(t);
    const asked = await started();
    t.same(warnings, [`datapath xdp (generic): ${LOST}`], 'a warning if the config asks for XDP');
    await asked.stop();
    nothingLeft(t);
  });

  t.test('native: everything is set up, and removed again', async (t) => {
    peer.run('ethtool', '-K', 'eth0', 'gro', 'on');
    const machine = await Machine.prepare(options);
    t.match(attached(), { name: 'baton_xdp', mode: 'native' });
    t.equal(machine.datapath, 'xdp (native)');
    t.same(infos, ['datapath xdp (native)']);
    const start = startOf(machine);
    t.match(start, { capacity: 1_500, indexWords: 6_144, earlier: undefined });
    const control = native().openMap({ fd: start.fds.control });
    const control32 = new Uint32Array(control.memory());
    t.equal(control32[CONTROL.layout / 4], 0, 'everything passes until the engine is there');
    t.equal(control32[CONTROL.capacity / 4], 1_500);
    t.equal(new Uint8Array(control.memory())[CONTROL.windowShift], 7);
    t.equal(new Uint16Array(control.memory())[CONTROL.mss / 2], 1_424);
    t.equal(native().openMap({ fd: start.fds.sessions }).maxEntries, 1_500);
    t.equal(native().openMap({ fd: start.fds.index }).maxEntries, 384);
    await machine.activate();
    t.equal(control32[CONTROL.layout / 4], SHARED_LAYOUT);
    t.ok(existsSync(join(pins, 'baton_xdp')) && existsSync(join(pins, 'sessions')));
    await machine.takeAddresses();
    t.match(machine.counters(), { xdp: { forwarded: 0, syn_answered: 0, index_limit: 0 } });
    t.type(machine.runTime()?.runCount, 'number');

    await t.test('MAC addresses of nodes', async (t) => {
      const nodes = words('nodes');
      const bytes = new Uint8Array(nodes.buffer);
      const at = NODE_BYTES;
      t.same([...bytes.subarray(at + NODE.address, at + NODE.address + 4)], [10, 99, 0, 4]);
      t.equal(nodes[(at + NODE.interface) / 4], 0, 'not resolved');
      machine.setNeighbour(1, NODE_MAC);
      t.equal(nodes[(at + NODE.interface) / 4], index());
      t.same([...bytes.subarray(at, at + 12)], [...NODE_MAC, ...machine.info.mac]);
      machine.setNeighbour(1, undefined);
      t.equal(nodes[(at + NODE.interface) / 4], 0);
    });

    await t.test('OUTPUT_REDIRECT follows the XDP program of the peer', async (t) => {
      machine.setNeighbour(1, NODE_MAC);
      const nodes = words('nodes');
      const ways = (): number[] => [
        new Uint8Array(control.memory())[CONTROL.output] ?? -1,
        nodes[(NODE_BYTES + NODE.redirect) / 4] ?? -1,
      ];
      const peerPrograms = (...args: string[]): string =>
        peer.run('ip', 'link', 'set', 'eth0', ...args);
      t.same(ways(), [OUTPUT.redirect, 1], 'GRO is not enough for XDP_TX');
      t.equal(native().peerRunsXdp(index()), false);
      peerPrograms('xdpdrv', 'object', PASS_ALL, 'program', 'pass_all');
      t.equal(native().peerRunsXdp(index()), true);
      await until('XDP_TX', () => ways().join() === '0,0');
      peerPrograms('xdpdrv', 'off');
      await until('redirection again', () => ways().join() === '1,1');
      // A generic program runs too late for frames that XDP_TX leaves in the ring.
      peerPrograms('xdpgeneric', 'object', PASS_ALL, 'program', 'pass_all');
      t.equal(native().peerRunsXdp(index()), false);
      peerPrograms('xdpgeneric', 'off');
      t.equal(native().peerRunsXdp(1), false, 'lo has no other end');
      t.throws(() => native().peerRunsXdp(0x7fff_fff0), { code: 'ENODEV' });
      machine.setNeighbour(1, undefined);
    });

    await t.test('detach-all while it runs', async (t) => {
      await t.rejects(detach(), {
        code: 'BATON_IN_USE',
        message: 'another balancer is running on this interface',
      });
      t.ok(attached());
    });

    await t.test('a change that another program undoes is made again', async (t) => {
      run('ip', 'link', 'set', 'dev', 'eth0', 'xdp', 'off');
      rmSync(pins, { recursive: true });
      await until('repairs', () => warnings.length >= 2);
      t.same(warnings, [
        'XDP program baton_xdp (native) was missing, and is restored',
        `pins in ${pins} was missing, and is restored`,
      ]);
      t.ok(attached());
      t.ok(existsSync(join(pins, 'control')));
    });

    await machine.stop();
    nothingLeft(t);
  });

  t.test('killed: the next start continues from there', async (t) => {
    await startAndKill();
    const left = attached();
    t.match(left, { name: 'baton_xdp', mode: 'native' });
    words('control')[CONTROL.cookieAt / 4] = 4711;
    const secret = new Uint8Array(words('control').buffer, CONTROL.secret, 32).slice();
    const machine = await Machine.prepare({
      ...options,
      farm: firstSlots({
        virtualServers: [
          httpServer('new', addressNumber(VIRTUAL), 81),
          ...options.virtualServers.slice(1),
        ],
        nodes: [
          { name: 'n9', address: addressNumber('10.99.0.9'), weight: 1 },
          ...options.nodes.slice(1),
        ],
      }),
    });
    t.equal(attached()?.id, left?.id, 'the old program works until the engine is there');
    const { earlier, ...start } = startOf(machine);
    t.same(Buffer.from(start.secret), Buffer.from(secret));
    t.equal(
      new Uint32Array(native().openMap({ fd: start.fds.control }).memory())[CONTROL.cookieAt / 4],
      4711,
    );
    t.equal(earlier?.count, 1_500);
    t.same([...(earlier?.servers ?? [])], [-1, 1], 'virtual servers by address and port');
    t.same([...(earlier?.nodes.subarray(0, 3) ?? [])], [-1, 1, -1], 'nodes by address');
    t.same(machine.earlierNeighbours(), [{ node: 1, mac: NODE_MAC }]);
    await machine.activate();
    t.not(attached()?.id, left?.id);
    t.equal(words('nodes')[(NODE_BYTES + NODE.interface) / 4], index(), 'nodes stay resolved');
    await machine.takeAddresses();
    await machine.stop();
    nothingLeft(t);
    t.same(warnings, []);
  });

  t.test('leave: everything stays, and any datapath can follow', async (t) => {
    const first = await started();
    words('control')[CONTROL.aliveAt / 4] = monotonicClock()();
    const connect = (): string => peer.run('bash', '-c', `exec 3<>/dev/tcp/${VIRTUAL}/80`);
    connect();
    t.match(first.counters().xdp, { syn_answered: 1, syn_cookie: 0 });
    first.withdrawEngine();
    connect();
    t.match(
      first.counters().xdp,
      { syn_answered: 1, syn_cookie: 1 },
      'an engine that ends gets no more events',
    );
    await first.leave();
    t.ok(attached());
    t.ok(hasPins(name));
    t.match(run('ip', '-4', 'address', 'show', 'dev', 'eth0'), `inet ${VIRTUAL}/32`);
    const packet = await started({ datapath: 'packet' });
    t.equal(packet.datapath, 'packet');
    t.equal(attached(), undefined);
    t.notOk(hasPins(name));
    await packet.leave();
    t.match(run('tc', 'filter', 'show', 'dev', 'eth0', 'ingress'), 'guard_ingress');
    const last = await started();
    t.equal(startOf(last).earlier, undefined);
    await last.stop();
    nothingLeft(t);
  });

  t.test('a start that fails ends no session of an earlier run', async (t) => {
    await startAndKill();
    const id = attached()?.id;
    const server = createServer().listen(80, '0.0.0.0');
    await once(server, 'listening');
    await t.rejects(Machine.prepare(options), { code: 'BATON_IN_USE' });
    t.same(warnings, [
      'the kernel keeps forwarding sessions: what was set up stays for the next start',
    ]);
    t.equal(attached()?.id, id);
    t.match(run('ip', '-4', 'address', 'show', 'dev', 'eth0'), `inet ${VIRTUAL}/32`);
    server.close();
    const machine = await started();
    t.not(attached()?.id, id);
    await machine.fail();
    t.ok(attached(), 'and none of its own');
    await (await started()).stop();
    nothingLeft(t);
  });

  t.test('another layout', async (t) => {
    await startAndKill();
    words('control')[CONTROL.layout / 4] = SHARED_LAYOUT + 1;
    const machine = await Machine.prepare(options);
    t.same(warnings, [
      `sessions of the earlier version cannot be taken over: their layout is ${SHARED_LAYOUT + 1}, ours is ${SHARED_LAYOUT}`,
    ]);
    t.equal(startOf(machine).earlier, undefined);
    t.same(machine.earlierNeighbours(), []);
    await machine.activate();
    await machine.takeAddresses();
    await machine.stop();
    nothingLeft(t);
  });

  t.test('detach-all', async (t) => {
    t.same(await detach(), { removed: [], left: [] });
    nothingLeft(t);
    await startAndKill();
    const { removed, left } = await detach();
    t.same(left, []);
    t.same(
      [...removed].sort(),
      [
        `address ${OTHER_VIRTUAL}/32 on eth0`,
        `address ${VIRTUAL}/32 on eth0`,
        'XDP program baton_xdp (native)',
        'clsact',
        `pins in ${pins}`,
        'tc filter guard_ingress (ingress)',
      ].sort(),
    );
    nothingLeft(t);
    await startAndKill();
    // As after a reboot, if the directory is on a disk.
    rmSync(directory, { recursive: true });
    t.equal(
      (await detach()).removed.length,
      removed.length - 1,
      'clsact may belong to another program',
    );
    run('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact');
    nothingLeft(t);
    const packet = await started({ datapath: 'packet' });
    await packet.leave();
    t.equal((await detach()).removed.length, removed.length - 2);
    nothingLeft(t);
  });

  t.test('another program stays', async (t) => {
    const stranger = loadObject('probe');
    native().attachXdp(index(), stranger.programFd('probe'), 'generic');
    const { id } = attached() ?? {};
    await t.rejects(Machine.prepare(options), {
      code: 'BATON_IN_USE',
      message: `another XDP program is attached: probe (id ${id})`,
      hint: '`ip link set dev eth0 xdp off` takes it off',
    });
    t.equal(attached()?.id, id);
    const machine = await started({ datapath: 'auto' });
    t.equal(machine.datapath, 'packet');
    t.same(warnings, [
      `datapath packet, because XDP is not available: eth0: another XDP program is attached: probe (id ${id}) (\`ip link set dev eth0 xdp off\` takes it off)`,
    ]);
    await machine.stop();
    t.same((await detach()).removed, []);
    t.equal(attached()?.id, id);
    native().detachXdp(index(), 'generic');
    stranger.close();
    nothingLeft(t);
  });

  t.test('an MTU beyond a frame of AF_XDP', async (t) => {
    run('ip', 'link', 'set', 'eth0', 'mtu', '9000');
    const occupied = snapshot();
    await t.rejects(Machine.prepare(options), {
      code: 'BATON_INTERFACE',
      where: 'eth0',
      message: /MTU/,
    });
    t.same(snapshot(), occupied);
    const machine = await started({ datapath: 'auto' });
    t.equal(machine.datapath, 'packet');
    t.match(warnings, [/^datapath packet, because XDP is not available: eth0: .*MTU/]);
    await machine.stop();
    run('ip', 'link', 'set', 'eth0', 'mtu', '1500');
    nothingLeft(t);
  });

  t.test('an interface whose driver does not support XDP', async (t) => {
    run('ip', 'link', 'add', 'br7', 'type', 'bridge');
    run('ip', 'address', 'add', '10.98.0.2/24', 'dev', 'br7');
    run('ip', 'link', 'set', 'br7', 'up');
    const machine = await started({ interface: 'br7' });
    t.equal(machine.datapath, 'xdp (generic)');
    t.match(warnings, [
      /^datapath xdp \(generic\): br7 \(driver bridge\) does not support native XDP: /,
    ]);
    await machine.stop();
    run('ip', 'link', 'del', 'br7');
    nothingLeft(t);
  });

  t.test('pins of an interface that is gone', async (t) => {
    const machine = await started();
    const stale = ['eth9-1', `eth9-${name.slice(name.lastIndexOf('-') + 1)}`].map(pinDirectory);
    for (const path of [...stale, join(PIN_ROOT, 'of another program')]) mkdirSync(path);
    await machine.leave();
    const next = await started();
    for (const path of stale) t.notOk(existsSync(path), path);
    t.ok(existsSync(join(PIN_ROOT, 'of another program')));
    rmSync(join(PIN_ROOT, 'of another program'), { recursive: true });
    await next.stop();
    nothingLeft(t);
  });
}
