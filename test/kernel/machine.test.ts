/** What a balancer changes on its machine with datapath `packet`, and how it undoes the changes. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { httpServer } from '../../lab/virtual-server.js';
import { Machine } from '../../src/balancer/machine/machine.js';
import type { MachineOptions } from '../../src/balancer/machine/options.js';
import { firstSlots } from '../../src/balancer/objects/farm.js';
import type { BatonError } from '../../src/base/errors.js';
import { DESCRIPTOR_WORDS, native } from '../../src/host/native.js';
import { insideNamespace, Peer, run, until } from './namespace.js';
import { snapshot } from './program.js';
import type { FarmConfig } from './xdp-machine.js';

const OWN = '10.99.0.2';
const PEER = '10.99.0.3';
const PEER_MAC = '02:00:00:00:00:03';
const VIRTUAL = '10.99.0.100';

/** The next check finds what these tests wait for. */
const CHECK_MS = 500;

if (insideNamespace(import.meta.url)) {
  const peer = await Peer.make('eth0', `${PEER}/24`, PEER_MAC);
  run('ip', 'address', 'add', `${OWN}/24`, 'dev', 'eth0');
  const parent = mkdtempSync(join(tmpdir(), 'baton-machine-'));
  const directory = join(parent, 'run');
  t.teardown(() => {
    peer.stop();
    rmSync(parent, { recursive: true, force: true });
  });
  const before = snapshot();
  const warnings: string[] = [];
  const lost: BatonError[] = [];
  const config: FarmConfig = {
    virtualServers: [
      httpServer('www', addressNumber(VIRTUAL), 80),
      httpServer('api', addressNumber(VIRTUAL), 8080),
    ],
    nodes: [{ name: 'n1', address: addressNumber(PEER), weight: 1 }],
  };
  const options: MachineOptions & FarmConfig = {
    interface: 'eth0',
    nodeInterface: undefined,
    address: undefined,
    key: Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex'),
    ...config,
    farm: firstSlots(config),
    datapath: 'packet',
    workers: 1,
    limits: { sessions: 1_024, halfOpen: 1_024, headBytes: 16_384 },
    log: { warn: (message) => warnings.push(message), info: () => {} },
    onLost: (error) => lost.push(error),
    journalDirectory: directory,
    checkMs: CHECK_MS,
  };
  const nothingLeft = (t: Test): void => {
    t.same(snapshot(), before);
    t.same(readdirSync(directory), []);
  };
  const index = (): number => native().interfaceInfo('eth0')?.index ?? 0;
  /** A script that runs on the peer, and its output so far. */
  const listen = (script: string): { text: () => string; stop: () => void } => {
    const child = peer.script(script);
    let text = '';
    child.stdout?.setEncoding('utf8').on('data', (part: string) => {
      text += part;
    });
    return { text: () => text, stop: () => child.kill('SIGKILL') };
  };
  /** Prints ARP packets that reach the peer. */
  const arpListener = `import('${new URL('../../src/balancer/machine/arp-port.js', import.meta.url)}').then(async (m) => {
    const { native } = await import('${new URL('../../src/host/native.js', import.meta.url)}');
    new m.ArpPort(native().interfaceInfo('eth0').index, (p) => console.log(Buffer.from(p.senderMac).toString('hex'), p.operation, p.senderAddress, p.targetAddress));
    console.log('listening');
  });`;

  t.beforeEach(() => {
    warnings.length = 0;
  });

  t.test('everything is set up in its order, and removed again', async (t) => {
    const heard = listen(arpListener);
    await until('the listener', () => heard.text().includes('listening'));
    const machine = await Machine.prepare(options);
    t.equal(machine.own.ipv4, addressNumber(OWN));
    const start = machine.engineStart();
    const filterProgramFd = start.share.filterProgramFd;
    t.ok(filterProgramFd >= 0);
    t.equal(machine.datapath, 'packet');
    const filters = run('tc', 'filter', 'show', 'dev', 'eth0', 'ingress');
    t.match(filters, /pref 1 .*guard_ingress/);
    t.equal(run('tc', 'filter', 'show', 'dev', 'eth0', 'egress'), '');
    t.notMatch(run('ip', 'address', 'show'), VIRTUAL, 'no address before the engine is there');
    await machine.takeAddresses();
    t.match(run('ip', '-4', 'address', 'show', 'dev', 'eth0'), `inet ${VIRTUAL}/32`);
    const mac = Buffer.from(machine.info.mac).toString('hex');
    const lines = (text: string): number => heard.text().split(text).length - 1;
    await until(
      'two announcements',
      () => lines(`${mac} 1 ${addressNumber(VIRTUAL)} ${addressNumber(VIRTUAL)}`) === 2,
    );
    t.equal(lines(`${mac} 1 0 ${addressNumber(VIRTUAL)}`), 3, 'after three probes');
    heard.stop();

    t.test(
      "the kernel never answers for a virtual server's port, and does for others",
      async (t) => {
        const connect = (port: number, address: string): string =>
          `require('net').connect(${port}, '${address}').on('error', (e) => { console.log(e.code); process.exit(); });`;
        const ours = listen(connect(80, VIRTUAL));
        const other = listen(connect(81, VIRTUAL));
        const own = listen(connect(80, OWN));
        await until('refusals', () => other.text() !== '' && own.text() !== '');
        await until('the third', () => machine.counters().guard.kept_virtual >= 1);
        t.equal(other.text(), 'ECONNREFUSED\n');
        t.equal(own.text(), 'ECONNREFUSED\n');
        t.equal(ours.text(), '');
        ours.stop();
      },
    );

    t.test('the filter gives a ring the frames of virtual servers, and no others', async (t) => {
      const ring = native().openPacketRing({
        interfaceIndex: index(),
        receiveBlocks: 4,
        receiveBlockBytes: 65_536,
        retireMs: 1,
        transmitSlots: 32,
        transmitSlotBytes: 2_048,
        filterProgramFd,
      });
      const seen: number[] = [];
      const bytes = new DataView(ring.memory);
      const descriptors = new Uint32Array(64 * DESCRIPTOR_WORDS);
      ring.start(() => {
        const count = ring.receive(descriptors);
        for (let at = 0; at < count; at++)
          seen.push(bytes.getUint16((descriptors[at * DESCRIPTOR_WORDS] ?? 0) + 36));
        ring.flush(descriptors, 0);
      });
      const source = `for (const [p, a] of [[81, '${VIRTUAL}'], [80, '${OWN}'], [80, '${VIRTUAL}'], [8080, '${VIRTUAL}']]) require('net').connect(p, a).on('error', () => {});`;
      const client = listen(source);
      await until('both virtual servers', () => seen.includes(80) && seen.includes(8080));
      t.same(new Set(seen), new Set([80, 8080]));
      client.stop();
      ring.close();
    });

    t.test('a second balancer on this interface', async (t) => {
      const set = snapshot();
      await t.rejects(Machine.prepare(options), {
        code: 'BATON_IN_USE',
        message: 'another balancer is running on this interface',
      });
      t.same(snapshot(), set);
    });

    t.test('a change that another program undoes is made again', async (t) => {
      run('ip', 'address', 'del', `${VIRTUAL}/32`, 'dev', 'eth0');
      run('tc', 'filter', 'del', 'dev', 'eth0', 'ingress', 'pref', '1');
      await until('repairs', () => warnings.length >= 2);
      t.same(warnings, [
        'tc filter guard_ingress (ingress) was missing, and is restored',
        `address ${VIRTUAL}/32 on eth0 was missing, and is restored`,
      ]);
    });

    t.test('stop', async (t) => {
      await machine.stop();
      nothingLeft(t);
      t.throws(() => machine.counters(), { message: 'the balancer has stopped' });
    });
  });

  t.test('an address that another machine has', async (t) => {
    peer.run('ip', 'address', 'add', `${VIRTUAL}/32`, 'dev', 'eth0');
    await t.rejects(Machine.prepare(options), {
      code: 'BATON_IN_USE',
      message: `${VIRTUAL} is already in use by ${PEER_MAC}`,
    });
    nothingLeft(t);
    peer.run('ip', 'address', 'del', `${VIRTUAL}/32`, 'dev', 'eth0');
  });

  t.test('an address that another machine is about to take', async (t) => {
    const script = `Promise.all([import('${new URL('../../src/balancer/machine/arp-port.js', import.meta.url)}'), import('${new URL('../../src/host/native.js', import.meta.url)}'), import('${new URL('../../src/wire/arp.js', import.meta.url)}')]).then(([m, n, a]) => {
      const info = n.native().interfaceInfo('eth0');
      const port = new m.ArpPort(info.index);
      setInterval(() => port.send(a.buildArpRequest(info.mac, 0, ${addressNumber(VIRTUAL)})), 50);
      console.log('probing');
    });`;
    const other = listen(script);
    await until('the other', () => other.text().includes('probing'));
    await t.rejects(Machine.prepare(options), {
      message: `${VIRTUAL} is already in use by ${PEER_MAC}`,
    });
    other.stop();
    nothingLeft(t);
  });

  t.test('a port that is bound', async (t) => {
    const bind = (host: string, port: number, ipv6Only = false): Promise<Server> =>
      new Promise((resolve) => {
        const server = createServer().listen({ host, port, ipv6Only }, () => resolve(server));
      });
    const close = (server: Server): Promise<void> =>
      new Promise((resolve) => server.close(() => resolve()));
    const own = await bind(OWN, 80);
    const onlyIpv6 = await bind('::', 8080, true);
    const machine = await Machine.prepare(options);
    await machine.stop();
    t.pass("the machine's own address and IPv6 are others");
    await close(own);
    await close(onlyIpv6);

    const any = await bind('0.0.0.0', 80);
    const holder = `${readFileSync('/proc/self/comm', 'utf8').trim()} (process ${process.pid})`;
    await t.rejects(Machine.prepare(options), {
      code: 'BATON_IN_USE',
      message: `port 80 of every address is already bound by ${holder}, and virtual server www is ${VIRTUAL}:80`,
    });
    await close(any);
    const both = await bind('::', 8080);
    await t.rejects(Machine.prepare(options), {
      message: /^port 8080 of every address is already bound by /,
    });
    await close(both);
    run('ip', 'address', 'add', `${VIRTUAL}/32`, 'dev', 'lo');
    const virtual = await bind(VIRTUAL, 8080);
    await t.rejects(Machine.prepare(options), {
      message: /^port 8080 of 10\.99\.0\.100 is already bound by /,
    });
    await close(virtual);
    run('ip', 'address', 'del', `${VIRTUAL}/32`, 'dev', 'lo');
    nothingLeft(t);
  });

  t.test('a start that fails late', async (t) => {
    run('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact');
    const { loadObject } = await import('../../src/host/bpf-object.js');
    const shim = loadObject('shim');
    shim.attachTc('shim_ingress', index(), 'ingress', 1, 7);
    const occupied = snapshot();
    await t.rejects(Machine.prepare(options), {
      code: 'BATON_IN_USE',
      message: 'tc filters with priority 1 at ingress belong to another program (shim_ingress)',
    });
    t.same(snapshot(), occupied);
    shim.close();
    run('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact');
    nothingLeft(t);
    await t.rejects(Machine.prepare({ ...options, interface: 'eth9' }), {
      code: 'BATON_INTERFACE',
    });
    nothingLeft(t);
  });

  t.test('killed, started, stopped: as it was', async (t) => {
    const { log: _, onLost: __, key, ...plain } = options;
    const given = JSON.stringify({ ...plain, key: [...key] });
    const script = `import('${new URL('../../src/balancer/machine/machine.js', import.meta.url)}').then(async (m) => {
      const given = ${given};
      const machine = await m.Machine.prepare({ ...given, key: Uint8Array.from(given.key), log: { warn: console.log, info: () => {} } });
      await machine.takeAddresses();
      console.log('taken');
      setInterval(() => {}, 1000);
    });`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = new Promise((resolve) => child.once('exit', resolve));
    await new Promise((resolve) => child.stdout.once('data', resolve));
    child.kill('SIGKILL');
    await exited;
    t.match(run('ip', '-4', 'address', 'show', 'dev', 'eth0'), `inet ${VIRTUAL}/32`);
    // The second request is answered. An answer to the first would have come before.
    const asking = listen(
      `for (const port of [80, 81]) require('net').connect(port, '${VIRTUAL}').on('error', (e) => console.log(port, e.code));`,
    );
    await until('the answer of another port', () => asking.text().includes('81'));
    t.equal(
      asking.text(),
      '81 ECONNREFUSED\n',
      'the kernel does not answer, even after the balancer died',
    );
    asking.stop();
    const machine = await Machine.prepare(options);
    t.match(run('ip', '-4', 'address', 'show', 'dev', 'eth0'), `inet ${VIRTUAL}/32`);
    await machine.takeAddresses();
    await machine.stop();
    nothingLeft(t);
    t.same(warnings, []);
  });

  t.test('an interface that goes away', async (t) => {
    const machine = await Machine.prepare(options);
    await machine.takeAddresses();
    run('ip', 'link', 'del', 'eth0');
    await until('the loss', () => lost.length === 1);
    t.equal(lost[0]?.toLine(), 'eth0: the interface is gone (start the balancer again)');
    await machine.stop();
    t.same(readdirSync(directory), []);
  });
}
