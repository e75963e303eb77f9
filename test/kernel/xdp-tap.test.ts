/**
 * The tap of the XDP program: which frames it records, how many bytes of them, and for how long.
 */
import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { addressNumber, build, type PacketSpec } from '../../lab/packet.js';
import { TAP_CONFIG, TAP_CONFIG_BYTES, UNIT_SHIFT } from '../../src/capture/kernel-tap.js';
import { CONTROL } from '../../src/datapath/xdp-layout.js';
import { hostU32 } from '../../src/host/bpf-object.js';
import { native, type PerfBuffers } from '../../src/host/native.js';
import {
  readTapRecords,
  TAP_RECORD,
  TAP_RECORD_BYTES,
  TapKind,
  type TapRecord,
} from '../../src/wire/tap-record.js';
import { insideNamespace, run } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import {
  CLIENT,
  CLIENT_ISN,
  clock,
  KEY,
  notice,
  onward,
  SERVER_ISN,
  segment,
  syn,
  tagged,
  Verdict,
} from './xdp-packets.js';

const { drop, pass, redirect, tx } = Verdict;
const PAGES = 8;
const PAGE_BYTES = 4096;
const WHOLE = 262_144;
const plain = { flags: 'PA', seq: (CLIENT_ISN + 1) >>> 0, ack: SERVER_ISN + 1 };
const OTHER_CLIENT = '10.78.0.77';

/** The value of a lease that ends this many units from now. */
function until(units: number): number {
  return ((clock() >>> UNIT_SHIFT) + units) & 0xff || 1;
}

/** The program, with a capture of these frames. */
class Tapped extends Fast {
  readonly buffers: PerfBuffers;

  constructor(
    test: Test,
    wish: { client?: string; clientPort?: number; snapLength?: number } = {},
  ) {
    super();
    this.buffers = native().openPerfBuffers(
      this.object.mapFd('tap_frames'),
      PAGES,
      TAP_RECORD_BYTES,
      TAP_RECORD.captured,
    );
    test.teardown(() => {
      this.buffers.close();
      this.close();
    });
    const config = new DataView(new ArrayBuffer(TAP_CONFIG_BYTES));
    config.setUint32(TAP_CONFIG.client, wish.client === undefined ? 0 : addressNumber(wish.client));
    config.setUint16(TAP_CONFIG.clientPort, wish.clientPort ?? 0);
    config.setUint32(TAP_CONFIG.snapLength, wish.snapLength ?? WHOLE, true);
    this.object.mapUpdate('tap_config', hostU32(0), new Uint8Array(config.buffer));
    this.lease(until(8));
  }

  lease(value: number): void {
    this.control.setUint8(CONTROL.tap, value);
  }

  shown(): TapRecord[] {
    const records: TapRecord[] = [];
    const bytes = this.buffers.drain();
    const used = readTapRecords(bytes, (record) => records.push(record));
    if (used !== bytes.length) throw new Error('a record is not whole');
    return records;
  }

  /** Kinds and bytes of the records while this frame is received. */
  shownOf(frame: Uint8Array | PacketSpec): [number, number[]][] {
    this.run(frame);
    return this.shown().map(({ kind, bytes }) => [kind, [...bytes]]);
  }
}

