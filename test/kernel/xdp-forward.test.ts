/**
 * The XDP program and sessions that a node owns: segments are forwarded, followed, or given to the
 * engine.
 */
import t from 'tap';
import { build, type PacketSpec, type TcpSpec } from '../../lab/packet.js';
import { CONTROL, OUTPUT } from '../../src/datapath/xdp-layout.js';
import { COOKIE_LIFE_MS } from '../../src/engine/syn-cookie.js';
import { SessionAction } from '../../src/engine/table/session-record.js';
import { SessionFlag, SessionState } from '../../src/engine/table/session-table.js';
import { hostU32 } from '../../src/host/bpf-object.js';
import { native } from '../../src/host/native.js';
import { parse } from '../support/packet-parse.js';
import { insideNamespace, run } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import {
  byStack,
  CLIENT_ISN,
  clock,
  LO,
  NODE,
  onward,
  SERVER_ISN,
  segment,
  syn,
  unfinished,
  Verdict,
} from './xdp-packets.js';

const { drop, pass, tx, redirect } = Verdict;
const FIRST = (CLIENT_ISN + 1) >>> 0;
const ANSWER = SERVER_ISN + 1;
const plain = { flags: 'A', seq: FIRST, ack: ANSWER };
const MAX_ADVANCE = 1 << 24;

const forward = SessionAction.forward;

