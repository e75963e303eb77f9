/** The XDP program and the FIN of a client: forwarded, and reported without waking the engine. */
import t from 'tap';
import { build, type TcpSpec } from '../../lab/packet.js';
import { SessionAction } from '../../src/engine/table/session-record.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import {
  byStack,
  CLIENT_ISN,
  onward,
  SERVER_ISN,
  segment,
  unfinished,
  Verdict,
} from './xdp-packets.js';

const { drop, redirect, tx } = Verdict;
const FIRST = (CLIENT_ISN + 1) >>> 0;
const plain = { flags: 'A', seq: FIRST, ack: SERVER_ISN + 1 };
/** Acknowledges one byte of the response. */
const fin = { flags: 'FA', seq: FIRST, ack: SERVER_ISN + 2 };
const NONCE = 77;
const { answered, wrap } = SessionAction;

/** Inserts the usual client's session during its handoff; returns its slot. */
function handing(fast: Fast, action: number = answered): number {
  const slot = fast.session(0, (table, at) => {
    table.setNonce(at, NONCE);
    table.setHandedTo(at, FIRST);
  });
  fast.tables[0]!.setState(slot, SessionState.handing);
  fast.setAction(slot, action);
  return slot;
}

if (insideNamespace(import.meta.url)) {
  t.test('a FIN is forwarded and reported', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const slot = fast.session();
    const table = fast.tables[0]!;
    table.setNonce(slot, 77);
    const frame = build(segment({ ...plain, flags: 'FA', ack: SERVER_ISN + 9 }));
    const outcome = fast.run(frame);
    t.match(outcome, { verdict: tx, counters: ['forwarded', 'fin_forwarded'] });
    t.strictSame([...outcome.frame], [...onward(frame)]);
    const [event] = fast.events();
    t.match(event, {
      client: table.client(slot),
      portServer: table.portServer(slot),
      serverIsn: 77,
      flags: 0x80,
    });
    t.equal(table.receiveNext(slot), plain.seq + 1);
    t.equal(table.clientAck(slot), SERVER_ISN + 9);
    t.equal(table.flags(slot), 0, 'flags are the engine’s');
    t.match(fast.run(frame), { counters: ['to_engine_fin'] }, 'once more: the engine looks at it');
    t.match(fast.run(build(segment({ ...plain, flags: 'FA', seq: plain.seq + 1 }, 'text'))), {
      counters: ['to_engine_fin'],
    });
    const damaged = build(segment({ ...plain, flags: 'FA', seq: plain.seq + 1 }));
    damaged[50]! ^= 1;
    t.match(fast.run(damaged), { counters: ['to_engine_fin'] });
    t.strictSame(fast.events(), []);
    const left = unfinished(segment({ ...plain, flags: 'FA', seq: plain.seq + 1 }));
    byStack(t, fast.run(left), left, ['forwarded', 'fin_forwarded']);
    t.equal(fast.events().length, 1, 'a FIN whose checksum is left to hardware is reported too');
  });

  t.test('before the node has confirmed: a FIN that acknowledges the response', async (t) => {
    for (const [name, action] of [
      ['handed over', answered],
      ['and sent on in IXP', answered | wrap],
    ] as const) {
      const fast = new Fast();
      fast.engine(true);
      const slot = handing(fast, action);
      const table = fast.tables[0]!;
      const frame = build(segment(fin));
      const outcome = fast.run(frame);
      t.match(outcome, { verdict: tx, counters: ['forwarded', 'fin_forwarded'] }, name);
      t.strictSame([...outcome.frame], [...onward(frame)], name);
      const events = fast.events();
      t.equal(events.length, 1);
      t.match(events, [
        {
          client: table.client(slot),
          portServer: table.portServer(slot),
          serverIsn: NONCE,
          flags: 0x80,
        },
      ]);
      t.equal(table.receiveNext(slot), FIRST + 1);
      t.equal(table.clientAck(slot), SERVER_ISN + 2);
      t.equal(table.flags(slot), 0, 'flags are the engine’s');
      t.equal(table.packets(slot), 1);
      t.equal(table.action(slot), action);
      t.match(fast.run(frame), { verdict: redirect, counters: ['to_engine_fin'] }, 'once more');
      fast.close();
    }
  });

  t.test('before that, the engine gets every other FIN', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const slot = handing(fast);
    const table = fast.tables[0]!;
    const cases: [string, TcpSpec, string?][] = [
      ['nothing of the answer acknowledged', { ...fin, ack: SERVER_ISN + 1 }],
      ['less than nothing', { ...fin, ack: SERVER_ISN }],
      ['more than can have been sent', { ...fin, ack: SERVER_ISN + 2 + (1 << 24) }],
      ['no ACK', { ...fin, flags: 'F' }],
      ['and RST', { ...fin, flags: 'FRA' }],
      ['what the engine keeps', { ...fin, seq: FIRST - 1 }],
      ['beyond a gap', { ...fin, seq: FIRST + 1 }],
      ['with payload', fin, 'more'],
      ['a wrong checksum', { ...fin, checksum: 0x1234 }],
    ];
    const check = (name: string, frame: Uint8Array): void => {
      const outcome = fast.run(frame);
      t.match(outcome, { verdict: redirect, counters: ['to_engine_fin'] }, name);
      t.strictSame([...outcome.frame], [...frame], name);
      t.equal(table.receiveNext(slot), FIRST, name);
      t.equal(table.clientAck(slot), SERVER_ISN + 1, name);
    };
    for (const [name, tcp, payload] of cases) check(name, build(segment(tcp, payload)));
    fast.setAction(slot, wrap);
    check('a session of which an answer proves nothing', build(segment(fin)));
    fast.setAction(slot, answered);
    t.strictSame(fast.events(), []);
    fast.fillRing();
    check('the ring buffer is full', build(segment(fin)));
    fast.events();
    fast.engine(false);
    const outcome = fast.run(segment(fin));
    t.match(
      outcome,
      { verdict: drop, counters: ['engine_absent'] },
      'without an engine the request is lost',
    );
    t.equal(table.flags(slot), 0);
    t.equal(table.packets(slot), 0);
    fast.engine(true);
    t.match(fast.run(segment(fin)), { verdict: tx, counters: ['forwarded', 'fin_forwarded'] });
  });
}