if (insideNamespace(import.meta.url)) {
  // Each CPU has its own buffer: on one CPU, records are read in the order of the runs.
  const allowed =
    /Cpus_allowed_list:\s*(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  run('taskset', '-pc', allowed, String(process.pid));

  t.test('without a capture, nothing is recorded', async (t) => {
    const fast = new Tapped(t);
    fast.session();
    fast.lease(0);
    t.match(fast.run(segment(plain, 'x')), { verdict: tx, counters: ['forwarded'] });
    t.strictSame(fast.shown(), []);
  });

  t.test('a forwarded frame, as it arrives and as it leaves', async (t) => {
    const fast = new Tapped(t);
    fast.session();
    const frame = build(segment(plain, 'some bytes'));
    const before = process.hrtime.bigint();
    t.match(fast.run(frame), { verdict: tx, counters: ['forwarded'] });
    const records = fast.shown();
    t.strictSame(
      records.map(({ kind, bytes }) => [kind, [...bytes]]),
      [
        [TapKind.received, [...frame]],
        [TapKind.kernel, [...onward(frame)]],
      ],
    );
    for (const { time, length } of records) {
      t.equal(length, frame.length);
      t.ok(time >= before && time <= process.hrtime.bigint(), 'ns of the monotonic clock');
    }
  });

  t.test('a SYN and its answer', async (t) => {
    const fast = new Tapped(t);
    fast.engine(true);
    const frame = build(syn());
    const outcome = fast.run(frame);
    t.equal(outcome.verdict, tx);
    t.strictSame(
      fast.shown().map(({ kind, bytes }) => [kind, [...bytes]]),
      [
        [TapKind.received, [...frame]],
        [TapKind.kernel, [...outcome.frame]],
      ],
    );
  });

  t.test('frames for the engine and dropped frames, once', async (t) => {
    const fast = new Tapped(t);
    fast.engine(true);
    for (const [frame, verdict] of [
      [build(segment(plain, 'GET /'), KEY), redirect],
      [build(notice(), KEY), drop],
    ] as const) {
      t.equal(fast.run(frame).verdict, verdict);
      t.strictSame(
        fast.shown().map(({ kind, bytes }) => [kind, [...bytes]]),
        [[TapKind.received, [...frame]]],
      );
    }
  });

  t.test('frames of any length, one behind the other', async (t) => {
    const fast = new Tapped(t);
    fast.session();
    const lengths = Array.from({ length: 20 }, (_, index) => index + 1);
    const sizes = lengths.map((length) => {
      const frame = build(segment(plain, 'x'.repeat(length)));
      fast.run(frame);
      return frame.length;
    });
    t.strictSame(
      fast.shown().map(({ bytes }) => bytes.length),
      sizes.flatMap((size) => [size, size]),
    );
  });

  t.test('a priority tag is recorded as it arrived', async (t) => {
    const fast = new Tapped(t);
    fast.session();
    const frame = tagged(build(segment(plain, 'x')), 0x6000);
    t.strictSame(fast.shownOf(frame)[0], [TapKind.received, [...frame]]);
  });

  t.test('frames that the program does not handle are not recorded', async (t) => {
    const fast = new Tapped(t);
    for (const spec of [
      segment({ ...plain, destinationPort: 22 }, 'of another service'),
      segment(plain, '', { ip: { destination: '10.78.0.2' } }),
      segment(plain, '', { ethernet: { destination: '02:00:00:00:00:44' } }),
    ]) {
      t.equal(fast.run(spec).verdict, pass);
      t.strictSame(fast.shown(), []);
    }
  });

  t.test('only a client: by its address, or by its port as well', async (t) => {
    const of = (clientPort?: number): Tapped =>
      new Tapped(t, {
        client: CLIENT.address,
        ...(clientPort === undefined ? {} : { clientPort }),
      });
    const other = { ip: { source: OTHER_CLIENT } };
    const cases: [string, Uint8Array, boolean, boolean][] = [
      ['its segment', build(segment(plain, 'x')), true, true],
      ["its other connection's", build(segment({ ...plain, sourcePort: 9 }, 'x')), true, false],
      ["another client's", build(segment(plain, 'x', other)), false, false],
      ['a notice about it', build(notice(), KEY), true, true],
      [
        'a notice about another client',
        build(notice({ ixcp: { client: OTHER_CLIENT } }), KEY),
        false,
        false,
      ],
    ];
    const [byAddress, byPort] = [of(), of(CLIENT.port)];
    for (const [what, frame, whole, port] of cases) {
      t.equal(byAddress.shownOf(frame).length > 0, whole, what);
      t.equal(byPort.shownOf(frame).length > 0, port, `${what}, by port`);
    }
    // The answer goes to the client, which is now the destination.
    byPort.engine(true);
    t.strictSame(
      byPort.shownOf(build(syn())).map(([kind]) => kind),
      [TapKind.received, TapKind.kernel],
    );
  });

  t.test('at most the snap length, with the length of the whole frame', async (t) => {
    const fast = new Tapped(t, { snapLength: 64 });
    fast.session();
    const frame = build(segment(plain, 'x'.repeat(500)));
    fast.run(frame);
    const [record] = fast.shown();
    t.equal(record?.length, frame.length);
    t.strictSame([...(record?.bytes ?? [])], [...frame.subarray(0, 64)]);
  });

  t.test(
    'a reader that does not read: frames are forwarded, but not recorded, and counted',
    async (t) => {
      const fast = new Tapped(t);
      fast.session();
      const frame = build(segment(plain, 'x'.repeat(1_000)));
      const room = PAGES * PAGE_BYTES;
      let lost = 0;
      for (let sent = 0; sent < 2 * room; sent += frame.length) {
        const { verdict, counters } = fast.run(frame);
        if (verdict !== tx) throw new Error('not forwarded');
        lost += counters.filter((name) => name === 'tap_lost').length;
      }
      const shown = fast.shown().length;
      t.ok(lost > 0 && shown > 0);
      t.ok(shown * frame.length <= room);
      fast.run(frame);
      t.equal(fast.shown().length, 2, 'there is room again');
    },
  );

  t.test('a capture that is gone: the program stops recording', async (t) => {
    const fast = new Tapped(t);
    fast.session();
    for (const lease of [until(-1), until(-100), until(100)]) {
      fast.lease(lease);
      t.match(fast.run(segment(plain, 'x')), { verdict: tx, counters: ['forwarded'] });
      t.strictSame(fast.shown(), []);
      t.equal(fast.control.getUint8(CONTROL.tap), 0, 'and need not look at the time any more');
    }
  });

  t.test('the buffers close while it records: frames are still forwarded', async (t) => {
    const fast = new Tapped(t);
    fast.session();
    fast.buffers.close();
    t.match(fast.run(segment(plain, 'x')), {
      verdict: tx,
      counters: ['forwarded', 'tap_lost', 'tap_lost'],
    });
    t.throws(() => fast.buffers.drain(), /closed/);
  });
}
