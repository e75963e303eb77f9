/**
 * The XDP program and SYNs: its answers and events equal those of the engine, byte for byte.
 */
import fc from 'fast-check';
import t from 'tap';
import { addressNumber, build, type PacketSpec, type TcpOptionsSpec } from '../../lab/packet.js';
import { referenceSipHash } from '../../lab/siphash.js';
import { CONTROL, OUTPUT } from '../../src/datapath/xdp-layout.js';
import { SessionAction } from '../../src/engine/table/session-record.js';
import { fold } from '../../src/wire/checksum.js';
import { parse } from '../support/packet-parse.js';
import { insideNamespace } from './namespace.js';
import { Fast, type KernelEvent } from './xdp-fixture.js';
import {
  CLIENT,
  clock,
  type Outcome,
  PORTS,
  pseudoSum,
  SECRET,
  syn,
  tagged,
  unfinished,
  Verdict,
  VIRTUAL,
} from './xdp-packets.js';
import { Twin } from './xdp-twin.js';

const { redirect, tx } = Verdict;
const RUNS = 400;

function words(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  values.forEach((value, index) => {
    new DataView(bytes.buffer).setUint32(index * 4, value >>> 0);
  });
  return bytes;
}

/** The start of a connection's timestamp clock: the upper half of its hash. */
function clockOffset(sourcePort: number, destinationPort: number): number {
  const ports = ((sourcePort << 16) | destinationPort) >>> 0;
  const message = words(addressNumber(CLIENT.address), addressNumber(VIRTUAL), ports, 0);
  return Number(referenceSipHash(SECRET.subarray(0, 16), message) >> 32n);
}

const OPTIONS: readonly (readonly [string, TcpOptionsSpec])[] = [
  ['none', {}],
  ['MSS', { mss: 1460 }],
  ['a scale', { windowScale: 7 }],
  ['a scale beyond the largest', { windowScale: 200 }],
  ['SACK', { sackPermitted: true }],
  ['timestamps', { timestamps: [0x8000_0001, 0] }],
  ['SACK and a scale', { sackPermitted: true, windowScale: 0 }],
  ['timestamps and a scale', { timestamps: [1, 2], windowScale: 14 }],
  ['timestamps and SACK', { timestamps: [0, 0], sackPermitted: true }],
  ['as Linux', { mss: 1460, sackPermitted: true, timestamps: [0x1234_5678, 0], windowScale: 7 }],
  ['an MSS of 0', { mss: 0, windowScale: 1 }],
  ['an MSS of 65535', { mss: 65_535 }],
  ['unknown ones', { raw: Uint8Array.of(34, 6, 1, 2, 3, 4, 253, 2, 2, 4, 5, 180) }],
];
/** Well-formed and malformed options. */
const option = fc.oneof(
  fc.constantFrom(
    [1],
    [1, 1],
    [4, 2],
    [3, 3, 7],
    [3, 3, 15],
    [2, 4, 5, 180],
    [8, 10, 1, 2, 3, 4, 5, 6, 7, 8],
    [0],
  ),
  fc.constantFrom(
    [2, 3, 1],
    [3, 4, 1, 1],
    [8, 9, 1, 1, 1, 1, 1, 1, 1],
    [4, 3, 1],
    [5, 0],
    [5, 1],
    [34, 40],
    [254],
  ),
  fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 1, maxLength: 8 }),
);
const anyOptions = fc.array(option, { maxLength: 10 }).map((list) => {
  const bytes = list.flat().slice(0, 40);
  while (bytes.length % 4 !== 0) bytes.push(1);
  return Uint8Array.from(bytes);
});

const CHECKSUM_AT = 50;

function checksumOf(frame: Uint8Array): number {
  return new DataView(frame.buffer, frame.byteOffset).getUint16(CHECKSUM_AT);
}

/**
 * Finishes a checksum that holds the sum of the pseudo-header, as hardware or the kernel would.
 */
function finish(frame: Uint8Array): Uint8Array {
  const finished = frame.slice();
  const view = new DataView(finished.buffer);
  let sum = 0;
  for (let at = 34; at < finished.length; at += 2) sum += view.getUint16(at);
  view.setUint16(CHECKSUM_AT, ~fold(sum));
  return finished;
}

/** The window with which the right checksum of a SYN equals the sum of its pseudo-header. */
function windowThatHides(): number {
  const frame = build(syn({ tcp: { window: 0 } }));
  return fold(checksumOf(frame) + (~pseudoSum(frame) & 0xffff));
}

