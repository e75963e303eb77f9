/** Translation of TCP headers, packet by packet (BPF_PROG_TEST_RUN), at both hooks. */
import t, { type Test } from 'tap';
import { build, type TcpOptionsSpec, type TcpSpec } from '../../lab/packet.js';
import { parse } from '../support/packet-parse.js';
import { insideNamespace } from './namespace.js';
import { Verdict } from './shim-cases.js';
import {
  ACK,
  handoff,
  KEY,
  SEQ,
  Shim,
  sessionClock,
  sessionKey,
  sessionValue,
  type Translation,
  toClient,
} from './shim-fixture.js';

const SENT = 0x9000_0001;
const RECEIVED = 0xffff_ff00;
const CLOCK = 0xf000_0000;
const TRANSLATION = { sent: SENT, received: RECEIVED, clock: CLOCK };

const plus = (a: number, b: number): number => (a + b) >>> 0;
const minus = (a: number, b: number): number => (a - b) >>> 0;
const blocks = (by: number): (readonly [number, number])[] =>
  [0, 3000, 6000].map((at) => [plus(at, by), plus(at + 1000, by)] as const);
const raw = (...bytes: (number | readonly number[])[]): TcpOptionsSpec => ({
  raw: Uint8Array.from(bytes.flat()),
});
const word = (value: number): number[] => [
  value >>> 24,
  (value >>> 16) & 255,
  (value >>> 8) & 255,
  value & 255,
];
const SACK_HEAD = [5, 10];
const CLOCKS_HEAD = [8, 10];

interface Case {
  name: string;
  translation?: Translation;
  tcp?: TcpSpec;
  /** What becomes of the options, and of the rest. Default: only the two numbers change. */
  becomes?: TcpSpec;
}

/** Segments of the socket, and what its client gets. */
const OUT: readonly Case[] = [
  { name: 'no option' },
  { name: 'an acknowledgement number without ACK', tcp: { flags: 'R' }, becomes: { ack: SEQ } },
  {
    name: 'timestamps',
    tcp: { options: { timestamps: [5, 6] } },
    becomes: { options: { timestamps: [plus(5, CLOCK), 6] } },
  },
  {
    name: 'SACK blocks',
    tcp: { options: { sack: blocks(SEQ) } },
    becomes: { options: { sack: blocks(plus(SEQ, RECEIVED)) } },
  },
  {
    name: 'timestamps and SACK blocks',
    tcp: { options: { timestamps: [1, 2], sack: blocks(7) } },
    becomes: { options: { timestamps: [plus(1, CLOCK), 2], sack: blocks(plus(7, RECEIVED)) } },
  },
  {
    name: 'options at odd places, an unknown one between',
    tcp: {
      options: raw(1, SACK_HEAD, word(10), word(20), 254, 3, 9, CLOCKS_HEAD, word(3), word(4)),
    },
    becomes: {
      options: raw(
        1,
        SACK_HEAD,
        word(plus(10, RECEIVED)),
        word(plus(20, RECEIVED)),
        254,
        3,
        9,
        CLOCKS_HEAD,
        word(plus(3, CLOCK)),
        word(4),
      ),
    },
  },
  {
    name: 'forty bytes of NOP',
    tcp: { options: raw(Array(40).fill(1)) },
    becomes: { options: raw(Array(40).fill(1)) },
  },
  {
    name: 'what stands behind the end of the list',
    tcp: { options: raw(0, 1, CLOCKS_HEAD, word(3), word(4)) },
    becomes: { options: raw(0, 1, CLOCKS_HEAD, word(3), word(4)) },
  },
  {
    name: 'an option beyond the header',
    tcp: { options: raw(1, 1, 1, 1, 5, 18, word(9), 1, 1) },
    becomes: { options: raw(1, 1, 1, 1, 5, 18, word(9), 1, 1) },
  },
  {
    name: 'an option of no length',
    tcp: { options: raw(8, 0, word(9), 1, 1) },
    becomes: { options: raw(8, 0, word(9), 1, 1) },
  },
  {
    name: 'a SACK option with half a block, an option of timestamps that is too short',
    tcp: { options: raw(5, 6, word(9), 8, 6, word(9)) },
    becomes: { options: raw(5, 6, word(9), 8, 6, word(9)) },
  },
  {
    name: 'a window that grows, to the largest at most',
    translation: { ...TRANSLATION, windowOut: 3 },
    tcp: { window: 0x1fff },
    becomes: { window: 0xfff8 },
  },
  {
    name: 'a window that is too large',
    translation: { ...TRANSLATION, windowOut: 3 },
    tcp: { window: 0x2000 },
    becomes: { window: 0xffff },
  },
  {
    name: 'a window that shrinks',
    translation: { ...TRANSLATION, windowOut: -4, windowIn: 2 },
    tcp: { window: 0x1fff },
    becomes: { window: 0x01ff },
  },
];

