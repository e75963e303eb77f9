/** The packet ring and the packet datapath on a real kernel: frames in, frames out. */
import t from 'tap';
import { FrameFlags, Port } from '../../src/datapath/datapath.js';
import { NodePort } from '../../src/datapath/inlets/node-port.js';
import { openPacketDatapath, PacketDatapath, transmitSlots } from '../../src/datapath/packet.js';
import { native } from '../../src/host/native.js';
import { insideNamespace, macOf, run, until } from './namespace.js';
import {
  collector,
  compileAndLoad,
  type Heard,
  MTU,
  NODE_MAC,
  now,
  RingFarm,
  type Seen,
  UDP_PAYLOAD,
  writeUdp,
} from './ring-farm.js';
import { forwarder, upload, uploadDigest } from './upload.js';

const UPLOAD_BYTES = 20_000_000;

/** A filter for frames longer than 200 bytes. */
const PROGRAM = `
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("socket") int only_long(struct __sk_buff *skb) { return skb->len > 200 ? 0x40000 : 0; }
char licence[] SEC("license") = "GPL";
`;

if (insideNamespace(import.meta.url)) {
  const farm = await RingFarm.make();
  const programs = compileAndLoad(PROGRAM);
  t.teardown(() => farm.stop());

  t.test('frames arrive with flags for their checksums', async (t) => {
    const datapath = openPacketDatapath(native(), {
      interfaceIndex: farm.e1,
      mtu: MTU,
      filterProgramFd: -1,
    });
    const seen: Seen[] = [];
    const sink = collector(datapath, seen);
    datapath.start(() => datapath.poll(sink, now));
    await farm.sendUdp(5, 1000);
    await until('two frames', () => seen.length === 2);
    t.match(seen[0], {
      length: UDP_PAYLOAD + 5,
      payload: 'bbbbb',
      flags: FrameFlags.checksumPartial,
    });
    t.match(seen[1], { length: UDP_PAYLOAD + 1000, payload: 'b'.repeat(1000) });

    farm.client.run('ethtool', '-K', 'eth0', 'tx', 'off');
    await farm.sendUdp(5);
    farm.client.run('ethtool', '-K', 'eth0', 'tx', 'on');
    await until('a third frame', () => seen.length === 3);
    t.equal((seen[2]?.flags ?? 0) & FrameFlags.checksumPartial, 0, 'a finished checksum');
    t.equal(datapath.stats()[1], 0, 'nothing lost');
    datapath.close();
  });

  t.test('a filter program keeps frames out', async (t) => {
    const datapath = farm.open({ filterProgramFd: programs.programFd('only_long') });
    const seen: Seen[] = [];
    const sink = collector(datapath, seen);
    datapath.start(() => datapath.poll(sink, now));
    await farm.sendUdp(5, 300);
    await until('a frame', () => seen.length > 0);
    t.same(
      seen.map((frame) => frame.length),
      [UDP_PAYLOAD + 300],
    );
    datapath.close();
  });

  t.test(
    'a connection is forwarded completely, including segments larger than the MTU',
    async (t) => {
      const datapath = farm.open();
      let largest = 0;
      let segmented = 0;
      const sink = forwarder(datapath, (length, flags) => {
        largest = Math.max(largest, length);
        if ((flags & FrameFlags.segmented) !== 0) segmented++;
      });
      const pump = (): void => {
        if (datapath.poll(sink, now)) setImmediate(pump);
      };
      datapath.start(pump);
      const start = now();
      t.equal(await upload(farm, UPLOAD_BYTES), uploadDigest(UPLOAD_BYTES));
      const [received, lost, sent, failed, outside] = datapath.stats();
      t.comment(
        `${UPLOAD_BYTES} bytes in ${(now() - start).toFixed(0)} ms, ${received} frames, largest ${largest}, ` +
          `${segmented} segmented, ${outside} outside the ring, ${sent} sent, ${failed} failed, ${lost} lost`,
      );
      t.ok(largest > MTU + 14, 'the kernel handed over large segments');
      t.equal(outside, segmented);
      t.same([lost, failed, datapath.transmitRingFull], [0, 0, 0]);
      datapath.close();
    },
  );

  t.test('the same if the device cannot cut segments', async (t) => {
    run('ethtool', '-K', 'e1', 'tso', 'off', 'gso', 'off', 'tx', 'off');
    const datapath = farm.open();
    const sink = forwarder(datapath, () => {});
    datapath.start(() => datapath.poll(sink, now));
    t.equal(await upload(farm, 2_000_000), uploadDigest(2_000_000));
    t.ok((datapath.stats()[4] ?? 0) > 0);
    datapath.close();
    run('ethtool', '-K', 'e1', 'tso', 'on', 'gso', 'on', 'tx', 'on');
  });

  t.test('the same through another ring than the receiving one', async (t) => {
    const datapath = farm.open();
    const on = { interfaceIndex: farm.e1, filterProgramFd: -1 };
    const port = new NodePort(native(), on, transmitSlots(MTU), datapath);
    datapath.addInlet(port);
    datapath.nodes = port;
    let frames = 0;
    let segmented = 0;
    const note = (_length: number, flags: number): void => {
      frames++;
      if ((flags & FrameFlags.segmented) !== 0) segmented++;
    };
    const sink = forwarder(datapath, note, Port.nodes);
    datapath.start(() => datapath.poll(sink, now));
    t.equal(await upload(farm, UPLOAD_BYTES), uploadDigest(UPLOAD_BYTES));
    const totals = new Float64Array(6);
    port.addTo(totals);
    t.ok(segmented > 0, 'segments larger than the wire among them');
    t.same([...totals.subarray(2)], [frames, 0, segmented, 0], 'all were sent by it');
    t.equal(datapath.stats()[2], frames, 'and none by the other');
    datapath.close();
  });

  t.test('a frame outside the memory of the other ring is refused', async (t) => {
    const ring = native().openPacketRing(farm.options());
    const memory = new ArrayBuffer(1000);
    for (const [offset, length, headed] of [
      [9, 60, true],
      [0, 13, false],
      [941, 60, false],
      [0xffff_ffff, 60, false],
    ] as const) {
      t.throws(() => ring.sendFrom(memory, offset, length, 0, headed), {
        message: /not in the memory/,
      });
    }
    const view = new Uint8Array(memory) as unknown as ArrayBuffer;
    t.throws(() => ring.sendFrom(view, 0, 60, 0, false), { message: /ArrayBuffer/ });
    ring.sendFrom(memory, 940, 60, 0, false);
    ring.flush(new Uint32Array(0), 0);
    t.equal(ring.stats(new Float64Array(6))[2], 1);
    ring.close();
  });

  t.test('frames of a VLAN and frames for other machines are left out', async (t) => {
    run('ip', 'link', 'add', 'x0', 'type', 'veth', 'peer', 'name', 'x1');
    run('ip', 'link', 'set', 'x0', 'up');
    run('ip', 'link', 'set', 'x1', 'address', NODE_MAC, 'up');
    const indexOf = (name: string): number => native().interfaceInfo(name)?.index ?? 0;
    const sender = farm.open({ interfaceIndex: indexOf('x0') });
    const receiver = farm.open({ interfaceIndex: indexOf('x1') });
    const seen: Seen[] = [];
    const sink = collector(receiver, seen);
    receiver.start(() => receiver.poll(sink, now));
    const send = (change: (room: number) => void): void => {
      const room = sender.reserve(100);
      writeUdp(sender, room, 100, 0x62);
      change(room);
      sender.commit(room, 100, Port.wire);
      sender.flush();
    };
    send((room) => sender.memory.bytes.set([0x81, 0, 0, 5, 8, 0], room + 12));
    send((room) => sender.memory.bytes.set(macOf('02:00:00:00:00:08'), room));
    send(() => {});
    await until('a frame', () => seen.length > 0);
    t.match(seen, [{ length: 100, flags: 0, payload: 'b'.repeat(58) }]);
    t.match(receiver.stats(), { 0: 1, 1: 1 }, 'the one of the VLAN counts as lost');
    sender.close();
    receiver.close();
  });

  t.test('frames built here arrive in order, many times round the ring', async (t) => {
    const count = 1000;
    const { heard } = await farm.listen();
    const datapath = farm.open({ transmitSlots: 32 });
    const expected: Heard[] = [];
    for (let i = 0; i < count; i++) {
      const length = 60 + (i % 500);
      const tag = i === count - 1 ? 255 : i % 250;
      let room = datapath.reserve(length);
      if (room < 0) {
        datapath.flush();
        room = datapath.reserve(length);
      }
      writeUdp(datapath, room, length, tag);
      datapath.commit(room, length, Port.wire);
      expected.push({ length: length - UDP_PAYLOAD, tag });
    }
    datapath.flush();
    t.same(await heard, expected);
    t.match(datapath.stats(), { 2: count, 3: 0 });
    t.ok(datapath.transmitRingFull >= count / 32 - 1, 'a full ring was counted');
    datapath.close();
  });

  t.test('a frame that the kernel refuses does not stop those behind it', async (t) => {
    const { heard } = await farm.listen();
    const ring = native().openPacketRing(farm.options({ transmitSlots: 32 }));
    const datapath = new PacketDatapath(ring);
    // Two frames, as if received, whose virtio header requests a checksum beyond their end.
    const { bytes } = datapath.memory;
    const broken = 4096;
    writeUdp(datapath, broken, 80, 9);
    bytes.set([1, 0, 0, 0, 0, 0, 0xff, 0x7f, 0xff, 0x7f], broken - 10);
    const build = (tag: number): void => {
      const room = datapath.reserve(80);
      writeUdp(datapath, room, 80, tag);
      datapath.commit(room, 80, Port.wire);
    };
    build(1);
    datapath.forward(broken, 80, 0, Port.wire);
    build(2);
    build(3);
    datapath.forward(broken, 80, 0, Port.wire);
    build(4);
    datapath.flush();
    for (let i = 0; i < 40; i++) {
      build(100 + i);
      if (i % 20 === 19) datapath.flush();
    }
    build(255);
    datapath.flush();
    const tags = [1, 2, 3, 4, ...Array.from({ length: 40 }, (_, i) => 100 + i), 255];
    t.same(
      (await heard).map(({ tag }) => tag),
      tags,
    );
    t.match(datapath.stats(), { 2: tags.length, 3: 2 });

    for (let i = 0; i < 20; i++) {
      datapath.forward(broken, 80, 0, Port.wire);
    }
    datapath.flush();
    t.equal(datapath.stats()[3], 22, 'a batch of them is given up');
    t.equal(datapath.reserve(80) >= 0, true);
    datapath.close();
  });
}
