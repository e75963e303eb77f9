/** The packet ring when things end or go wrong: interfaces, callers, threads. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { Port } from '../../src/datapath/datapath.js';
import { native, type PacketRing } from '../../src/host/native.js';
import { insideNamespace, run, until } from './namespace.js';
import { collector, now, RingFarm, type Seen, writeUdp } from './ring-farm.js';

function packetSockets(): number {
  return readFileSync('/proc/net/packet', 'utf8').trim().split('\n').length - 1;
}

if (insideNamespace(import.meta.url)) {
  const farm = await RingFarm.make();
  t.teardown(() => farm.stop());

  t.test('an interface may go down and come up again', async (t) => {
    const datapath = farm.open();
    const seen: Seen[] = [];
    const sink = collector(datapath, seen);
    let wakeups = 0;
    datapath.start(() => {
      wakeups++;
      datapath.poll(sink, now);
    });
    run('ip', 'link', 'set', 'e1', 'down');
    await sleep(50);
    const room = datapath.reserve(80);
    writeUdp(datapath, room, 80, 1);
    datapath.commit(room, 80, Port.wire);
    datapath.flush();
    t.equal(datapath.stats()[3], 1, 'a frame that cannot be sent is counted');
    t.ok(wakeups < 10, 'and it does not spin');
    run('ip', 'link', 'set', 'e1', 'up');
    await farm.sendUdp(5);
    await until('a frame', () => seen.length > 0);
    datapath.close();
  });

  t.test('memory is unmapped after close, whatever the order of closing', async (t) => {
    const before = packetSockets();
    const ring: PacketRing = native().openPacketRing(farm.options());
    let calls = 0;
    ring.start(() => {
      calls++;
      ring.close();
      ring.close();
    });
    t.equal(packetSockets(), before + 2);
    const bytes = new Uint8Array(ring.memory);
    t.throws(() => ring.start(() => {}), TypeError);
    await farm.sendUdp(5, 5, 5);
    await until('a call', () => calls > 0);
    await sleep(20);
    t.equal(calls, 1);
    t.equal(bytes.length, 0, 'detached');
    t.throws(() => ring.receive(new Uint32Array(4)), /closed/);
    t.throws(() => ring.flush(new Uint32Array(4), 0), /closed/);
    t.equal(packetSockets(), before);
  });

  t.test('wrong arguments are errors', async (t) => {
    t.throws(() => native().openPacketRing(farm.options({ interfaceIndex: 9999 })), {
      code: 'ENODEV',
      syscall: 'bind',
    });
    t.throws(() => native().openPacketRing(farm.options({ transmitSlotBytes: 1000 })), {
      code: 'EINVAL',
    });
    t.throws(() => native().openPacketRing(farm.options({ filterProgramFd: 99 })), {
      code: 'EBADF',
    });
    const ring = native().openPacketRing(farm.options());
    t.throws(() => ring.flush(new Uint32Array(4), 2), TypeError);
    t.throws(() => ring.receive(new Float64Array(4) as unknown as Uint32Array), TypeError);
    ring.flush(Uint32Array.of(0xfffffff0, 100, 0, 0, 4, 100, 0, 0, 4096, 3, 0, 0), 3);
    t.equal(ring.stats(new Float64Array(6))[3], 3, 'frames outside of the memory are not sent');
    ring.close();
  });

  t.test('the ring of a thread that ends is closed', async (t) => {
    const before = packetSockets();
    const source = `
      const { createRequire } = require('node:module');
      const { parentPort, workerData } = require('node:worker_threads');
      const addon = createRequire(workerData.file)(workerData.addon);
      const ring = addon.openPacketRing(workerData.options);
      const socket = addon.openRawSocket(254);
      socket.start(() => {});
      ring.start(() => { ring.receive(new Uint32Array(1024)); ring.flush(new Uint32Array(4), 0); parentPort.postMessage('frame'); });
      parentPort.postMessage('open');
    `;
    const addon = '../../../build/Release/baton.node';
    for (let i = 0; i < 3; i++) {
      const worker = new Worker(source, {
        eval: true,
        workerData: { file: import.meta.url, addon, options: farm.options() },
      });
      const messages: string[] = [];
      worker.on('message', (message: string) => messages.push(message));
      await until('the ring is open', () => messages.includes('open'));
      t.equal(packetSockets(), before + 2);
      await farm.sendUdp(5, 5);
      await until('a frame', () => messages.includes('frame'));
      await worker.terminate();
      t.equal(packetSockets(), before);
    }
  });
}
