/**
 * The XDP program and the end of a session that the balancer has answered itself: the engine sleeps
 * through the client's ACK and FIN.
 */
import t from 'tap';
import { build, type TcpOptionsSpec, type TcpSpec } from '../../lab/packet.js';
import { CONTROL, OUTPUT } from '../../src/datapath/xdp-layout.js';
import { SessionFlag, SessionState } from '../../src/engine/table/session-table.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import {
  BALANCER,
  CLIENT,
  CLIENT_ISN,
  clock,
  PORTS,
  SERVER_ISN,
  segment,
  unfinished,
  Verdict,
  VIRTUAL,
  WINDOW,
  WINDOW_SHIFT,
} from './xdp-packets.js';

const { drop, redirect, tx } = Verdict;
const NONCE = 77;
/** The next number of the client, and the number behind the balancer's FIN. */
const NEXT = (CLIENT_ISN + 61) >>> 0;
const END = (SERVER_ISN + 200) >>> 0;
const TS_OFFSET = 5_000;
const ack = { flags: 'A', seq: NEXT, ack: END };
const fin = { ...ack, flags: 'FA' };

/** A program whose usual client's session was answered. */
function closing(flags = 0): { fast: Fast; slot: number } {
  const fast = new Fast();
  fast.engine(true);
  const table = fast.tables[0]!;
  const slot = fast.session(0);
  table.setNonce(slot, NONCE);
  table.setFlags(slot, flags);
  table.setReceiveNext(slot, NEXT);
  table.setHandedTo(slot, END);
  table.setTsOffset(slot, TS_OFFSET);
  if ((flags & SessionFlag.windowScaleOk) !== 0) table.setScales(slot, (9 << 4) | WINDOW_SHIFT);
  table.setState(slot, SessionState.answering);
  return { fast, slot };
}

/** The ACK that the engine would send after the client's FIN. */
function lastAck(window: number, options?: TcpOptionsSpec): Uint8Array {
  return build({
    ethernet: { source: BALANCER.mac, destination: CLIENT.mac },
    ip: { source: VIRTUAL, destination: CLIENT.address, id: 0, ttl: 64, dontFragment: true },
    tcp: {
      sourcePort: PORTS[0],
      destinationPort: CLIENT.port,
      seq: END,
      ack: NEXT + 1,
      flags: 'A',
      window,
      ...(options === undefined ? {} : { options }),
    },
  });
}

/** Timestamps in the form that all common systems have: after two no-operations. */
function common(tsval: number, tsecr: number): TcpOptionsSpec {
  const raw = new Uint8Array(12);
  const view = new DataView(raw.buffer);
  view.setUint32(0, 0x0101080a);
  view.setUint32(4, tsval);
  view.setUint32(8, tsecr);
  return { raw };
}

