/**
 * The XDP program and notices on which the engine need not act at once: checked, and reported
 * without waking the engine.
 */
import t from 'tap';
import { addressNumber, build, type PacketSpec } from '../../lab/packet.js';
import { KERNEL_EVENT_WORDS } from '../../src/engine/table/kernel-event.js';
import { SESSION_RECORD, SessionAction } from '../../src/engine/table/session-record.js';
import { SessionFlag, SessionState } from '../../src/engine/table/session-table.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import {
  CLIENT,
  CLIENT_ISN,
  KEY,
  NODE,
  notice,
  PORTS,
  SERVER_ISN,
  Verdict,
} from './xdp-packets.js';
import { Twin } from './xdp-twin.js';

const { drop, redirect } = Verdict;
const ADOPTED = 1;
const FIN = 3;
const NONCE = 0x8000_0001;
const ACKED = 0xffff_fff0;
const REPORTED = { verdict: drop, counters: ['notice_told'] };
const IP = 14;
const HOLE = 14 + 20 + 16;
const client = addressNumber(CLIENT.address);
const portServer = (CLIENT.port << 16) >>> 0;

if (insideNamespace(import.meta.url)) {
  t.test('it is dropped, and reported with every field', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    for (const type of [ADOPTED, FIN]) {
      for (const [virtualPort, server] of PORTS.map((port, index) => [port, index] as const)) {
        const frame = build(
          notice({ ixcp: { type, virtualPort, session: NONCE, ack: ACKED, seq: 9 } }),
          KEY,
        );
        const outcome = fast.run(frame);
        t.match(outcome, REPORTED);
        t.strictSame([...outcome.frame], [...frame], 'and not written to');
        t.strictSame(fast.events(), [
          {
            client,
            portServer: portServer + server,
            clientIsn: ACKED,
            serverIsn: NONCE,
            tsOffset: addressNumber(NODE.address),
            tsval: 0,
            mss: 0,
            window: 0,
            scales: 0,
            flags: 0x40 | type,
            mac: '000000000000',
          },
        ]);
      }
    }
  });

  t.test('fields without a meaning may have any value', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const cases: [string, PacketSpec][] = [
      ['an Ethernet trailer', { trailer: new Uint8Array(6).fill(7) }],
      ['the hole', { ixcp: { hole: 0xabcd } }],
      [
        'a service class, no "don\'t fragment", another hop count',
        { ip: { tos: 0xb8, dontFragment: false, ttl: 3, id: 9 } },
      ],
      ['a router between', { ethernet: { source: '02:00:00:00:00:fe' } }],
      ['a sender that is no node: the engine knows the nodes', { ip: { source: '10.78.0.99' } }],
    ];
    for (const [name, change] of cases) t.match(fast.run(notice(change)), REPORTED, name);
    t.equal(fast.events().length, cases.length);
  });

  t.test('with any bit inverted, it is not reported', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const whole = build(notice({ ixcp: { type: FIN, session: NONCE, ack: ACKED } }), KEY);
    for (let bit = IP * 8; bit < whole.length * 8; bit++) {
      const at = bit >> 3;
      if (at === HOLE || at === HOLE + 1) continue;
      const frame = whole.slice();
      frame[at]! ^= 1 << (bit & 7);
      const { counters } = fast.run(frame);
      if (counters.includes('notice_told')) t.fail(`bit ${bit & 7} of byte ${at}`);
    }
    t.strictSame(fast.events(), []);
    t.match(fast.run(whole), REPORTED);
  });

  t.test('each worker gets the events of its own sessions', async (t) => {
    const workers = 3;
    const fast = new Fast({ workers });
    t.teardown(() => fast.close());
    fast.engine(true);
    const expected: number[][] = Array.from({ length: workers }, () => []);
    for (let clientPort = 1; clientPort <= 40; clientPort++) {
      expected[fast.workerOf(client, (clientPort << 16) >>> 0)]?.push(clientPort);
      t.match(
        fast.run(notice({ ixcp: { clientPort, type: clientPort % 2 === 0 ? ADOPTED : FIN } })),
        REPORTED,
      );
    }
    for (let worker = 0; worker < workers; worker++) {
      const ports = fast.events(worker).map((record) => record.portServer >>> 16);
      t.strictSame(ports, expected[worker]);
      t.ok(ports.length > 0, `worker ${worker} had some`);
    }
  });

  t.test('if the ring buffer is full, the engine gets the frame', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const slot = fast.session();
    const table = fast.tables[0]!;
    const frame = build(notice({ ixcp: { type: FIN, session: table.nonce(slot) } }), KEY);
    fast.fillRing();
    const outcome = fast.run(frame);
    t.match(outcome, { verdict: redirect, counters: ['to_engine_ixcp'] });
    t.strictSame([...outcome.frame], [...frame]);
    t.notOk(table.has(slot, SessionFlag.nodeFin), 'flags are the engine’s');
    fast.events();
    t.match(fast.run(frame), REPORTED, 'room again');
    t.notOk(table.has(slot, SessionFlag.nodeFin));
  });

  t.test("without an engine the FIN is recorded, if it is from the session's node", async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    const slot = fast.session(SessionAction.forward, (table, at) => table.setNonce(at, NONCE));
    const table = fast.tables[0]!;
    table.raise(slot, SessionFlag.sackOk);
    const before = table.flags(slot);
    const fin = (change: PacketSpec = {}): PacketSpec =>
      notice({ ...change, ixcp: { type: FIN, session: NONCE, ...change.ixcp } });
    const cases: [string, PacketSpec | Uint8Array][] = [
      ['of an earlier session', fin({ ixcp: { session: NONCE - 1 } })],
      ['of another node', fin({ ip: { source: '10.78.0.4' } })],
      ['of another client port', fin({ ixcp: { clientPort: CLIENT.port + 1 } })],
      ['of the other virtual server', fin({ ixcp: { virtualPort: PORTS[1] } })],
      ['with a wrong tag', fin({ ixcp: { tag: 1n } })],
      ['under another key', build(fin(), KEY.slice().reverse())],
      ['damaged', fin({ ip: { checksum: 1 } })],
      ['not a FIN: ADOPTED', fin({ ixcp: { type: ADOPTED } })],
      ['not a FIN: an RST', fin({ ixcp: { type: 4 } })],
    ];
    for (const [name, packet] of cases) {
      t.match(fast.run(packet), { verdict: drop, counters: ['engine_absent'] }, name);
      t.equal(table.flags(slot), before, name);
    }
    table.setNode(slot, NODE.index + 1);
    t.match(
      fast.run(fin()),
      { verdict: drop, counters: ['engine_absent'] },
      'a session whose node is not known',
    );
    t.equal(table.flags(slot), before);
    table.setNode(slot, NODE.index);
    t.match(fast.run(fin()), { verdict: drop, counters: ['engine_absent'] });
    t.equal(table.flags(slot), before | SessionFlag.nodeFin);
    t.equal(table.state(slot), SessionState.passing, 'what that means the next engine knows');
    t.strictSame(fast.events(), []);
  });

  t.test('the event and the frame have the same effect on the engine', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const names = ['adopted', 'closed_fin', 'drop_ixcp_stale', 'drop_ixcp_unknown_node'] as const;
    const cases: [string, PacketSpec, (typeof names)[number] | undefined][] = [
      ['ADOPTED', {}, 'adopted'],
      ['ADOPTED, of too little', { ixcp: { ack: CLIENT_ISN } }, 'adopted'],
      ['FIN', { ixcp: { type: FIN } }, 'adopted'],
      ['an earlier session', { ixcp: { session: 499 } }, 'drop_ixcp_stale'],
      ['another client', { ixcp: { client: '10.78.0.7' } }, 'drop_ixcp_stale'],
      ['no node', { ip: { source: '10.78.0.99' } }, 'drop_ixcp_unknown_node'],
      ['a node that was not asked', { ip: { source: '10.78.0.9' } }, 'drop_ixcp_stale'],
    ];
    for (const [name, change, counter] of cases) {
      const twins = [new Twin(SERVER_ISN), new Twin(SERVER_ISN)] as const;
      const now = 1_000_000;
      const records = twins.map((twin, index) => {
        const { slot, seq } = twin.handing();
        const spec = notice({
          ...change,
          ixcp: { session: twin.table.nonce(slot), ack: seq, ...change.ixcp },
        });
        const counted = twin.counted(names, () => {
          if (index === 0) twin.receive(spec, now);
          else {
            t.match(fast.run(spec), REPORTED, name);
            const words = fast.eventWords();
            t.equal(words.length, KERNEL_EVENT_WORDS);
            twin.engine.kernelEvent(words, 0, now);
          }
        });
        t.strictSame(counted, counter === undefined ? [] : [counter], name);
        t.equal(
          twin.table.lastSeen(slot) === now,
          counter === 'adopted',
          `${name}: of its node, so it is alive`,
        );
        const record = twin.record(slot);
        // The two sessions began at different times.
        for (const field of [SESSION_RECORD.openedAt, SESSION_RECORD.lastSeen])
          record.fill(0, field, field + 4);
        return Buffer.from(record).toString('hex');
      });
      t.equal(records[1], records[0], `${name}: the record`);
    }
  });
}
