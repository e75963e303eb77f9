/**
 * The XDP program's SYN/ACKs and the engine that continues from them: cookies, and reported
 * sessions.
 */
import t, { type Test } from 'tap';
import { addressNumber, build, type TcpOptionsSpec } from '../../lab/packet.js';
import { referenceSipHash } from '../../lab/siphash.js';
import { CONTROL } from '../../src/datapath/xdp-layout.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { parse } from '../support/packet-parse.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import { CLIENT, clock, KEY, SECRET, segment, syn, VIRTUAL } from './xdp-packets.js';
import { REQUEST, Twin } from './xdp-twin.js';

const TCP_AT = 34;
const MSS_VALUES = [
  536, 576, 640, 768, 896, 966, 1024, 1120, 1160, 1200, 1220, 1240, 1260, 1280, 1300, 1320, 1340,
  1350, 1360, 1370, 1380, 1390, 1400, 1410, 1420, 1430, 1440, 1452, 1460, 4312, 8960, 16_344,
];

const OPTIONS: readonly (readonly [string, TcpOptionsSpec])[] = [
  ['none', {}],
  ['MSS', { mss: 1460 }],
  ['a scale', { windowScale: 7 }],
  ['a scale beyond the largest', { windowScale: 200 }],
  ['SACK', { sackPermitted: true }],
  ['timestamps', { timestamps: [0x8000_0001, 0] }],
  ['SACK and a scale', { sackPermitted: true, windowScale: 0 }],
  ['timestamps and a scale', { timestamps: [1, 2], windowScale: 14 }],
  ['as Linux', { mss: 1460, sackPermitted: true, timestamps: [0x1234_5678, 0], windowScale: 7 }],
  ['an MSS of 0', { mss: 0, windowScale: 1 }],
  ['an MSS of 65535', { mss: 65_535 }],
];

/** A cookie, computed from its description. */
function referenceCookie(frame: Uint8Array, bits: number, ms: number): number {
  const view = new DataView(frame.buffer, frame.byteOffset);
  const ports = view.getUint32(TCP_AT);
  const client = view.getUint32(26);
  const isn = view.getUint32(TCP_AT + 4);
  const message = new DataView(new ArrayBuffer(16));
  [client, addressNumber(VIRTUAL), ports, ms >>> 16].forEach((word, index) => {
    message.setUint32(index * 4, word);
  });
  const hash = referenceSipHash(SECRET.subarray(16), new Uint8Array(message.buffer));
  const [upper, lower] = [hash >> 32n, hash & 0xffff_ffffn];
  const product = ((BigInt(isn) ^ lower) * (upper | 1n)) & 0xffff_ffffn;
  const above = ((upper >> 22n) << 11n) | (product >> 21n);
  return ((Number(above) << 11) | (bits ^ Number(lower & 0x7ffn))) >>> 0;
}

/** The bits of a cookie for these options. */
function referenceBits(options: TcpOptionsSpec): number {
  const mss = Math.max(options.mss ?? 536, 536);
  const index = MSS_VALUES.filter((value) => value <= mss).length - 1;
  const wscale = options.windowScale === undefined ? 15 : Math.min(options.windowScale, 14);
  return (
    index |
    (wscale << 5) |
    (options.sackPermitted ? 0x200 : 0) |
    (options.timestamps === undefined ? 0 : 0x400)
  );
}

/**
 * Continues a handshake from its SYN/ACK: the client's ACK, then its request. Returns the engine's
 * last frame.
 */
function goOn(t: Test, twin: Twin, answer: Uint8Array, sourcePort: number, now: number): void {
  const { tcp } = parse(answer);
  const stamps = tcp!.options.timestamps;
  const rest = {
    sourcePort,
    seq: tcp!.ack,
    ack: (tcp!.seq + 1) >>> 0,
    options: stamps === undefined ? {} : { timestamps: [stamps[1] + 1, stamps[0]] as const },
  };
  t.strictSame(twin.receive(segment({ ...rest, flags: 'A' }), now), [], 'the ACK gets no answer');
  const slot = twin.table.find(addressNumber(CLIENT.address), (sourcePort << 16) >>> 0);
  if (slot < 0) {
    t.fail('no session');
    return;
  }
  t.equal(twin.table.state(slot), SessionState.collecting);
  t.equal(
    twin.table.tsOffset(slot),
    stamps === undefined ? twin.table.tsOffset(slot) : (stamps[0] - now) >>> 0,
  );
  const [handoff] = twin.receive(segment({ ...rest, flags: 'PA' }, REQUEST), now);
  const { ixp } = parse(handoff!, KEY);
  t.match(ixp, { type: 1, tag: ixp!.tag }, 'the handoff');
}

