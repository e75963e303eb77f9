/** The packet datapath over a ring in memory: the slots that it takes, its frames, its counters. */
import t from 'tap';
import { readStages, StageClock, stageMemory } from '../../src/base/stages.js';
import { FrameFlags, Port } from '../../src/datapath/datapath.js';
import { NodePort } from '../../src/datapath/inlets/node-port.js';
import { PacketDatapath, packetRingOptions } from '../../src/datapath/packet.js';
import { DESCRIPTOR_WORDS, OUTSIDE_RING, type PacketRing } from '../../src/host/native.js';

const SLOTS = 4;
const SLOT_BYTES = 256;
const RECEIVE_BYTES = 1024;
const ROOM = SLOT_BYTES - 58;
const STATUS = RECEIVE_BYTES;
const FIRST_ROOM = RECEIVE_BYTES + 58;

/** A ring whose frames come from a list, and which records all calls. */
class FakeRing implements PacketRing {
  readonly memory = new ArrayBuffer(RECEIVE_BYTES + SLOTS * SLOT_BYTES);
  readonly fanoutGroup = -1;
  readonly transmitStatus = STATUS;
  readonly transmitOffset = FIRST_ROOM;
  readonly transmitRoom = ROOM;
  readonly transmitSlots = SLOTS;
  readonly transmitSlotBytes = SLOT_BYTES;
  readonly status = new Uint32Array(this.memory);
  /** Frames still to come: [offset, length, flags]. */
  waiting: [number, number, number][] = [];
  flushes: number[][][] = [];
  locals: [number, number, boolean][] = [];
  /** Frames from another ring's memory: [offset, length, flags, headed]. */
  taken: [number, number, number, boolean][] = [];
  next = 0;
  closes = 0;

  receive(descriptors: Uint32Array): number {
    const frames = this.waiting.splice(0, descriptors.length / DESCRIPTOR_WORDS);
    for (const [i, frame] of frames.entries()) {
      descriptors.set([...frame, 0], i * DESCRIPTOR_WORDS);
    }
    return frames.length;
  }
  flush(descriptors: Uint32Array, count: number): number {
    const frames = Array.from({ length: count }, (_, i) => [
      ...descriptors.subarray(i * DESCRIPTOR_WORDS, (i + 1) * DESCRIPTOR_WORDS),
    ]);
    this.flushes.push(frames);
    this.next = (this.next + frames.filter((frame) => frame[3] !== OUTSIDE_RING).length) % SLOTS;
    return this.next;
  }
  sendFrom(
    memory: ArrayBuffer,
    offset: number,
    length: number,
    flags: number,
    headed: boolean,
  ): void {
    if (memory === this.memory) throw new Error('that is its own memory');
    this.taken.push([offset, length, flags, headed]);
  }
  start(): void {}
  stats(into: Float64Array): Float64Array {
    return into.fill(7);
  }
  close(): void {
    this.closes++;
  }
  markSlot(slot: number, status: number): void {
    this.status[(STATUS + slot * SLOT_BYTES) / 4] = status;
  }
}

const now = (): number => 5;
const ignore = { receive(): void {}, tick(): void {} };

t.test('a frame built here takes the next slot when it is committed', async (t) => {
  const ring = new FakeRing();
  const datapath = new PacketDatapath(ring);
  t.equal(datapath.reserve(60), FIRST_ROOM);
  t.equal(datapath.reserve(ROOM), FIRST_ROOM, 'room that was not committed is used again');
  datapath.commit(FIRST_ROOM, 70, Port.wire);
  t.equal(datapath.reserve(60), FIRST_ROOM + SLOT_BYTES);
  datapath.flush();
  t.same(ring.flushes, [[[FIRST_ROOM, 70, 0, 0]]]);
  t.equal(datapath.reserve(60), FIRST_ROOM + SLOT_BYTES, 'continues where the ring says');
});

t.test('received frames are forwarded in order, large ones outside of the ring', async (t) => {
  const ring = new FakeRing();
  const datapath = new PacketDatapath(ring);
  datapath.forward(100, 80, FrameFlags.checksumPartial, Port.wire);
  datapath.forward(200, 900, FrameFlags.segmented, Port.wire);
  datapath.commit(datapath.reserve(60), 60, Port.wire);
  datapath.forward(300, ROOM + 1, 0, Port.wire);
  datapath.forward(400, 60, FrameFlags.truncated, Port.wire);
  datapath.flush();
  t.same(ring.flushes, [
    [
      [100, 80, FrameFlags.checksumPartial, 0],
      [200, 900, FrameFlags.segmented, OUTSIDE_RING],
      [FIRST_ROOM + SLOT_BYTES, 60, 0, 1],
    ],
  ]);
  t.equal(datapath.transmitTooLong, 1);
  t.equal(datapath.forwardTruncated, 1);
});

