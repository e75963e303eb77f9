/** The XDP program and a client that uses its port again soon after its session has ended. */

import t from 'tap';
import { addressNumber, build, type PacketSpec } from '../../lab/packet.js';
import { CONTROL } from '../../src/datapath/xdp-layout.js';
import { NO_NODE } from '../../src/engine/node-table.js';
import { SessionAction } from '../../src/engine/table/session-record.js';
import { SessionFlag, SessionState } from '../../src/engine/table/session-table.js';
import { parse } from '../support/packet-parse.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import {
  CLIENT,
  CLIENT_ISN,
  clock,
  onward,
  SERVER_ISN,
  SYN_ALIVE_MS,
  segment,
  syn,
  Verdict,
} from './xdp-packets.js';
import { REQUEST, Twin } from './xdp-twin.js';

const { drop, redirect, tx } = Verdict;
const forward = SessionAction.forward;
const ANSWERED = { verdict: tx, counters: ['syn_answered'] };

/** Inserts the usual client's session, which has ended; returns its slot. */
function ended(fast: Fast): number {
  const slot = fast.session(forward);
  const table = fast.tables[0]!;
  table.raise(slot, SessionFlag.adopted);
  table.setState(slot, SessionState.lingering);
  return slot;
}

if (insideNamespace(import.meta.url)) {
  t.test('its SYN is answered and reported, and the old session gives way', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const slot = ended(fast);
    const table = fast.tables[0]!;
    t.equal(table.action(slot), forward);
    const late = build(segment({ flags: 'A', seq: CLIENT_ISN + 1, ack: SERVER_ISN + 1 }));
    t.strictSame([...fast.run(late).frame], [...onward(late)], 'its late packets pass');

    const seq = 0x1234_5678;
    const options = { mss: 1460, windowScale: 7 };
    const answer = fast.run(syn({ tcp: { seq, options } }));
    t.match(answer, ANSWERED);
    const { tcp, problems } = parse(answer.frame);
    t.strictSame(problems, []);
    t.match(tcp, { flags: 'SA', ack: seq + 1, destinationPort: CLIENT.port });
    const events = fast.events();
    t.match(events, [
      {
        client: addressNumber(CLIENT.address),
        portServer: (CLIENT.port << 16) >>> 0,
        clientIsn: seq,
        serverIsn: tcp?.seq ?? -1,
        mss: 1460,
        flags: SessionFlag.windowScaleOk,
        mac: CLIENT.mac.replaceAll(':', ''),
      },
    ]);
    t.equal(events.length, 1);
    t.equal(table.action(slot), 0);
    t.equal(table.state(slot), SessionState.lingering, 'the rest is the engine’s');

    const ack = { flags: 'A', seq: seq + 1, ack: ((tcp?.seq ?? 0) + 1) >>> 0 };
    t.match(fast.run(segment(ack)), { verdict: drop, counters: ['absorbed'] });
    const before = { ...ack, ack: (ack.ack - 2 ** 24) >>> 0 };
    for (const [name, spec] of [
      ['the request', segment(ack, 'GET')],
      ['a number that was not sent', segment({ ...ack, ack: (ack.ack + 2 ** 12) >>> 0 })],
      ['one of long ago', segment(before)],
      ['the SYN again', syn({ tcp: { seq, options } })],
      ['one more SYN', syn({ tcp: { seq: 7 } })],
      ['an end', segment({ ...ack, flags: 'FA' })],
    ] as const) {
      t.match(fast.run(spec), { verdict: redirect, counters: ['to_engine_state'] }, name);
    }
    t.match(
      fast.run(late),
      { verdict: redirect, counters: ['to_engine_state'] },
      'nothing reaches the old node',
    );
    t.strictSame(fast.events(), []);
  });

  t.test('the same after an answer of the balancer itself', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const slot = fast.session(0);
    const table = fast.tables[0]!;
    table.setNode(slot, NO_NODE);
    table.setState(slot, SessionState.lingering);
    const late = segment({ flags: 'FA', seq: CLIENT_ISN + 1, ack: SERVER_ISN + 1 });
    t.match(fast.run(late), { verdict: redirect, counters: ['to_engine_fin'] });
    const bare = segment({ flags: 'A', seq: CLIENT_ISN + 1, ack: SERVER_ISN + 1 });
    t.match(fast.run(bare), { verdict: redirect, counters: ['to_engine_state'] });
    t.match(fast.run(syn({ tcp: { seq: 7 } })), ANSWERED);
    t.equal(fast.events().length, 1);
    t.equal(table.action(slot), 0);
    t.match(fast.run(syn({ tcp: { seq: 8 } })), { verdict: redirect });
  });

  t.test('a SYN with ECN flags is like any other', async (t) => {
    for (const flags of ['SEC', 'SPU']) {
      const fast = new Fast();
      fast.engine(true);
      const slot = ended(fast);
      t.match(fast.run(syn({ tcp: { flags } })), ANSWERED, flags);
      t.equal(fast.tables[0]!.action(slot), 0);
      fast.close();
    }
  });

  t.test('a SYN that the engine must see goes there, and nothing changes', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const slot = ended(fast);
    const table = fast.tables[0]!;
    const cases: [string, PacketSpec, string][] = [
      ['the same SYN, late', syn({ tcp: { seq: CLIENT_ISN } }), 'to_engine_syn'],
      ['SYN/ACK', syn({ tcp: { flags: 'SA' } }), 'to_engine_syn'],
      ['SYN and RST', syn({ tcp: { flags: 'SR' } }), 'to_engine_syn'],
      ['SYN and FIN', syn({ tcp: { flags: 'SF' } }), 'to_engine_syn'],
      ['payload', syn({ payload: 'early' }), 'to_engine_syn'],
      ['a wrong TCP checksum', syn({ tcp: { checksum: 0x1234 } }), 'to_engine_syn'],
      ['a wrong IPv4 checksum', syn({ ip: { checksum: 0x1234 } }), 'to_engine_syn'],
      [
        'malformed options',
        syn({ tcp: { options: { raw: Uint8Array.of(2, 0, 1, 1) } } }),
        'to_engine_syn',
      ],
      ['a reset', segment({ flags: 'R', seq: 1 }), 'to_engine_rst'],
    ];
    const check = (name: string, spec: PacketSpec, counter: string): void => {
      const frame = build(spec);
      const outcome = fast.run(frame);
      t.match(outcome, { verdict: redirect, counters: [counter] }, name);
      t.strictSame([...outcome.frame], [...frame], name);
      t.equal(table.action(slot), forward, name);
    };
    for (const each of cases) check(...each);
    fast.control.setUint32(CONTROL.halfOpen, 1, true);
    check('too many half-open sessions', syn(), 'to_engine_syn');
    fast.control.setUint32(CONTROL.halfOpen, 0, true);
    for (const state of [SessionState.handing, SessionState.passing]) {
      table.setState(slot, state);
      fast.setAction(slot, forward);
      check(`a session that has not ended: ${state}`, syn(), 'to_engine_syn');
    }
    t.strictSame(fast.events(), []);
    t.equal(fast.control.getUint32(CONTROL.cookieAt, true), 0);

    table.setState(slot, SessionState.lingering);
    fast.setAction(slot, 0);
    t.match(
      fast.run(syn()),
      { verdict: redirect, counters: ['to_engine_state'] },
      'one without an action',
    );
    t.strictSame(fast.events(), []);
    fast.setAction(slot, forward);
    t.match(fast.run(syn()), ANSWERED);
  });

  t.test('each worker has its own limit', async (t) => {
    const fast = new Fast({ workers: 2 });
    t.teardown(() => fast.close());
    fast.engine(true);
    const client = addressNumber(CLIENT.address);
    const [port0, port1] = [0, 1].map((worker) => {
      for (let port = 1; ; port++)
        if (fast.workerOf(client, (port << 16) >>> 0) === worker) return port;
    }) as [number, number];
    for (const port of [port0, port1]) {
      const slot = fast.insert(client, (port << 16) >>> 0);
      const table = fast.tables[port === port0 ? 0 : 1]!;
      table.raise(slot, SessionFlag.adopted);
      table.setState(slot, SessionState.lingering);
    }
    fast.control.setUint32(CONTROL.halfOpen + 4, 1, true);
    t.match(fast.run(syn({ tcp: { sourcePort: port1 } })), { counters: ['to_engine_syn'] });
    t.match(fast.run(syn({ tcp: { sourcePort: port0 } })), ANSWERED);
    t.match(fast.events(0), [{ portServer: (port0 << 16) >>> 0 }]);
    t.strictSame(fast.events(1), []);
  });

  t.test('a SYN that cannot be reported gets no answer: the client sends it again', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const slot = ended(fast);
    const table = fast.tables[0]!;
    fast.fillRing();
    t.match(fast.run(syn()), { verdict: drop, counters: ['drop_untold'] }, 'no room');
    t.equal(table.action(slot), forward);
    fast.events();
    fast.engine(false);
    t.match(fast.run(syn()), { verdict: drop, counters: ['drop_untold'] }, 'no engine');
    fast.alive(clock() - SYN_ALIVE_MS - 5_000);
    t.match(fast.run(syn()), { verdict: drop, counters: ['drop_not_alive'] }, 'none for long');
    t.equal(table.action(slot), forward);
    fast.engine(true);
    t.match(fast.run(syn()), ANSWERED, 'room again');
    t.equal(table.action(slot), 0);
  });

  t.test('from one session to the next', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const twin = new Twin();
    const { slot, seq, ack } = twin.handing();
    const { table } = twin;
    table.raise(slot, SessionFlag.adopted);
    table.setState(slot, SessionState.passing);
    twin.receive(segment({ flags: 'R', seq, ack }));
    t.equal(table.state(slot), SessionState.lingering);
    const nonce = table.nonce(slot);
    const there = twin.mirror(fast, slot, forward);

    const answer = fast.run(syn({ tcp: { seq: 100 } }));
    t.match(answer, ANSWERED);
    t.equal(fast.tables[0]!.action(there), 0);
    const isn = parse(answer.frame).tcp?.seq ?? -1;
    const done = { flags: 'A', seq: 101, ack: (isn + 1) >>> 0 };
    t.match(fast.run(segment(done)), { counters: ['absorbed'] });
    const request = segment({ ...done, flags: 'PA' }, REQUEST);
    t.match(fast.run(request), { verdict: redirect, counters: ['to_engine_state'] });
    // As in the datapath: the event comes before the frame.
    twin.engine.kernelEvent(fast.eventWords(), 0, clock());
    const [handed, ...more] = twin.receive(request);
    t.strictSame(more, []);
    const young = table.find(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0);
    t.equal(table.state(young), SessionState.handing);
    t.equal(table.nonce(young), nonce + 1);
    t.equal(table.size, 1);
    t.match(parse(handed ?? new Uint8Array(0)), {
      ixp: { session: nonce + 1 },
      tcp: { seq: 101, ack: done.ack },
    });
  });
}
