/**
 * The XDP program and a virtual server that takes no new sessions: its SYNs go to the engine, and
 * its sessions go on.
 */
import t, { type Test } from 'tap';
import { addressNumber, build, type PacketSpec } from '../../lab/packet.js';
import { CONTROL } from '../../src/datapath/xdp-layout.js';
import { SessionAction } from '../../src/engine/table/session-record.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import {
  CLIENT,
  CLIENT_ISN,
  KEY,
  notice,
  onward,
  PORTS,
  SERVER_ISN,
  segment,
  syn,
  Verdict,
  VIRTUAL,
} from './xdp-packets.js';

const { drop, pass, redirect, tx } = Verdict;
const SYN_UP = { verdict: redirect, counters: ['to_engine_syn'] };
const FIRST = (CLIENT_ISN + 1) >>> 0;
const plain = { flags: 'A', seq: FIRST, ack: SERVER_ISN + 1 };
const portServer = (CLIENT.port << 16) >>> 0;

/** The same at the second virtual server. */
const atOther = (spec: PacketSpec): PacketSpec => ({
  ...spec,
  tcp: { ...spec.tcp, destinationPort: PORTS[1] },
});

if (insideNamespace(import.meta.url)) {
  for (const inlineServers of [true, false]) {
    const where = inlineServers ? 'in `control`' : 'in the map';
    const made = (t: Test, workers = 1): Fast => {
      const fast = new Fast({ inlineServers, workers });
      t.teardown(() => fast.close());
      fast.engine(true);
      fast.mark(0);
      return fast;
    };

    t.test(`${where}: SYNs go to the engine, those of another virtual server do not`, async (t) => {
      const fast = made(t);
      const frame = build(syn());
      const outcome = fast.run(frame);
      t.match(outcome, SYN_UP);
      t.strictSame([...outcome.frame], [...frame], 'as the client sent it');
      t.same(fast.events(), []);
      t.equal(fast.control.getUint32(CONTROL.cookieAt, true), 0, 'no cookie');
      t.match(fast.run(atOther(syn())), { verdict: tx, counters: ['syn_answered'] });
      t.match(fast.events(), [{ portServer: portServer + 1 }]);
      fast.engine(false);
      t.match(
        fast.run(syn()),
        { verdict: drop, counters: ['engine_absent'] },
        'nobody answers while no engine runs',
      );
      t.match(fast.run(atOther(syn())), { verdict: tx, counters: ['syn_cookie'] });
    });

    t.test(`${where}: a SYN of a client whose session has ended`, async (t) => {
      const fast = made(t);
      const slot = fast.session(SessionAction.forward, () => {}, SessionState.lingering);
      t.match(fast.run(syn({ tcp: { seq: 7 } })), SYN_UP);
      t.equal(fast.tables[0]!.action(slot), SessionAction.forward, 'the old session stays');
    });

    t.test(`${where}: sessions go on`, async (t) => {
      const fast = made(t);
      const slot = fast.session();
      fast.tables[0]!.setNonce(slot, 77);
      const frame = build(segment(plain, 'more'));
      const outcome = fast.run(frame);
      t.match(outcome, { verdict: tx, counters: ['forwarded'] });
      t.strictSame([...outcome.frame], [...onward(frame)]);
      t.match(fast.run(notice({ ixcp: { type: 1, session: 77 } })), { counters: ['notice_told'] });
      const end = segment({ ...plain, seq: FIRST + 4, flags: 'FA', ack: SERVER_ISN + 9 });
      t.match(fast.run(end), { verdict: tx, counters: ['forwarded', 'fin_forwarded'] });
      t.match(
        fast.events(),
        [
          { portServer, serverIsn: 77 },
          { portServer, serverIsn: 77 },
        ],
        'the key of a session has no mark',
      );
      t.match(fast.run(segment({ ...plain, flags: 'R' })), { counters: ['to_engine_rst'] });
    });

    t.test(`${where}: a handshake that has begun is completed`, async (t) => {
      const fast = made(t);
      fast.session(0, () => {}, SessionState.synReceived);
      t.match(fast.run(segment(plain)), { verdict: drop, counters: ['absorbed'] });
      t.match(fast.run(segment(plain, 'GET')), { counters: ['to_engine_state'] });
    });

    t.test(`${where}: what belongs to no session goes to the engine`, async (t) => {
      const fast = made(t);
      t.match(fast.run(segment(plain, 'GET')), { counters: ['to_engine_unknown'] });
      t.match(fast.run(segment({ ...plain, flags: 'FA' })), { counters: ['to_engine_unknown'] });
    });

    t.test(`${where}: the mark changes no worker`, async (t) => {
      const fast = made(t, 4);
      for (let port = 1_000; port < 1_064; port++) {
        const worker = fast.workerOf(addressNumber(CLIENT.address), (port << 16) >>> 0);
        fast.withoutSocket(worker, () => {
          const absent = { verdict: drop, counters: ['engine_absent'] };
          t.match(fast.run(syn({ tcp: { sourcePort: port } })), absent);
          t.match(
            fast.run(notice({ ixcp: { type: 4, clientPort: port } })),
            absent,
            `a notice about port ${port}`,
          );
        });
      }
    });
  }

  t.test('a free entry of `control` is no virtual server', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const nowhere = { ip: { destination: '0.0.0.0' }, tcp: { destinationPort: 0 } };
    t.match(fast.run(syn(nowhere)), { verdict: pass, counters: [] });
    t.match(fast.run(build(segment({ ...plain, ...nowhere.tcp }, '', nowhere), KEY)), {
      verdict: pass,
    });
    t.match(fast.run(syn({ ip: { destination: VIRTUAL } })), { counters: ['syn_answered'] });
  });
}