if (insideNamespace(import.meta.url)) {
  let port = 30_000;

  t.test('cookies match their description', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    const twin = new Twin();
    const check = (name: string, options: TcpOptionsSpec): void => {
      const spec = syn({ tcp: { sourcePort: port++, options } });
      const from = clock();
      const outcome = fast.run(spec);
      const at = fast.control.getUint32(CONTROL.cookieAt, true);
      t.strictSame(outcome.counters.sort().slice(-1), ['syn_cookie'], name);
      t.ok(at >= from && at <= clock(), `${name}: the time is noted`);
      const sequence = referenceCookie(build(spec), referenceBits(options), at);
      t.equal(parse(outcome.frame).tcp!.seq, sequence, `${name}: the cookie`);
      const [expected] = twin.receive(spec, at);
      const rest = (frame: Uint8Array): number[] => [
        ...frame.subarray(0, TCP_AT + 4),
        ...frame.subarray(TCP_AT + 8, TCP_AT + 16),
        ...frame.subarray(TCP_AT + 18),
      ];
      t.strictSame(rest(outcome.frame), rest(expected!), `${name}: all else is as ever`);
      t.strictSame(parse(outcome.frame).problems, [], name);
    };
    fast.engine(true);
    fast.control.setUint32(CONTROL.halfOpen, 1, true);
    for (const [name, options] of OPTIONS) check(name, options);
    for (const mss of MSS_VALUES)
      for (const by of [-1, 0, 1]) check(`an MSS of ${mss + by}`, { mss: mss + by });
    fast.control.setUint32(CONTROL.halfOpen, 0, true);
    fast.control.setUint32(CONTROL.halfOpen + 4, 1, true);
    t.match(
      fast.run(syn({ tcp: { sourcePort: port++ } })),
      { counters: ['syn_answered'] },
      'of another worker',
    );
    t.equal(fast.events().length, 1);
    fast.engine(false);
    check('an engine that is gone', { mss: 1400, timestamps: [1, 2] });
    t.strictSame(fast.events(), []);
  });

  t.test('an engine that never saw the SYN accepts its cookie', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.control.setUint32(CONTROL.halfOpen, 1, true);
    fast.alive(clock());
    for (const [name, options] of OPTIONS) {
      const twin = new Twin();
      const sourcePort = port++;
      const spec = syn({ tcp: { sourcePort, options } });
      const { frame } = fast.run(spec);
      const now = fast.control.getUint32(CONTROL.cookieAt, true);
      twin.engine.cookieSent(now);
      const counted = twin.counted(
        ['cookie_accepted', 'established', 'adopted', 'drop_cookie'],
        () => {
          goOn(t, twin, frame, sourcePort, now);
        },
      );
      t.strictSame(counted, ['cookie_accepted', 'established'], name);
      const slot = twin.table.find(addressNumber(CLIENT.address), (sourcePort << 16) >>> 0);
      const shift = Math.min(options.windowScale ?? 0, 14);
      t.equal(twin.table.scales(slot) >>> 4, shift, name);
    }
  });

  t.test('an engine that reads the event continues the session', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    for (const [name, options] of OPTIONS) {
      const twin = new Twin();
      const sourcePort = port++;
      const { frame } = fast.run(syn({ tcp: { sourcePort, options } }));
      const now = clock();
      twin.engine.kernelEvent(fast.eventWords(), 0, now);
      const { tcp } = parse(frame);
      const stamps = tcp!.options.timestamps;
      const made = stamps === undefined ? now : (stamps[0] - fastOffset(twin, sourcePort)) >>> 0;
      const counted = twin.counted(['syn', 'syn_answered', 'established'], () => {
        goOn(t, twin, frame, sourcePort, made);
      });
      t.strictSame(counted, ['established'], name);
    }
  });
}

/** The start of a session's timestamp clock. */
function fastOffset(twin: Twin, sourcePort: number): number {
  return twin.table.tsOffset(
    twin.table.find(addressNumber(CLIENT.address), (sourcePort << 16) >>> 0),
  );
}
