/**
 * The XDP program and payload behind an unconfirmed handoff: its IXP frames equal those of the
 * engine.
 */
import t from 'tap';
import { build, type PacketSpec, type TcpOptionsSpec, type TcpSpec } from '../../lab/packet.js';
import {
  SESSION_RECORD,
  SESSION_RECORD_BYTES,
  SessionAction,
} from '../../src/engine/table/session-record.js';
import { parse } from '../support/packet-parse.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import { KEY, MTU, NODE, SERVER_ISN, segment, unfinished, Verdict } from './xdp-packets.js';
import { Twin } from './xdp-twin.js';

const { drop, pass, redirect, tx } = Verdict;
const OWN_FIELDS: readonly number[] = [SESSION_RECORD.action];
const HEADERS = 40;
const IXP = 36;

/** A record without the fields that only one side of the comparison sets. */
function comparable(record: Uint8Array): number[] {
  return [...record].map((byte, at) => (OWN_FIELDS.includes(at) ? 0 : byte));
}

if (insideNamespace(import.meta.url)) {
  const OPTIONS: readonly [string, TcpOptionsSpec, TcpOptionsSpec][] = [
    ['no options', {}, {}],
    ['an MSS and a scale', { mss: 1460, windowScale: 9 }, {}],
    ['an MSS that is too small, SACK', { mss: 300, sackPermitted: true }, {}],
    [
      'all',
      { mss: 1400, sackPermitted: true, timestamps: [0xffff_fff0, 0], windowScale: 3 },
      { timestamps: [0xffff_fff1, 5] },
    ],
  ];

  for (const [name, agreed, carried] of OPTIONS) {
    t.test(`as the engine wraps: ${name}`, async (t) => {
      const fast = new Fast();
      t.teardown(() => fast.close());
      fast.engine(true);
      const twin = new Twin(SERVER_ISN);
      const { slot, seq, ack } = twin.handing(agreed);
      const there = twin.mirror(fast, slot, SessionAction.wrap);
      const optionBytes = carried.timestamps === undefined ? 0 : 12;
      const most = MTU - HEADERS - IXP - optionBytes;
      let at = seq;
      for (const [bytes, flags, rest] of [
        [1, 'A', { trailer: new Uint8Array(5) }],
        [100, 'PA', { ip: { tos: 0x10, ttl: 3, id: 0x1234, dontFragment: false } }],
        [most, 'PA', {}],
        [most - 1, 'AEC', { trailer: new Uint8Array(9) }],
      ] as [number, string, PacketSpec][]) {
        const spec = segment(
          { flags, seq: at, ack, options: carried, urgent: 3 },
          'y'.repeat(bytes),
          rest,
        );
        const outcome = fast.run(spec);
        t.match(outcome, { verdict: tx, counters: ['wrapped'] }, `${bytes} bytes`);
        const now = fast.tables[0]!.lastSeen(there);
        const [expected] = twin.receive(spec, now);
        t.strictSame([...outcome.frame], [...(expected ?? [])], `${bytes} bytes: the frame`);
        t.strictSame(parse(outcome.frame, KEY).problems, [], `${bytes} bytes: tag and checksums`);
        const record = new Uint8Array(
          fast.records.buffer,
          there * SESSION_RECORD_BYTES,
          SESSION_RECORD_BYTES,
        );
        t.strictSame(
          comparable(record),
          comparable(twin.record(slot)),
          `${bytes} bytes: the record`,
        );
        at = (at + bytes) >>> 0;
      }
      t.equal(fast.tables[0]!.receiveNext(there), at);
    });
  }

  t.test('all other segments go to the engine unchanged', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const twin = new Twin(SERVER_ISN);
    const { slot, seq, ack } = twin.handing();
    const there = twin.mirror(fast, slot, SessionAction.wrap);
    const most = MTU - HEADERS - IXP;
    const good = { flags: 'PA', seq, ack };
    const cases: [string, Uint8Array | PacketSpec][] = [
      ['no payload', segment(good)],
      ['bytes that were handed over', segment({ ...good, seq: (seq - 1) >>> 0 }, 'ab')],
      ['beyond the window', segment({ ...good, seq: (seq + 0x10000) >>> 0 }, 'a')],
      ['it acknowledges an answer', segment({ ...good, ack: (ack + 1) >>> 0 }, 'a')],
      ['it acknowledges less', segment({ ...good, ack: (ack - 1) >>> 0 }, 'a')],
      ['no ACK flag', segment({ ...good, flags: 'P' }, 'a')],
      ['a wrong IPv4 checksum', segment(good, 'a', { ip: { checksum: 0x1234 } })],
      ['an unfinished TCP checksum', unfinished(segment(good, 'text'))],
    ];
    const notable: [TcpSpec, string][] = [
      [{ ...good, flags: 'SA' }, 'to_engine_syn'],
      [{ ...good, flags: 'FA' }, 'to_engine_fin'],
      [{ ...good, flags: 'RA' }, 'to_engine_rst'],
    ];
    const before = fast.records.buffer.slice(0);
    for (const [name, spec] of cases) {
      const frame = spec instanceof Uint8Array ? spec : build(spec);
      const outcome = fast.run(frame);
      t.match(outcome, { verdict: redirect, counters: ['to_engine_state'] }, name);
      t.strictSame([...outcome.frame], [...frame], name);
    }
    const larger = fast.run(segment(good, 'y'.repeat(most + 1)));
    t.match(
      larger,
      { verdict: pass, counters: ['to_engine_uncut'] },
      'one byte more than fits, through its tap',
    );
    for (const [tcp, counter] of notable) {
      t.match(fast.run(segment(tcp, 'a')), { verdict: redirect, counters: [counter] });
    }
    t.strictSame(Buffer.from(fast.records.buffer), Buffer.from(before), 'nothing was written');
    const edge = fast.run(segment({ ...good, seq: (seq + 0xffff) >>> 0 }, 'a'));
    t.match(edge, { verdict: tx, counters: ['wrapped'] }, 'the last byte of the window');

    fast.node(NODE.index, { mac: NODE.mac, interface: 0 });
    t.match(fast.run(segment(good, 'a')), { verdict: drop, counters: ['drop_unresolved'] });
    fast.engine(false);
    t.match(fast.run(segment(good)), { verdict: drop, counters: ['engine_absent'] });
    const fin = fast.run(segment({ ...good, flags: 'FA' }, 'a'));
    t.match(fin, { verdict: drop, counters: ['engine_absent'] }, 'never in plain form');
    t.equal(
      fast.records.getUint8(there * SESSION_RECORD_BYTES + SESSION_RECORD.flags),
      twin.table.flags(slot),
    );
  });
}