t.test('a full ring is counted', async (t) => {
  const ring = new FakeRing();
  const datapath = new PacketDatapath(ring);
  for (let i = 0; i < SLOTS; i++) {
    datapath.commit(datapath.reserve(60), 60, Port.wire);
  }
  t.equal(datapath.reserve(60), -1, 'every slot is taken');
  datapath.forward(100, 60, 0, Port.wire);
  t.equal(datapath.transmitRingFull, 2);
  ring.markSlot(0, 2);
  datapath.flush();
  t.equal(datapath.reserve(60), -1, 'the kernel still has the slot');
  ring.markSlot(0, 0);
  t.equal(datapath.reserve(60), FIRST_ROOM);
  t.equal(datapath.reserve(ROOM + 1), -1);
  t.same([datapath.transmitRingFull, datapath.transmitTooLong], [3, 1]);
});

t.test('while the kernel has the slots, received frames wait', async (t) => {
  const ring = new FakeRing();
  const datapath = new PacketDatapath(ring);
  const heard: number[] = [];
  let ticks = 0;
  const sink = { receive: (offset: number) => void heard.push(offset), tick: () => void ticks++ };
  ring.waiting = [[100, 60, 0]];
  ring.markSlot(SLOTS - 1, 2);
  t.notOk(datapath.poll(sink, now));
  t.same(
    [heard, ticks, ring.flushes.length],
    [[], 1, 1],
    'timers run, and the kernel is asked to send',
  );
  ring.markSlot(SLOTS - 1, 0);
  datapath.poll(sink, now);
  t.same(heard, [100]);
});

t.test('a commit of other room than the last reserved throws', async (t) => {
  const datapath = new PacketDatapath(new FakeRing());
  const room = datapath.reserve(60);
  datapath.forward(100, 60, 0, Port.wire);
  t.throws(() => datapath.commit(room, 60, Port.wire), RangeError);
});

t.test('poll takes batches until the ring is empty, at most eight', async (t) => {
  const ring = new FakeRing();
  const datapath = new PacketDatapath(ring);
  const seen: number[] = [];
  let ticks = 0;
  const sink = {
    receive: (offset: number, length: number, flags: number, at: number) =>
      seen.push(offset, length, flags, at),
    tick: () => {
      ticks++;
    },
  };
  ring.waiting = [
    [10, 60, 1],
    [20, 70, 2],
  ];
  t.equal(datapath.poll(sink, now), false);
  t.same(seen, [10, 60, 1, 5, 20, 70, 2, 5]);
  t.equal(ticks, 1);
  t.equal(datapath.poll(sink, now), false);
  t.equal(ticks, 2, 'ticks without frames');

  ring.waiting = Array.from({ length: 256 * 8 + 1 }, () => [10, 60, 0]);
  t.equal(datapath.poll(ignore, now), true);
  t.equal(ring.waiting.length, 1);
  t.equal(datapath.poll(ignore, now), false);
});

t.test('the stages measure the time of a batch', async (t) => {
  const ring = new FakeRing();
  let time = 0;
  const memory = stageMemory();
  const stages = new StageClock(memory, { now: () => time, slept: () => 100 });
  const datapath = new PacketDatapath(ring, stages);
  const sink = {
    receive: () => {
      time += 20;
    },
    tick: () => {
      time += 3;
    },
  };
  ring.receive = ((receive) => (descriptors) => {
    time += 1;
    return receive.call(ring, descriptors);
  })(ring.receive);
  ring.flush = ((flush) => (descriptors, count) => {
    time += 7;
    return flush.call(ring, descriptors, count);
  })(ring.flush);
  ring.waiting = [
    [10, 60, 0],
    [20, 70, 0],
  ];
  time = 150;
  datapath.poll(sink, now);
  datapath.poll(sink, now);
  stages.publish();
  t.same(readStages(memory), {
    nanoseconds: {
      waiting: 100e6,
      loop: 50e6,
      receive: 2e6,
      engine: 40e6,
      timers: 6e6,
      flush: 14e6,
    },
    batches: 1,
    frames: 2,
  });
});

t.test('close inside of poll waits for the end of the batch', async (t) => {
  const ring = new FakeRing();
  const datapath = new PacketDatapath(ring);
  ring.waiting = Array.from({ length: 300 }, () => [10, 60, 0]);
  const sink = {
    receive: () => {
      datapath.close();
      t.equal(ring.closes, 0);
    },
    tick: () => {},
  };
  t.equal(datapath.poll(sink, now), false);
  t.equal(ring.waiting.length, 44, 'one batch');
  t.ok(ring.closes > 0);
  t.equal(datapath.poll(sink, now), false);
  t.same(datapath.stats(), new Float64Array(6).fill(7));
});