if (insideNamespace(import.meta.url)) {
  t.test('the ACK of all of an answer is noted and dropped', async (t) => {
    const { fast, slot } = closing();
    t.teardown(() => fast.close());
    const table = fast.tables[0]!;
    table.setLastSeen(slot, 0);
    t.match(fast.run(segment(ack)), { verdict: drop, counters: ['absorbed'] });
    t.equal(table.clientAck(slot), END);
    t.ok(clock() - table.lastSeen(slot) < 1_000);
    t.match(fast.run(segment(ack)), { counters: ['absorbed'] }, 'once more');
    t.strictSame(fast.events(), []);
  });

  t.test('the last ACK of a client that has closed first goes to the engine', async (t) => {
    const { fast } = closing(SessionFlag.clientFin);
    t.teardown(() => fast.close());
    t.match(fast.run(segment(ack)), { verdict: redirect, counters: ['to_engine_state'] });
  });

  t.test('the FIN is acknowledged and reported', async (t) => {
    const { fast, slot } = closing();
    t.teardown(() => fast.close());
    const table = fast.tables[0]!;
    const outcome = fast.run(segment(fin));
    t.match(outcome, { verdict: tx, counters: ['fin_answered'] });
    t.strictSame([...outcome.frame], [...lastAck(WINDOW)]);
    const [event] = fast.events();
    t.match(event, { client: table.client(slot), serverIsn: NONCE, flags: 0x80 });
    t.equal(table.receiveNext(slot), NEXT + 1);
    t.equal(table.clientAck(slot), END);
    t.match(fast.run(segment(fin)), { verdict: redirect, counters: ['to_engine_fin'] }, 'again');
    t.strictSame(fast.events(), []);
  });

  t.test('with timestamps and window scale', async (t) => {
    const { fast } = closing(SessionFlag.timestampsOk | SessionFlag.windowScaleOk);
    t.teardown(() => fast.close());
    const timestamps = [0xfedc_ba98, 7] as const;
    const others: TcpOptionsSpec[] = [{}, { timestamps }, { timestamps, sack: [[1, 2]] }];
    for (const options of others)
      t.match(fast.run(segment({ ...fin, options })), { counters: ['to_engine_fin'] }, 'others');
    const before = clock();
    const { verdict, frame } = fast.run(segment({ ...fin, options: common(...timestamps) }));
    t.equal(verdict, tx);
    const tsval = new DataView(frame.buffer, frame.byteOffset).getUint32(14 + 20 + 20 + 4);
    t.ok(tsval - TS_OFFSET >= before && tsval - TS_OFFSET <= clock(), 'our clock');
    const expected = lastAck(WINDOW >> WINDOW_SHIFT, common(tsval, timestamps[0]));
    t.strictSame([...frame], [...expected]);
  });

  t.test('everything else goes to the engine', async (t) => {
    const { fast, slot } = closing();
    t.teardown(() => fast.close());
    const table = fast.tables[0]!;
    const cases: [string, TcpSpec, string, string?][] = [
      ['a part of the answer', { ...ack, ack: END - 1 }, 'to_engine_state'],
      ['more than the answer', { ...ack, ack: END + 1 }, 'to_engine_state'],
      ['a keep-alive probe', { ...ack, seq: NEXT - 1 }, 'to_engine_state'],
      ['payload', ack, 'to_engine_state', 'text'],
      ['FIN with payload', fin, 'to_engine_fin', 'text'],
      ['FIN behind a gap', { ...fin, seq: NEXT + 1 }, 'to_engine_fin'],
      ['FIN without all of the answer', { ...fin, ack: END - 1 }, 'to_engine_fin'],
      ['FIN without ACK', { ...fin, flags: 'F' }, 'to_engine_fin'],
      ['RST', { ...ack, flags: 'RA' }, 'to_engine_rst'],
      ['SYN', { ...ack, flags: 'S' }, 'to_engine_syn'],
    ];
    for (const [name, tcp, counter, payload] of cases)
      t.match(fast.run(segment(tcp, payload)), { verdict: redirect, counters: [counter] }, name);
    for (const tcp of [ack, fin]) {
      const damaged = build(segment(tcp));
      damaged[50]! ^= 1;
      t.equal(fast.run(damaged).verdict, redirect, 'a wrong checksum');
    }
    t.equal(table.receiveNext(slot), NEXT);
    t.strictSame(fast.events(), []);
  });

  t.test('checksums that are left to hardware', async (t) => {
    const { fast } = closing();
    t.teardown(() => fast.close());
    t.match(fast.run(unfinished(segment(ack))), { counters: ['absorbed'] });
    fast.control.setUint8(CONTROL.output, OUTPUT.generic);
    t.match(fast.run(unfinished(segment(fin))), { counters: ['to_engine_fin'] }, 'generic XDP');
    fast.control.setUint8(CONTROL.output, 0);
    const outcome = fast.run(unfinished(segment(fin)));
    t.match(outcome, { verdict: tx, counters: ['fin_answered'] });
    t.strictSame([...outcome.frame], [...lastAck(WINDOW)]);
  });

  t.test('a FIN that cannot be reported comes again', async (t) => {
    const { fast, slot } = closing();
    t.teardown(() => fast.close());
    const table = fast.tables[0]!;
    fast.fillRing();
    t.match(fast.run(segment(fin)), { verdict: drop, counters: ['drop_untold'] }, 'ring full');
    fast.events();
    fast.engine(false);
    t.match(fast.run(segment(fin)), { verdict: drop, counters: ['drop_untold'] }, 'no engine');
    t.match(fast.run(segment(ack)), { counters: ['absorbed'] });
    t.equal(table.receiveNext(slot), NEXT);
    fast.engine(true);
    t.match(fast.run(segment(fin)), { verdict: tx, counters: ['fin_answered'] });
  });
}
