/** Inlets of a datapath are siblings: polled in one place, in order, and closed together. */
import t from 'tap';
import type { FrameSink } from '../../../src/datapath/datapath.js';
import type { FrameTap } from '../../../src/datapath/frame-tap.js';
import type { Inlet } from '../../../src/datapath/inlets/inlet.js';
import { StackInlet } from '../../../src/datapath/inlets/stack-inlet.js';
import { RING_TOTALS, RingDatapath } from '../../../src/datapath/ring.js';
import { DESCRIPTOR_WORDS, type PacketRing } from '../../../src/host/native.js';

const TCP = 6;
const UDP = 17;
const IXCP = 254;
const NOTICE_BYTES = 74;
/** Offset of the IP protocol in a frame. */
const PROTOCOL = 23;

/** A datapath whose ring has one frame for each poll. `log` gets its calls, in order. */
class OneFrame extends RingDatapath {
  constructor(private readonly log: string[]) {
    const ring = {
      memory: new ArrayBuffer(64),
      receive: () => 1,
      start: () => void log.push('start ring'),
      stats: (into: Float64Array) => into.fill(1),
      close: () => void log.push('close ring'),
    };
    super(ring, 1);
  }
  override reserve(): number {
    return -1;
  }
  override commit(): void {}
  override forward(): void {}
  override flush(): void {
    this.log.push('flush');
  }
}

class Named implements Inlet {
  constructor(
    private readonly name: string,
    private readonly log: string[],
  ) {}
  start(): void {
    this.log.push(`start ${this.name}`);
  }
  poll(_sink: FrameSink, now: number): void {
    this.log.push(`poll ${this.name} at ${now}`);
  }
  addTo(totals: Float64Array): void {
    totals[0]! += 10;
  }
  setTap(tap: FrameTap | undefined): void {
    this.log.push(`tap ${this.name} ${tap === undefined ? 'off' : 'on'}`);
  }
  close(): void {
    this.log.push(`close ${this.name}`);
  }
}

t.test('a datapath calls all its inlets, in the order of addition', async (t) => {
  const log: string[] = [];
  const datapath = new OneFrame(log);
  for (const name of ['a', 'b', 'c']) datapath.addInlet(new Named(name, log));
  datapath.onBatch = () => void log.push('batch');
  datapath.nodes = { send: () => {}, flush: () => void log.push('flush nodes') };
  datapath.start(() => {});
  t.same(log.splice(0), ['start ring', 'start a', 'start b', 'start c']);
  const sink = { receive: () => void log.push('frame'), tick: () => void log.push('tick') };
  datapath.poll(sink, () => 5);
  t.same(log.splice(0), [
    'batch',
    'poll a at 5',
    'poll b at 5',
    'poll c at 5',
    'frame',
    'tick',
    'flush nodes',
    'flush',
  ]);
  datapath.setTap(undefined);
  t.same(log.splice(0), ['tap a off', 'tap b off', 'tap c off']);
  t.same([...datapath.stats()], [31, ...Array(RING_TOTALS - 1).fill(1)]);
  datapath.close();
  t.same(log.splice(0), ['close a', 'close b', 'close c', 'close ring']);
});

/** A ring that holds `count` frames of this protocol, and gives 64 at a time. */
function ringOf(protocol: number, count: number) {
  const memory = new ArrayBuffer(256);
  new Uint8Array(memory)[PROTOCOL] = protocol;
  const state = { left: count, flushes: 0 };
  const ring = {
    memory,
    fanoutGroup: 7,
    receive: (descriptors: Uint32Array) => {
      const taken = Math.min(state.left, descriptors.length / DESCRIPTOR_WORDS);
      for (let i = 0; i < taken; i++)
        descriptors.set([0, NOTICE_BYTES, 0, 0], i * DESCRIPTOR_WORDS);
      state.left -= taken;
      return taken;
    },
    flush: () => ++state.flushes,
  } as unknown as PacketRing;
  return { ring, state };
}

function admitted(protocol: number, count: number) {
  const { ring, state } = ringOf(protocol, count);
  const lengths: number[] = [];
  const admitter = {
    admit: (_from: Uint8Array, _offset: number, length: number) => lengths.push(length) > 0,
    memory: { bytes: new Uint8Array(0), view: new DataView(new ArrayBuffer(0)) },
  };
  const on = { interfaceIndex: 1, filterProgramFd: 2 };
  const inlet = new StackInlet({ openPacketRing: () => ring }, on, admitter, { uncut: false });
  inlet.poll({ receive: () => {}, tick: () => {} }, 5);
  return { count: lengths.length, left: state.left, flushes: state.flushes };
}

t.test('the stack inlet admits TCP and notices, and nothing else', async (t) => {
  t.match(admitted(TCP, 3), { count: 3, left: 0 });
  t.match(admitted(IXCP, 3), { count: 3, left: 0 });
  t.match(admitted(UDP, 3), { count: 0, left: 0 });
});

t.test('one poll of an inlet ends, however fast frames come in', async (t) => {
  t.same(admitted(TCP, 64), { count: 64, left: 0, flushes: 2 });
  t.same(admitted(TCP, 5_000), { count: 2_048, left: 5_000 - 2_048, flushes: 32 });
});
