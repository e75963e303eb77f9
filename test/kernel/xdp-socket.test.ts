/** AF_XDP sockets and the xdp datapath on a real kernel: frames in, frames out. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { FrameFlags, type FrameSink, Port } from '../../src/datapath/datapath.js';
import type { XdpDatapath } from '../../src/datapath/xdp.js';
import { native, type XdpMode } from '../../src/host/native.js';
import { insideNamespace, outputOf, run, until } from './namespace.js';
import {
  collector,
  IPV4_PROTOCOL,
  now,
  RingFarm,
  type Seen,
  UDP,
  UDP_PAYLOAD,
  VIRTUAL,
  writeUdp,
} from './ring-farm.js';
import { forwarder, upload, uploadDigest } from './upload.js';
import { loadPrograms, XdpSetup } from './xdp-farm.js';

const UPLOAD_BYTES = 20_000_000;
/** More than all frames of a queue. */
const FLOOD = 20_000;
/** Frames for receiving, some of which may be on a free list for sending. */
const RECEIVE_FRAMES = 8_192;
const LISTED = 512;

/** Sends many datagrams of 100 bytes, and one of 200 at the end. */
const FLOOD_UDP = `
const [address, count] = process.argv.slice(1);
const socket = require('node:dgram').createSocket('udp4');
const send = (left) => socket.send(Buffer.alloc(left > 0 ? 100 : 200, 'f'), 9, address, () => left > 0 ? send(left - 1) : socket.close());
send(Number(count) - 1);
`;

/** A worker in a thread, which reports the lengths of its datagrams. */
const THREAD = `
const { createRequire } = require('node:module');
const { parentPort, workerData } = require('node:worker_threads');
const addon = createRequire(workerData.file)('../../../build/Release/baton.node');
const ring = addon.openXdpRing({ pool: workerData.pool, worker: workerData.worker });
const descriptors = new Uint32Array(4096);
const view = new DataView(ring.memory);
ring.start(() => {
  const count = ring.receive(descriptors);
  for (let i = 0; i < count; i++) parentPort.postMessage(view.getUint16(descriptors[4 * i] + 38) - 8);
  ring.flush(descriptors, 0);
});
parentPort.postMessage('open');
`;

/** Forwards until it is closed. */
function pump(datapath: XdpDatapath, sink: FrameSink): void {
  const again = (): void => {
    if (datapath.poll(sink, now)) setImmediate(again);
  };
  datapath.start(again);
}