t.test('ring sizes follow the MTU', async (t) => {
  const sizes = (mtu: number): number[] => {
    const options = packetRingOptions({ interfaceIndex: 1, mtu, filterProgramFd: -1 });
    return [options.transmitSlots, options.transmitSlotBytes];
  };
  t.same(sizes(1500), [4096, 2048]);
  t.same(sizes(2048 - 72), [4096, 2048]);
  t.same(sizes(2048 - 71), [4096, 4096]);
  t.same(sizes(9000), [1024, 16384]);
  t.same(sizes(65536), [128, 131072]);
  t.match(packetRingOptions({ interfaceIndex: 3, mtu: 1500, filterProgramFd: 9 }), {
    interfaceIndex: 3,
    filterProgramFd: 9,
  });
});

/** A datapath with a node port as its inlet and outlet. */
function withNodePort(): { clients: FakeRing; nodes: FakeRing; datapath: PacketDatapath } {
  const clients = new FakeRing();
  const nodes = new FakeRing();
  const datapath = new PacketDatapath(clients, undefined, true);
  const native = { openPacketRing: () => nodes };
  const on = { interfaceIndex: 2, filterProgramFd: 3 };
  const port = new NodePort(native, on, { transmitSlots: 4, transmitSlotBytes: 2048 }, datapath);
  datapath.addInlet(port);
  datapath.nodes = port;
  return { clients, nodes, datapath };
}

t.test(
  'frames to nodes leave by the node port, before frames to clients, once a batch',
  async (t) => {
    const { clients, nodes, datapath } = withNodePort();
    const flushed: string[] = [];
    const watch = (name: string, ring: FakeRing): void => {
      const flush = ring.flush.bind(ring);
      ring.flush = (descriptors, count) => {
        flushed.push(name);
        return flush(descriptors, count);
      };
    };
    clients.waiting = [[100, 80, FrameFlags.checksumPartial]];
    const sink = {
      receive: (offset: number, length: number, flags: number) => {
        // The rings are watched from here on: the node port has been polled before.
        watch('clients', clients);
        watch('nodes', nodes);
        datapath.forward(offset, length, flags, Port.nodes);
        datapath.commit(datapath.reserve(60), 60, Port.nodes);
        datapath.commit(datapath.reserve(62), 62, Port.wire);
        datapath.forward(200, 90, FrameFlags.truncated, Port.nodes);
        datapath.forward(300, 9000, FrameFlags.segmented, Port.nodes);
      },
      tick: () => {},
    };
    datapath.poll(sink, now);
    t.same(nodes.taken, [
      [100, 80, FrameFlags.checksumPartial, true],
      [FIRST_ROOM, 60, 0, false],
      [300, 9000, FrameFlags.segmented, true],
    ]);
    t.same(clients.flushes.at(-1), [[FIRST_ROOM, 62, 0, 0]], 'frames to nodes took no slot');
    t.same(flushed, ['nodes', 'clients']);
    t.equal(datapath.forwardTruncated, 1);
  },
);

t.test('notices from the node port are handed over before the frames of the batch', async (t) => {
  const { clients, nodes, datapath } = withNodePort();
  const IXCP = 254;
  const bytes = new Uint8Array(nodes.memory);
  for (const [at, protocol] of [
    [0, IXCP],
    [100, 6],
    [200, IXCP],
  ] as const) {
    bytes.fill(at + 1, at, at + 100);
    bytes[at + 23] = protocol;
  }
  nodes.waiting = [
    [0, 74, 0],
    [100, 74, 0],
    [200, 200, 0],
  ];
  clients.waiting = [[500, 60, 0]];
  const seen: [number, number, number][] = [];
  const sink = {
    receive: (offset: number, length: number) => {
      seen.push([offset, length, datapath.memory.bytes[offset] ?? -1]);
      // An answer must not overwrite the notice.
      const room = datapath.reserve(ROOM - 128);
      t.equal(room, FIRST_ROOM);
      t.equal(datapath.reserve(ROOM - 127), -1);
    },
    tick: () => {},
  };
  datapath.poll(sink, now);
  const noticeAt = FIRST_ROOM + ROOM - 128;
  t.same(seen, [
    [noticeAt, 74, 1],
    [noticeAt, 128, 201],
    [500, 60, 0],
  ]);
});

t.test('both rings are started, counted and closed together', async (t) => {
  const { clients, nodes, datapath } = withNodePort();
  const started: FakeRing[] = [];
  for (const ring of [clients, nodes]) ring.start = () => started.push(ring);
  datapath.start(() => {});
  t.same(started, [clients, nodes]);
  t.same([...datapath.stats()], [14, 14, 14, 14, 14, 14]);
  datapath.close();
  t.same([clients.closes, nodes.closes], [1, 1]);
});

t.test('a datapath without inlets admits no frame', async (t) => {
  const datapath = new PacketDatapath(new FakeRing());
  t.equal(datapath.admit(new Uint8Array(100), 0, 74, 0, ignore, 5), false);
});