/** Segments of the client, and what the socket gets. */
const IN: readonly Case[] = [
  { name: 'no option' },
  { name: 'an RST without ACK', tcp: { flags: 'R' }, becomes: { ack: ACK } },
  {
    name: 'timestamps and SACK blocks',
    tcp: { options: { timestamps: [1, 2], sack: blocks(7) } },
    becomes: { options: { timestamps: [1, minus(2, CLOCK)], sack: blocks(minus(7, SENT)) } },
  },
  {
    name: 'a window',
    translation: { ...TRANSLATION, windowOut: -4, windowIn: 2 },
    tcp: { window: 0x1000 },
    becomes: { window: 0x4000 },
  },
];

if (insideNamespace(import.meta.url)) {
  const shim = new Shim();
  t.teardown(() => shim.object.close());
  shim.watch();

  const session = (translation: Translation | undefined): void =>
    shim.object.mapUpdate(
      'sessions',
      sessionKey,
      sessionValue({ answered: 1, ...(translation === undefined ? {} : { translation }) }),
    );

  /** Runs a program over each case, also with the session of a socket with the same numbers. */
  const check = (
    t: Test,
    program: string,
    cases: readonly Case[],
    frameOf: (tcp: TcpSpec, payload: string) => Uint8Array,
    numbers: TcpSpec,
  ): void => {
    for (const { name, translation = TRANSLATION, tcp = {}, becomes = {} } of cases) {
      for (const payload of ['', 'odd']) {
        const frame = frameOf(tcp, payload);
        session(translation);
        const result = shim.object.testRun(program, frame, {});
        t.equal(result.verdict, Verdict.ok, name);
        const expected = frameOf({ ...tcp, ...numbers, ...becomes }, payload);
        t.equal(
          Buffer.from(result.frame).toString('hex'),
          Buffer.from(expected).toString('hex'),
          `${name}, ${payload.length} bytes`,
        );
        const wrong = parse(result.frame).problems.filter((problem) => /checksum/.test(problem));
        t.strictSame(wrong, [], name);
        session(undefined);
        const same = shim.object.testRun(program, frame, {});
        t.ok(Buffer.from(same.frame).equals(frame), `${name}: the same numbers`);
      }
    }
  };

  t.test('what the socket sends', async (t) => {
    const frameOf = (tcp: TcpSpec, payload: string): Uint8Array =>
      build(toClient(tcp, payload), KEY);
    const numbers = { seq: plus(ACK, SENT), ack: plus(SEQ, RECEIVED) };
    check(t, 'shim_egress', OUT, frameOf, numbers);
  });

  t.test('what the socket gets, in plain form', async (t) => {
    const frameOf = (tcp: TcpSpec, payload: string): Uint8Array => {
      const { ixp: _, ...plain } = handoff({ tcp, payload });
      return build({ ...plain, payload }, KEY);
    };
    const numbers = { seq: minus(SEQ, RECEIVED), ack: minus(ACK, SENT) };
    check(t, 'shim_ingress', IN, frameOf, numbers);
  });

  t.test('TSval of the stream never runs back', async (t) => {
    const tsvals = (...clock: number[]): number[] =>
      clock.map((tsval) => {
        const frame = build(toClient({ options: { timestamps: [tsval, 6] } }), KEY);
        const { frame: out } = shim.object.testRun('shim_egress', frame, {});
        return parse(out).tcp?.options.timestamps?.[0] ?? 0;
      });
    session({ clock: 10, floor: 5_000 });
    t.strictSame(tsvals(100, 101, 1_000), [5_000, 5_001, 5_900]);
    t.equal(sessionClock(shim.object.mapLookup('sessions', sessionKey)), 4_900);
    session({ clock: 10, floor: 0xffff_fff0 });
    t.strictSame(tsvals(100, 0xffff_ffff, 3), [110, 9, 13], 'the clock is beyond the floor');
  });

  t.test('a header that does not fit into its frame is dropped', async (t) => {
    session(TRANSLATION);
    for (const words of [4, 15]) {
      const frame = build(toClient({ words }, 'short'), KEY);
      const rose = shim.counted(() =>
        t.equal(shim.object.testRun('shim_egress', frame, {}).verdict, Verdict.drop),
      );
      t.strictSame(rose, ['drop_rewrite']);
    }
  });
}
