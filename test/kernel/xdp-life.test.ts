/**
 * AF_XDP when things end or go wrong: interfaces, callers, sizes; and XDP on a veth.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { PATIENCE_MS } from '../../lab/patience.js';
import { Port } from '../../src/datapath/datapath.js';
import { LARGEST_XDP_MTU, openXdpDatapath, xdpPoolOptions } from '../../src/datapath/xdp.js';
import { native, type XdpMode, type XdpRing } from '../../src/host/native.js';
import { insideNamespace, macOf, outputOf, Peer, run, until } from './namespace.js';
import {
  collector,
  MTU,
  NODE_MAC,
  now,
  RingFarm,
  type Seen,
  VIRTUAL,
  writeUdp,
} from './ring-farm.js';
import { loadPrograms, word, XdpSetup } from './xdp-farm.js';

const FRAMES = 128;
/** Without an answer after this long, there is none. */
const SILENCE_MS = 1500;

/** The number of mapped frame memories in this process. */
function pools(): number {
  const regions = new Set<string>();
  for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
    const inode = /(\d+) +\/memfd:baton-frames/.exec(line)?.[1];
    if (inode !== undefined) regions.add(inode);
  }
  return regions.size;
}

/** Sends a request longer than a segment, and reports whether an answer came in time (ms). */
const TCP_BYTES = `
const socket = require('node:net').connect({ host: process.argv[1], port: 80 }, () => socket.write(Buffer.alloc(30000, 'x')));
socket.on('data', () => { console.log('answered'); process.exit(); });
setTimeout(() => { console.log('silence'); process.exit(); }, Number(process.argv[2]));
`;
/** Answers when the whole request has arrived. */
const ANSWER = `
require('node:net').createServer((socket) => {
  let bytes = 0;
  socket.on('data', (part) => { bytes += part.length; if (bytes === 30000) socket.write('all'); }).on('error', () => {});
})
  .listen(80, () => console.log('listening'));
`;