if (insideNamespace(import.meta.url)) {
  t.test('a segment goes to the node with new MAC addresses and no other change', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    const slot = fast.session();
    const table = fast.tables[0]!;
    for (const [tcp, text] of [
      [plain, ''],
      [{ ...plain, options: { timestamps: [7, 8] } }, 'x'.repeat(1000)],
      [{ ...plain, flags: 'PAEC', urgent: 5 }, 'text'],
      [{ ...plain, flags: '' }, ''],
      [{ ...plain, checksum: 0x1234 }, 'the node finds a wrong checksum'],
    ] as const) {
      const frame = build(
        segment(tcp, text, { ip: { tos: 3, ttl: 9, id: 77 }, trailer: new Uint8Array(6) }),
      );
      const outcome = fast.run(frame);
      t.match(outcome, { verdict: tx, counters: ['forwarded'] });
      t.strictSame([...outcome.frame], [...onward(frame)]);
    }
    t.equal(table.packets(slot), 5);
    t.ok(clock() - table.lastSeen(slot) < 5000, 'seen now');
  });

  t.test('the same with more virtual servers than fit into `control`', async (t) => {
    const fast = new Fast({ inlineServers: false });
    t.teardown(() => fast.close());
    fast.session();
    const frame = build(segment(plain));
    const outcome = fast.run(frame);
    t.match(outcome, { verdict: tx, counters: ['forwarded'] });
    t.strictSame([...outcome.frame], [...onward(frame)]);
    const other = build(segment({ ...plain, destinationPort: 81 }));
    const { verdict, counters } = fast.run(other);
    t.strictSame(
      { verdict, counters },
      { verdict: pass, counters: [] },
      'a port without a virtual server',
    );
  });

  t.test('forwarded bytes are whole frames', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.session();
    const names = ['forwarded', 'forwarded_bytes'];
    const frame = build(segment(plain, 'text', { trailer: new Uint8Array(2) }));
    fast.object.testRunXdp('baton_xdp', frame);
    t.strictSame([...fast.object.mapSums('counters', names.length)], [1, frame.length]);
  });

  t.test('through another interface', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.session();
    run('ip', 'link', 'add', 'inner', 'type', 'veth', 'peer', 'name', 'other');
    const inner = native().interfaceInfo('inner')?.index ?? 0;
    fast.node(NODE.index, { mac: NODE.mac, interface: inner });
    t.match(fast.run(segment(plain)), { verdict: drop, counters: ['forwarded', 'drop_no_port'] });
    fast.object.mapUpdate('ports', hostU32(inner), hostU32(inner));
    const frame = build(segment(plain));
    const outcome = fast.run(frame);
    t.match(outcome, { verdict: redirect, counters: ['forwarded'] });
    t.strictSame([...outcome.frame], [...onward(frame)]);
  });

  t.test('on interfaces where XDP_TX may lose frames', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.session();
    fast.node(NODE.index, { mac: NODE.mac, interface: LO, redirect: true });
    t.match(fast.run(segment(plain)), { verdict: drop, counters: ['forwarded', 'drop_no_port'] });
    fast.object.mapUpdate('ports', hostU32(LO), hostU32(LO));
    t.match(fast.run(segment(plain)), { verdict: redirect, counters: ['forwarded'] });
    fast.control.setUint8(CONTROL.output, OUTPUT.redirect);
    fast.node(NODE.index, { mac: NODE.mac, interface: LO });
    t.match(fast.run(segment(plain)), { verdict: tx }, 'each node has a flag of its own');
    fast.engine(true);
    const answer = fast.run(syn({ tcp: { sourcePort: 7 } }));
    t.match(answer, { verdict: redirect, counters: ['syn_answered'] }, 'the answer to a SYN');
    t.strictSame(parse(answer.frame).problems, []);
  });

  t.test('a node without a MAC address, or that does not exist', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const slot = fast.session();
    fast.node(NODE.index, { mac: NODE.mac, interface: 0 });
    t.match(fast.run(segment(plain)), { verdict: drop, counters: ['drop_unresolved'] });
    fast.tables[0]!.setNode(slot, 0xffff);
    t.match(fast.run(segment(plain)), { verdict: drop, counters: ['drop_unresolved'] });
    t.equal(fast.tables[0]!.packets(slot), 2, 'the client is still followed');
  });

  t.test('SYN, FIN, RST and sessions without an action go to the engine', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const slot = fast.session();
    const cases: [string, TcpSpec, string][] = [
      ['SYN', { flags: 'S' }, 'to_engine_syn'],
      ['SYN/ACK', { ...plain, flags: 'SA' }, 'to_engine_syn'],
      ['FIN beyond a gap', { ...plain, flags: 'FA', seq: CLIENT_ISN + 2 }, 'to_engine_fin'],
      ['FIN without ACK', { ...plain, flags: 'F' }, 'to_engine_fin'],
      ['FIN of a forger', { ...plain, flags: 'FA', ack: SERVER_ISN + (1 << 25) }, 'to_engine_fin'],
      ['RST', { ...plain, flags: 'R' }, 'to_engine_rst'],
      ['FIN and RST', { ...plain, flags: 'FR' }, 'to_engine_fin'],
    ];
    for (const [name, tcp, counter] of cases) {
      const frame = build(segment(tcp));
      const outcome = fast.run(frame);
      t.match(outcome, { verdict: redirect, counters: [counter] }, name);
      t.strictSame([...outcome.frame], [...frame]);
    }
    fast.setAction(slot, 0);
    for (const flags of ['A', 'S', 'F', 'R', '']) {
      t.match(fast.run(segment({ ...plain, flags })), {
        verdict: redirect,
        counters: ['to_engine_state'],
      });
    }
    t.equal(fast.tables[0]!.packets(slot), 0, 'none of which it counted');
    t.equal(fast.tables[0]!.lastSeen(slot), 1);
  });

  t.test(
    'an acknowledgement of the response is forwarded before the node has confirmed',
    async (t) => {
      const fast = new Fast();
      t.teardown(() => fast.close());
      fast.engine(true);
      const seq = plain.seq;
      const slot = fast.session(SessionAction.answered, (table, at) => table.setHandedTo(at, seq));
      const cases: [string, TcpSpec, string][] = [
        ['nothing acknowledged', { ...plain, ack: SERVER_ISN + 1 }, 'to_engine_state'],
        ['less than nothing', { ...plain, ack: SERVER_ISN }, 'to_engine_state'],
        ['the first byte', { ...plain, ack: SERVER_ISN + 2 }, 'forwarded'],
        ['as much as may be', { ...plain, ack: SERVER_ISN + 1 + (1 << 24) }, 'forwarded'],
        ['more', { ...plain, ack: SERVER_ISN + 2 + (1 << 24) }, 'to_engine_state'],
        [
          'what the engine keeps',
          { ...plain, seq: seq - 1, ack: SERVER_ISN + 2 },
          'to_engine_state',
        ],
        ['no ACK', { ...plain, flags: 'P', ack: SERVER_ISN + 2 }, 'to_engine_state'],
      ];
      for (const [name, tcp, counter] of cases)
        t.match(fast.run(segment(tcp)), { counters: [counter] }, name);
      t.equal(fast.tables[0]!.packets(slot), 2);
      fast.setAction(slot, SessionAction.answered | SessionAction.wrap);
      t.match(fast.run(segment({ ...plain, ack: SERVER_ISN + 2 }, 'more')), {
        counters: ['forwarded'],
      });
      t.match(fast.run(segment({ ...plain, ack: SERVER_ISN + 1 }, 'more')), {
        counters: ['wrapped'],
      });
    },
  );

  t.test('the ACK that ends a handshake does not wake the engine', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const slot = fast.session(0, () => {}, SessionState.synReceived);
    const table = fast.tables[0]!;
    table.setClientAck(slot, SERVER_ISN);
    const ack: TcpSpec = { ...plain, flags: 'A', seq: CLIENT_ISN + 1, ack: SERVER_ISN + 1 };
    for (const [name, tcp, payload] of [
      ['a request', ack, 'GET'],
      ['another number', { ...ack, ack: SERVER_ISN + 2 }, ''],
      ['beyond a gap', { ...ack, seq: CLIENT_ISN + 2 }, ''],
      ['a FIN', { ...ack, flags: 'FA' }, ''],
    ] as const) {
      t.match(
        fast.run(segment(tcp, payload)),
        { verdict: redirect, counters: ['to_engine_state'] },
        name,
      );
    }
    t.equal(table.clientAck(slot), SERVER_ISN);
    t.match(fast.run(segment(ack)), { verdict: drop, counters: ['absorbed'] });
    t.equal(table.clientAck(slot), SERVER_ISN + 1);
    table.setState(slot, SessionState.collecting);
    t.match(
      fast.run(segment(ack)),
      { verdict: redirect, counters: ['to_engine_state'] },
      'a keep-alive',
    );
  });

  t.test('nor does it before the engine has read the event of the SYN', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    fast.run(syn());
    const [event] = fast.events();
    const ack = (by: number): PacketSpec =>
      segment({ flags: 'A', seq: 0, ack: ((event?.serverIsn ?? 0) + 1 + by) >>> 0 });
    t.match(fast.run(ack(0)), { verdict: drop, counters: ['absorbed'] });
    for (const bit of [11, 21, 22, 31]) {
      const other = fast.run(ack(2 ** bit));
      t.match(
        other,
        { verdict: redirect, counters: ['to_engine_unknown'] },
        'a number that was not sent',
      );
    }
    const behind = segment({ flags: 'A', seq: 1, ack: ((event?.serverIsn ?? 0) + 1) >>> 0 });
    t.match(
      fast.run(behind),
      { counters: ['to_engine_unknown'] },
      'nor this to a client whose first number is there',
    );
    t.match(fast.run(segment({ flags: 'A', seq: 0, ack: (event?.serverIsn ?? 0) + 1 }, 'GET')), {
      counters: ['to_engine_unknown'],
    });
    fast.control.setUint32(CONTROL.cookieAt, clock() - 1, true);
    t.match(
      fast.run(ack(0)),
      { counters: ['to_engine_unknown'] },
      'the engine may not know of this SYN',
    );
    fast.control.setUint32(CONTROL.cookieAt, clock() + 10, true);
    t.match(
      fast.run(ack(0)),
      { counters: ['to_engine_unknown'] },
      'on a CPU whose clock is a little ahead',
    );
    for (const ago of [COOKIE_LIFE_MS + 1_000, 24 * 86_400_000, 26 * 86_400_000, 49 * 86_400_000]) {
      fast.control.setUint32(CONTROL.cookieAt, (clock() - ago) >>> 0, true);
      t.match(fast.run(ack(0)), { counters: ['absorbed'] }, `${ago} ms ago`);
    }
  });

  t.test('payload that the engine asks to see', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const slot = fast.session(forward | SessionAction.payloadUp);
    fast.tables[0]!.setHandedTo(slot, FIRST);
    t.match(fast.run(segment(plain)), { verdict: tx, counters: ['forwarded'] });
    t.match(fast.run(segment(plain, 'x')), { verdict: redirect, counters: ['payload_up'] });
    // A part that needs no reading. What reaches beyond its end goes to the engine.
    fast.tables[0]!.setHandedTo(slot, (FIRST + 3) >>> 0);
    t.match(fast.run(segment(plain, 'abc')), { verdict: tx, counters: ['forwarded'] });
    t.match(fast.run(segment(plain, 'abcd')), { verdict: redirect, counters: ['payload_up'] });
    fast.engine(false);
    const alone = ['engine_absent', 'forwarded', 'forwarded_alone'];
    const outcome = fast.run(segment(plain, 'abcd'));
    t.match({ ...outcome, counters: outcome.counters.sort() }, { verdict: tx, counters: alone });
  });

  t.test('without an engine sessions continue to their end', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    const slot = fast.session();
    const table = fast.tables[0]!;
    const alone = (tcp: TcpSpec, text = ''): void => {
      const frame = build(segment(tcp, text));
      const outcome = fast.run(frame);
      t.equal(outcome.verdict, tx, String(tcp.flags));
      t.strictSame(outcome.counters.sort(), ['engine_absent', 'forwarded', 'forwarded_alone']);
      t.strictSame([...outcome.frame], [...onward(frame)]);
    };
    t.match(fast.run(segment(plain, 'ten bytes.')), { verdict: tx, counters: ['forwarded'] });
    alone({ ...plain, flags: 'FA', seq: FIRST + 11 });
    t.equal(table.flags(slot), 0, 'a FIN beyond a gap does not count yet');
    alone({ ...plain, flags: 'FA', seq: (FIRST + 4) >>> 0 }, 'tes.!!!');
    t.equal(table.flags(slot), SessionFlag.clientFin, 'one that joins does');
    t.equal(table.receiveNext(slot), (FIRST + 12) >>> 0);
    table.setLastSeen(slot, 5);
    alone({ flags: 'R', seq: table.receiveNext(slot) });
    t.equal(table.lastSeen(slot), 5, 'an RST keeps nothing alive');
    t.equal(table.packets(slot), 4);
    for (const flags of ['S', 'SA', 'FR']) {
      const outcome = fast.run(segment({ ...plain, flags }));
      t.match(outcome, { verdict: drop, counters: ['engine_absent'] }, flags);
    }
    const left = unfinished(segment({ ...plain, flags: 'FA' }));
    byStack(t, fast.run(left), left, ['forwarded', 'engine_absent', 'forwarded_alone']);
    fast.setAction(slot, 0);
    t.match(fast.run(segment(plain)), { verdict: drop, counters: ['engine_absent'] });
  });

  t.test('how far the client has got', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    const table = fast.tables[0]!;
    /**
     * [description, segment, payload, receive_next and client_ack afterwards, relative to the first
     * numbers]
     */
    const steps: [string, TcpSpec, string, number, number][] = [
      ['payload', plain, 'abc', 3, 0],
      ['the same again', plain, 'abc', 3, 0],
      ['behind a gap', { ...plain, seq: FIRST + 10 }, 'abc', 13, 0],
      ['older', { ...plain, seq: FIRST + 5 }, 'a', 13, 0],
      ['an acknowledgement', { ...plain, seq: FIRST + 13, ack: ANSWER + 100 }, '', 13, 100],
      ['an older one', { ...plain, seq: FIRST + 13, ack: ANSWER + 50 }, '', 13, 100],
      [
        'the largest step',
        { ...plain, seq: FIRST + 13, ack: ANSWER + 100 + MAX_ADVANCE },
        '',
        13,
        100 + MAX_ADVANCE,
      ],
      [
        'one more than the largest step',
        { ...plain, seq: FIRST + 14, ack: ANSWER + 101 + 2 * MAX_ADVANCE },
        'a',
        13,
        100 + MAX_ADVANCE,
      ],
      ['far behind', { ...plain, seq: FIRST + 14, ack: ANSWER + 99 }, 'a', 13, 100 + MAX_ADVANCE],
      [
        'payload too far ahead',
        { ...plain, seq: FIRST + 13 + MAX_ADVANCE - 1, ack: ANSWER + 100 },
        'a',
        13,
        100 + MAX_ADVANCE,
      ],
      [
        'just near enough',
        { ...plain, seq: FIRST + 13 + MAX_ADVANCE - 2, ack: ANSWER + 100 },
        'a',
        12 + MAX_ADVANCE,
        100 + MAX_ADVANCE,
      ],
      [
        'no ACK flag',
        { ...plain, flags: 'P', seq: FIRST + 12 + MAX_ADVANCE },
        'a',
        12 + MAX_ADVANCE,
        100 + MAX_ADVANCE,
      ],
    ];
    const slot = fast.session();
    for (const [name, tcp, text, next, acked] of steps) {
      const spec = segment({ ...tcp, seq: (tcp.seq ?? 0) >>> 0, ack: (tcp.ack ?? 0) >>> 0 }, text);
      t.match(fast.run(spec), { verdict: tx, counters: ['forwarded'] }, name);
      t.equal(table.receiveNext(slot), (FIRST + next) >>> 0, `${name}: next`);
      t.equal(table.clientAck(slot), (ANSWER + acked) >>> 0, `${name}: acknowledged`);
    }
  });
}