if (insideNamespace(import.meta.url)) {
  /**
   * Gives a SYN from an unused port to the program and to the engine, in the same ms.
   */
  const compare = (
    fast: Fast,
    twin: Twin,
    spec: PacketSpec,
  ): {
    outcome: Outcome;
    record: KernelEvent | undefined;
    expected: Uint8Array | undefined;
    now: number;
  } => {
    const from = clock();
    const outcome = fast.run(spec);
    const to = clock();
    const [record, ...more] = fast.events();
    if (more.length > 0) throw new Error('reported twice');
    // Timestamps show the ms. Without them, only the period of cookies depends on it.
    const stamps = record === undefined ? undefined : parse(outcome.frame).tcp?.options.timestamps;
    const now = stamps === undefined ? from : (stamps[0] - (record?.tsOffset ?? 0)) >>> 0;
    if (now < from || now > to) throw new Error(`made at ${now}, not between ${from} and ${to}`);
    const [expected] = twin.receive(spec, now);
    return { outcome, record, expected, now };
  };
  /** The event of the same SYN, from the engine's record. */
  const written = (twin: Twin, spec: PacketSpec): KernelEvent | undefined => {
    const { table } = twin;
    const server = PORTS.indexOf((spec.tcp?.destinationPort ?? 0) as (typeof PORTS)[number]);
    const portServer = (((spec.tcp?.sourcePort ?? 0) << 16) | server) >>> 0;
    const slot = table.find(addressNumber(CLIENT.address), portServer);
    if (slot < 0) return undefined;
    return {
      client: table.client(slot),
      portServer: table.portServer(slot),
      clientIsn: table.clientIsn(slot),
      serverIsn: table.serverIsn(slot),
      tsOffset: table.tsOffset(slot),
      tsval: table.tsval(slot),
      mss: table.mss(slot),
      window: table.window(slot),
      scales: table.scales(slot),
      flags: table.flags(slot),
      mac: CLIENT.mac.replaceAll(':', ''),
    };
  };
  let port = 20_000;

  t.test('answers equal those of the engine', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const twin = new Twin();
    for (const [name, options] of OPTIONS) {
      for (const change of [
        {},
        { trailer: new Uint8Array(20) },
        { ip: { tos: 0xb8, ttl: 1, id: 99, dontFragment: false } },
      ]) {
        const destinationPort = PORTS[port % 2]!;
        const spec = syn({
          ...change,
          tcp: { sourcePort: port++, destinationPort, options, urgent: 9 },
        });
        const { outcome, record, expected } = compare(fast, twin, spec);
        t.match(outcome, { verdict: tx, counters: ['syn_answered'] }, name);
        t.strictSame([...outcome.frame], [...(expected ?? [])], `${name}: the frame`);
        t.strictSame(parse(outcome.frame).problems, [], `${name}: faultless`);
        t.strictSame(record, written(twin, spec), `${name}: event`);
        t.equal(record?.tsOffset, clockOffset(port - 1, destinationPort));
      }
    }
  });

  t.test('withheld options, from the moment of the store', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const twin = new Twin();
    for (let withheld = 0; withheld < 8; withheld++) {
      fast.control.setUint8(CONTROL.withheld, withheld);
      twin.nodes.withheld.current = withheld;
      for (const [name, options] of OPTIONS) {
        const spec = syn({ tcp: { sourcePort: port++, destinationPort: PORTS[0], options } });
        const { outcome, record, expected } = compare(fast, twin, spec);
        t.match(outcome, { verdict: tx, counters: ['syn_answered'] }, name);
        t.strictSame(
          [...outcome.frame],
          [...(expected ?? [])],
          `${name}, without ${withheld}: the frame`,
        );
        t.strictSame(record, written(twin, spec), `${name}, without ${withheld}: event`);
        t.equal((record?.flags ?? 8) & (withheld | 8), 0, 'none of them is agreed');
      }
    }
  });

  t.test('other flags with SYN', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const twin = new Twin();
    for (const flags of ['SEC', 'SP', 'SU', 'SPUEC']) {
      const spec = syn({ tcp: { sourcePort: port++, flags } });
      const { outcome, expected } = compare(fast, twin, spec);
      t.match(outcome, { verdict: tx, counters: ['syn_answered'] }, flags);
      t.strictSame([...outcome.frame], [...(expected ?? [])], flags);
    }
    for (const flags of ['SA', 'SF', 'SR']) {
      const spec = syn({ tcp: { sourcePort: port++, flags } });
      t.match(fast.run(spec), { verdict: redirect, counters: ['to_engine_unknown'] }, flags);
    }
  });

  t.test('a checksum left to hardware, a priority', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const plain = syn({ tcp: { options: { mss: 1460, windowScale: 7 } } });
    const answer = fast.run(unfinished(plain));
    t.match(answer, { verdict: tx, counters: ['syn_answered'] });
    t.strictSame(parse(answer.frame).problems, [], 'the checksum of the answer is finished');
    t.match(fast.run(tagged(build(plain), 0xe000)), { verdict: tx, counters: ['syn_answered'] });
  });

  t.test('in generic mode, an answer is finished if its SYN is', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    const answered = { verdict: tx, counters: ['syn_answered'] };
    const cookie = { verdict: tx, counters: ['syn_cookie'] };
    for (const [name, options] of OPTIONS) {
      for (const engine of [true, false]) {
        fast.engine(engine);
        const spec = syn({ tcp: { sourcePort: port++, options } });
        fast.control.setUint8(CONTROL.output, OUTPUT.generic);
        const outcome = fast.run(unfinished(spec));
        t.match(outcome, engine ? answered : cookie, name);
        t.equal(checksumOf(outcome.frame), pseudoSum(outcome.frame), `${name}: unfinished`);
        t.strictSame(
          parse(finish(outcome.frame)).problems,
          [],
          `${name}: and right when it is finished`,
        );
        t.strictSame(parse(fast.run(spec).frame).problems, [], `${name}: finished, if the SYN was`);
        fast.control.setUint8(CONTROL.output, OUTPUT.redirect);
        t.strictSame(
          parse(fast.run(unfinished(spec)).frame).problems,
          [],
          `${name}: finished, in the driver`,
        );
      }
    }
  });

  t.test('a SYN whose right checksum looks unfinished', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const frame = build(syn({ tcp: { window: windowThatHides() } }));
    t.equal(checksumOf(frame), pseudoSum(frame));
    t.strictSame(parse(frame).problems, [], 'it is right');
    t.match(fast.run(frame), { verdict: tx, counters: ['syn_answered'] });
    fast.events();
    fast.control.setUint8(CONTROL.output, OUTPUT.generic);
    const outcome = fast.run(frame);
    t.match(
      outcome,
      { verdict: redirect, counters: ['to_engine_syn'] },
      'both are possible: the engine answers',
    );
    t.strictSame([...outcome.frame], [...frame]);
    t.strictSame(fast.events(), []);
  });

  t.test('a SYN that the engine must see goes there unchanged', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const options = { mss: 1460, windowScale: 7 };
    const cases: [string, PacketSpec][] = [
      ['payload', syn({ payload: 'early' })],
      ['a wrong TCP checksum', syn({ tcp: { options, checksum: 0x1234 } })],
      ['a wrong IPv4 checksum', syn({ tcp: { options }, ip: { checksum: 0x1234 } })],
      [
        'an option without its length',
        syn({ tcp: { options: { raw: Uint8Array.of(1, 1, 1, 2) } } }),
      ],
      ['an option of length 0', syn({ tcp: { options: { raw: Uint8Array.of(2, 0, 1, 1) } } })],
      [
        'an option beyond the header',
        syn({ tcp: { options: { raw: Uint8Array.of(1, 2, 4, 5) } } }),
      ],
    ];
    for (const [name, spec] of cases) {
      const frame = build(spec);
      const outcome = fast.run(frame);
      t.match(outcome, { verdict: redirect, counters: ['to_engine_syn'] }, name);
      t.strictSame([...outcome.frame], [...frame], name);
    }
    t.strictSame(fast.events(), []);
    t.equal(fast.control.getUint32(CONTROL.cookieAt, true), 0);
  });

  t.test('a SYN of a session is not answered', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const slot = fast.session(0);
    t.match(fast.run(syn()), { verdict: redirect, counters: ['to_engine_state'] });
    fast.setAction(slot, SessionAction.forward);
    t.match(fast.run(syn()), { verdict: redirect, counters: ['to_engine_syn'] });
  });

  t.test('any options', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    const twin = new Twin();
    let answered = 0;
    fc.assert(
      fc.property(anyOptions, fc.integer({ min: 0, max: 12 }), (raw, padding) => {
        fast.engine(true);
        const spec = syn({
          tcp: { sourcePort: port++, destinationPort: PORTS[0], options: { raw } },
          trailer: new Uint8Array(padding).fill(0x55),
        });
        let result: ReturnType<typeof compare> | undefined;
        const counted = twin.counted(['syn', 'drop_malformed_tcp'], () => {
          result = compare(fast, twin, spec);
        });
        const { outcome, record, expected } = result!;
        if (counted[0] === 'drop_malformed_tcp') return outcome.counters[0] === 'to_engine_syn';
        answered++;
        return (
          counted[0] === 'syn' &&
          outcome.counters[0] === 'syn_answered' &&
          expected !== undefined &&
          Buffer.compare(outcome.frame, expected) === 0 &&
          JSON.stringify(record) === JSON.stringify(written(twin, spec))
        );
      }),
      { numRuns: RUNS },
    );
    t.ok(answered > RUNS / 10 && answered < RUNS, `${answered} of ${RUNS} answered`);
  });
}