if (insideNamespace(import.meta.url)) {
  const farm = await RingFarm.make();
  const programs = loadPrograms();
  t.teardown(() => farm.stop());
  const openRing = (pool: number): XdpRing => native().openXdpRing({ pool, worker: 0 });

  t.test('an interface may go down and come up again', async (t) => {
    const setup = new XdpSetup(programs, farm.e1, 'native');
    const datapath = setup.open();
    const seen: Seen[] = [];
    const sink = collector(datapath, seen);
    let wakeups = 0;
    datapath.start(() => {
      wakeups++;
      datapath.poll(sink, now);
    });
    const send = (): void => {
      const room = datapath.reserve(80);
      writeUdp(datapath, room, 80, 1);
      datapath.commit(room, 80, Port.wire);
      datapath.flush();
    };
    run('ip', 'link', 'set', 'e1', 'down');
    await sleep(50);
    send();
    for (let i = 0; i < 5000; i++) send();
    t.match(
      datapath.stats(),
      { 2: 0, 3: 5000 },
      'frames that cannot be sent are counted, except for the frame that found it out',
    );
    t.equal(datapath.transmitRingFull, 0);
    t.ok(wakeups < 10, 'and it does not spin');
    run('ip', 'link', 'set', 'e1', 'up');
    send();
    t.ok((datapath.stats()[2] ?? 0) >= 1);
    await farm.sendUdp(6);
    await until('a frame', () => seen.length > 0);
    setup.close();
  });

  t.test('an interface may go away', async (t) => {
    const peer = await Peer.make('x0', '10.78.0.2/24', '02:00:00:00:00:09');
    const index = native().interfaceInfo('x0')?.index ?? 0;
    const setup = new XdpSetup(programs, index, 'native', 1, {}, 'x0');
    const datapath = setup.open();
    let wakeups = 0;
    datapath.start(() => {
      wakeups++;
      datapath.poll({ receive: () => {}, tick: () => {} }, now);
    });
    run('ip', 'link', 'del', 'x0');
    await sleep(50);
    for (let i = 0; i < 3; i++) {
      const room = datapath.reserve(80);
      writeUdp(datapath, room, 80, 1);
      datapath.commit(room, 80, Port.wire);
      datapath.flush();
    }
    t.match(datapath.stats(), { 2: 0, 3: 2 });
    t.ok(wakeups < 10, 'it does not spin');
    datapath.close();
    setup.pool.close();
    peer.stop();
  });

  t.test('memory is unmapped after close, whatever the order of closing', async (t) => {
    t.equal(pools(), 0);
    const setup = new XdpSetup(programs, farm.e1, 'native');
    const ring = openRing(setup.pool.id);
    let calls = 0;
    ring.start(() => {
      calls++;
      ring.close();
      ring.close();
    });
    t.throws(() => ring.start(() => {}), TypeError);
    const bytes = new Uint8Array(ring.memory);
    await farm.sendUdp(6, 6, 6);
    await until('a call', () => calls > 0);
    await sleep(20);
    t.equal(calls, 1);
    t.equal(bytes.length, 0, 'detached');
    for (const use of [
      () => ring.receive(new Uint32Array(4)),
      () => ring.flush(new Uint32Array(4), 0),
      () => ring.refill(),
    ]) {
      t.throws(use, /closed/);
    }
    t.equal(pools(), 1, 'the pool has it still');

    const other = openRing(setup.pool.id);
    setup.close();
    t.equal(pools(), 1, 'so does a ring');
    t.throws(() => openRing(setup.pool.id), { code: 'ENOENT' });
    other.flush(new Uint32Array(4), 0);
    other.close();
    t.equal(pools(), 0);

    const closing = new XdpSetup(programs, farm.e1, 'native');
    const datapath = closing.open();
    await farm.sendUdp(6, 6);
    let frames = 0;
    const sink = {
      receive: () => {
        frames++;
        datapath.close();
      },
      tick: () => {},
    };
    t.equal(datapath.poll(sink, now), false, 'closed in the middle of a batch');
    t.equal(frames, 2);
    t.equal(datapath.memory.bytes.length, 0);
    t.equal(datapath.stats()[0], 2);
    closing.close();
  });

  t.test('wrong arguments are errors, or counted', async (t) => {
    const options = { ...xdpPoolOptions(native(), { name: 'e1', index: farm.e1, mtu: MTU }, 1) };
    const wrong = [
      { frameBytes: 3000 },
      { queues: 0 },
      { queues: 65 },
      { workers: 9 },
      { framesPerQueue: 7 },
      { transmitQueues: 2 },
      { framesPerQueue: 4e6 },
    ];
    for (const change of wrong) {
      t.throws(
        () => native().createXdpPool({ ...options, ...change }),
        { code: 'EINVAL' },
        JSON.stringify(change),
      );
    }
    t.throws(() => native().createXdpPool({ ...options, interfaceIndex: 9999 }), {
      code: 'ENODEV',
    });
    t.throws(() => native().createXdpPool({ ...options, queues: 2 }), {
      code: 'EINVAL',
      message: /queue 1/,
    });
    t.equal(pools(), 0);

    const setup = new XdpSetup(programs, farm.e1, 'native', 1, { framesPerQueue: FRAMES });
    t.throws(() => native().openXdpRing({ pool: setup.pool.id, worker: 1 }), {
      code: 'EINVAL',
    });
    const ring = openRing(setup.pool.id);
    t.throws(() => ring.flush(new Uint32Array(4), 2), TypeError);
    t.throws(() => ring.receive(new Float64Array(4) as unknown as Uint32Array), TypeError);
    const free = new Uint32Array(ring.memory, ring.freeOffset, ring.freeWords);
    const count = free[0] ?? 0;
    t.equal(count, FRAMES / 4, 'a quarter of the frames');
    const own = free[count] ?? 0;
    const foreign =
      Array.from({ length: FRAMES }, (_, i) => i * 2048).find((at) => !free.includes(at, 1)) ?? 0;
    const descriptors = [
      [foreign, 80, 0, 0], // of another worker
      [0xfffffff0, 80, 0, 0], // outside
      [FRAMES * 2048, 80, 0, 0], // the free lists
      [own + 2000, 80, 0, 0], // beyond the end of the frame
      [own, 13, 0, 0], // shorter than an Ethernet header
      [own, 80, 0, 0],
      [own, 80, 0, 0], // sent already
    ];
    free[0] = count - 1;
    t.equal(ring.flush(Uint32Array.from(descriptors.flat()), descriptors.length), 0);
    t.match(ring.stats(new Float64Array(6)), { 2: 1, 3: 6 });
    free[0] = 0xffff;
    ring.refill();
    t.equal(free[0], FRAMES / 4, 'a count that makes no sense is not believed');
    setup.close();
    ring.close();
  });

  t.test('frames are as large as the MTU needs', async (t) => {
    const on = (mtu: number) => xdpPoolOptions(native(), { name: 'e1', index: farm.e1, mtu }, 1);
    t.match(on(1500), { frameBytes: 2048, framesPerQueue: 12_288, queues: 1, transmitQueues: 1 });
    t.match(on(1778), { frameBytes: 2048 });
    t.match(on(1779), { frameBytes: 4096 });
    t.match(on(LARGEST_XDP_MTU), { frameBytes: 4096 });
    t.throws(() => on(9000), { code: 'BATON_INTERFACE', where: 'e1', hint: /packet/ });

    const peer = await Peer.make('x0', '10.78.0.2/24', '02:00:00:00:00:09');
    peer.run('ip', 'link', 'set', 'eth0', 'mtu', '3000');
    run('ip', 'link', 'set', 'x0', 'mtu', '3000', 'address', '02:00:00:00:00:08');
    peer.run('ip', 'neighbour', 'add', '10.78.0.1', 'lladdr', '02:00:00:00:00:08', 'dev', 'eth0');
    const index = native().interfaceInfo('x0')?.index ?? 0;
    const pool = native().createXdpPool(
      xdpPoolOptions(native(), { name: 'x0', index, mtu: 3000 }, 1),
    );
    programs.mapUpdate('xsks', word(0), word(pool.socketFds[0]?.[0] ?? -1));
    native().attachXdp(index, programs.programFd('steer'), 'native');
    const datapath = openXdpDatapath(native(), pool.id, 0);
    const seen: Seen[] = [];
    datapath.start(() => datapath.poll(collector(datapath, seen), now));
    const source = `const s = require('node:dgram').createSocket('udp4'); s.send(Buffer.alloc(2900, 'l'), 9, '10.78.0.1', () => s.close());`;
    await outputOf(peer.script(source));
    await until('a large frame', () => seen.length === 1);
    t.equal(seen[0]?.length, 2942);
    datapath.close();
    pool.close();
    peer.stop();
  });

  t.test("a veth's peer accepts frames sent with XDP_TX only if it polls", async (t) => {
    programs.mapUpdate('target', word(0), Uint8Array.of(...macOf(NODE_MAC), 0, 0));
    programs.mapUpdate('ports', word(farm.e1), word(farm.e1));
    const p1 = native().interfaceInfo('p1')?.index ?? 0;
    const server = farm.node.script(ANSWER);
    await new Promise((resolve) => server.stdout?.once('data', resolve));
    const goes = async (
      what: string,
      program: string,
      mode: XdpMode,
      expected: 'answered' | 'silence',
    ): Promise<void> => {
      native().attachXdp(farm.e1, programs.programFd(program), mode);
      const waitMs = expected === 'answered' ? PATIENCE_MS : SILENCE_MS;
      const said = await outputOf(farm.client.script(TCP_BYTES, VIRTUAL, String(waitMs)));
      native().detachXdp(farm.e1, mode);
      t.equal(said.trim(), expected, what);
    };
    const offloads = (state: string) =>
      farm.client.run('ethtool', '-K', 'eth0', 'tx', state, 'tso', state, 'gso', state);
    await goes('generic: unfinished and uncut segments included', 'turn', 'generic', 'answered');
    offloads('off');
    await goes('native: lost', 'turn', 'native', 'silence');
    run('ethtool', '-K', 'p1', 'gro', 'on');
    await goes('redirected to itself: taken with GRO', 'turn_redirected', 'native', 'answered');
    run('ethtool', '-K', 'p1', 'gro', 'off');
    native().attachXdp(p1, programs.programFd('pass'), 'native');
    await goes('taken by a peer with a program', 'turn', 'native', 'answered');
    offloads('on');
    await goes('but checksums stay unfinished', 'turn', 'native', 'silence');
    native().detachXdp(p1, 'native');
    server.kill();
  });
}