if (insideNamespace(import.meta.url)) {
  const farm = await RingFarm.make();
  const programs = loadPrograms();
  t.teardown(() => farm.stop());

  const setUp = (
    t: { teardown(end: () => void): unknown },
    mode: XdpMode,
    workers = 1,
  ): XdpSetup => {
    const setup = new XdpSetup(programs, farm.e1, mode, workers);
    t.teardown(() => setup.close());
    return setup;
  };
  /** The datagrams of the node, up to one that begins with 255. */
  const listen = async (): Promise<{ tags: Promise<number[]> }> => {
    const { heard } = await farm.listen();
    return { tags: heard.then((all) => all.map(({ tag }) => tag)) };
  };
  const build = (datapath: XdpDatapath, tag: number, length = 80): boolean => {
    const room = datapath.reserve(length);
    if (room < 0) return false;
    writeUdp(datapath, room, length, tag);
    datapath.commit(room, length, Port.wire);
    return true;
  };

  for (const mode of ['native', 'generic'] as const) {
    t.test(`${mode}: frames arrive, and unfinished checksums are detected`, async (t) => {
      const setup = setUp(t, mode);
      const datapath = setup.open();
      const seen: Seen[] = [];
      const sink = collector(datapath, seen);
      let frames = 0;
      pump(datapath, {
        receive: (...frame) => {
          frames++;
          sink.receive(...frame);
        },
        tick: () => {},
      });
      await farm.sendUdp(6, 1000);
      await until('two frames', () => seen.length === 2);
      t.match(seen[0], { length: UDP_PAYLOAD + 6, payload: 'bbbbbb' });
      t.match(seen[1], { length: UDP_PAYLOAD + 1000, payload: 'b'.repeat(1000) });
      // The client's kernel may also send frames of its own, ARP for example.
      t.match(datapath.stats(), { 0: frames, 1: 0 });
      setup.close();
    });

    t.test(
      `${mode}: a connection is forwarded completely, many times round all rings`,
      async (t) => {
        // Generic XDP gets unsegmented data, which is too large for a frame.
        if (mode === 'generic')
          farm.client.run('ethtool', '-K', 'eth0', 'tso', 'off', 'gso', 'off');
        const setup = setUp(t, mode);
        const datapath = setup.open();
        let unfinished = 0;
        let frames = 0;
        const sink = forwarder(datapath, (_length, flags) => {
          frames++;
          if ((flags & FrameFlags.checksumPartial) !== 0) unfinished++;
        });
        pump(datapath, sink);
        t.equal(await upload(farm, UPLOAD_BYTES), uploadDigest(UPLOAD_BYTES));
        t.comment(`${frames} frames, ${unfinished} unfinished, ${datapath.stats()}`);
        t.ok(unfinished >= frames - 3, 'the sender left checksums to hardware that is not there');
        t.match(datapath.stats(), { 1: 0, 2: frames, 3: 0 });
        t.equal(datapath.transmitRingFull, 0);
        farm.client.run('ethtool', '-K', 'eth0', 'tx', 'off');
        const before = unfinished;
        t.equal(await upload(farm, 1_000_000), uploadDigest(1_000_000));
        t.ok(unfinished - before <= 3, 'finished ones are known as such');
        setup.close();
        farm.client.run('ethtool', '-K', 'eth0', 'tx', 'on', 'tso', 'on', 'gso', 'on');
      },
    );
  }

  t.test('frames built here arrive in order, even without room for all', async (t) => {
    const setup = setUp(t, 'native');
    const datapath = setup.open();
    const heard = await listen();
    const expected: number[] = [];
    for (let i = 0; i < 5000; i++) {
      if (!build(datapath, i % 250)) {
        datapath.flush();
        t.equal(build(datapath, i % 250), true, 'a flush makes room');
      }
      expected.push(i % 250);
    }
    build(datapath, 255);
    datapath.flush();
    t.same(await heard.tags, [...expected, 255]);
    t.match(datapath.stats(), { 2: 5001, 3: 0 });
    t.ok(datapath.transmitRingFull > 0, 'and was counted');
    t.equal(datapath.reserve(2048) >= 0, true);
    t.equal(datapath.reserve(2049), -1);
    t.equal(datapath.transmitTooLong, 1);
    const room = datapath.reserve(80);
    t.throws(() => datapath.commit(room + 1, 80, Port.wire), RangeError);
    setup.close();
  });

  t.test('built and received frames leave in the order in which they were sent', async (t) => {
    const setup = setUp(t, 'native');
    const datapath = setup.open();
    const heard = await listen();
    let number = 0;
    pump(datapath, {
      receive: (offset) => {
        if (datapath.memory.bytes[offset + IPV4_PROTOCOL] !== UDP) return;
        build(datapath, number++);
        writeUdp(datapath, offset, 80, number++);
        datapath.forward(offset, 80, 0, Port.wire);
        if (number === 20) build(datapath, 255);
      },
      tick: () => {},
    });
    await farm.sendUdp(...Array.from({ length: 10 }, () => 100));
    t.same(await heard.tags, [...Array.from({ length: 20 }, (_, i) => i), 255]);
    setup.close();
  });

  t.test('during a flood, lost frames are counted, and nothing else is lost', async (t) => {
    const setup = setUp(t, 'native');
    const datapath = setup.open();
    const seen: Seen[] = [];
    const sink = collector(datapath, seen);
    for (let round = 0; round < 3; round++) {
      await outputOf(farm.client.script(FLOOD_UDP, VIRTUAL, String(FLOOD)));
      const [before = 0] = datapath.stats();
      while (datapath.poll(sink, now)) await sleep(0);
      const [received = 0, lost = 0] = datapath.stats();
      const taken = received - before;
      t.ok(taken <= RECEIVE_FRAMES && taken >= RECEIVE_FRAMES - LISTED, `${taken} received`);
      t.ok(lost >= (round + 1) * (FLOOD - RECEIVE_FRAMES), `${lost} lost`);
    }
    pump(datapath, sink);
    seen.length = 0;
    await farm.sendUdp(6, 8);
    await until('two more', () => seen.length === 2);
    let rooms = 0;
    while (build(datapath, 1)) rooms++;
    t.ok(rooms >= 512, `${rooms} frames to send from are left`);
    setup.close();
  });

  t.test('workers share a queue, each with the frames that the program gives it', async (t) => {
    const setup = setUp(t, 'native', 2);
    const [even, odd] = [setup.open(0), setup.open(1)];
    const seen: Seen[][] = [[], []];
    pump(even, collector(even, seen[0] ?? []));
    pump(odd, collector(odd, seen[1] ?? []));
    t.throws(() => setup.open(1), { code: 'EBUSY' });
    await farm.sendUdp(10, 11, 12, 13, 15, 17);
    await until('all frames', () => seen[0]?.length === 2 && seen[1]?.length === 4);
    const lengths = (list: Seen[] | undefined): number[] =>
      (list ?? []).map((one) => one.length - UDP_PAYLOAD);
    t.same(seen.map(lengths), [
      [10, 12],
      [11, 13, 15, 17],
    ]);
    const heard = await listen();
    for (let i = 0; i < 100; i++) {
      build(even, 1);
      build(odd, 2);
    }
    even.flush();
    build(odd, 255);
    odd.flush();
    t.same(await heard.tags, [...new Array(100).fill(1), ...new Array(100).fill(2), 255]);

    odd.close();
    const again = setup.open(1);
    const more: Seen[] = [];
    pump(again, collector(again, more));
    await farm.sendUdp(21, 20);
    await until('a frame each', () => more.length === 1 && seen[0]?.length === 3);
    setup.close();
  });

  t.test('workers in threads, which may end at any time', async (t) => {
    const setup = setUp(t, 'native', 2);
    for (let round = 0; round < 3; round++) {
      const heard: unknown[][] = [[], []];
      const threads = [0, 1].map((worker) => {
        const thread = new Worker(THREAD, {
          eval: true,
          workerData: { file: import.meta.url, pool: setup.pool.id, worker },
        });
        thread.on('message', (message) => heard[worker]?.push(message));
        return thread;
      });
      await until('both are open', () => heard.every((one) => one.length > 0));
      await farm.sendUdp(...Array.from({ length: 300 }, (_, i) => 100 + i));
      await until('all frames', () => heard.every((one) => one.length === 151));
      t.same(heard[0], ['open', ...Array.from({ length: 150 }, (_, i) => 100 + 2 * i)]);
      t.same(heard[1], ['open', ...Array.from({ length: 150 }, (_, i) => 101 + 2 * i)]);
      await Promise.all(threads.map((thread) => thread.terminate()));
    }
    const datapath = setup.open(1);
    let rooms = 0;
    while (build(datapath, 1)) rooms++;
    t.ok(rooms >= 512, 'their frames came back');
    setup.close();
  });

  t.test('onBatch runs before the frames of a batch are read', async (t) => {
    const setup = setUp(t, 'native');
    const datapath = setup.open();
    const order: string[] = [];
    datapath.onBatch = (at) => order.push(`batch ${at}`);
    await farm.sendUdp(6);
    const sink: FrameSink = {
      receive: () => order.push('frame'),
      tick: (at) => order.push(`tick ${at}`),
    };
    datapath.poll(sink, () => 7);
    t.same(order, ['batch 7', 'frame', 'tick 7']);
    setup.close();
  });

  t.test('a queue without a transmit queue of its number sends through another', async (t) => {
    run(
      'ip',
      'link',
      'add',
      'm1',
      'numrxqueues',
      '2',
      'numtxqueues',
      '1',
      'type',
      'veth',
      'peer',
      'name',
      'm2',
    );
    run('ip', 'link', 'set', 'm1', 'up');
    run('ip', 'link', 'set', 'm2', 'master', 'br0', 'up');
    const index = native().interfaceInfo('m1')?.index ?? 0;
    t.same([native().receiveQueues('m1'), native().transmitQueues('m1')], [2, 1]);
    const setup = new XdpSetup(programs, index, 'native', 1, {}, 'm1');
    t.equal(setup.pool.socketFds.length, 2);
    const datapath = setup.open();
    const heard = await listen();
    const sizes: number[] = [];
    pump(datapath, {
      receive: (offset, length, flags) => {
        sizes.push(length);
        build(datapath, sizes.length);
        datapath.forward(offset, length, flags, Port.wire);
        if (sizes.length === 20) build(datapath, 255);
      },
      tick: () => {},
    });
    const frame = new Uint8Array(datapath.memory.bytes.buffer, datapath.reserve(80), 80);
    writeUdp(datapath, frame.byteOffset, 80, 99);
    const sample = frame.slice();
    for (const queue of [0, 1]) {
      programs.testRunXdp('steer', sample, { ingressIndex: index, queue, repeat: 10, live: true });
    }
    const tags = await heard.tags;
    t.equal(sizes.length, 20);
    t.equal(tags.filter((tag) => tag === 99).length, 20, 'forwarded ones of both queues');
    t.same(
      tags.filter((tag) => tag !== 99),
      [...Array.from({ length: 20 }, (_, i) => i + 1), 255],
    );
    setup.close();
    run('ip', 'link', 'del', 'm1');
  });

  t.test('a queue belongs to one pool at a time', async (t) => {
    const setup = setUp(t, 'native');
    t.throws(() => setUp(t, 'native'), { code: 'EBUSY', syscall: 'bind' });
    setup.close();
    setUp(t, 'generic').close();
    setUp(t, 'native').close();
  });
}
