/** The XDP program and SYNs at its limits: a full ring buffer, no engine, several workers. */
import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import { CLIENT, clock, SERVER_ISN, SYN_ALIVE_MS, segment, syn, Verdict } from './xdp-packets.js';

const { drop, tx } = Verdict;

if (insideNamespace(import.meta.url)) {
  t.test('if the engine reads no events, cookies', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    let answered = 0;
    for (let i = 0; i < 200; i++) {
      const outcome = fast.run(syn({ tcp: { sourcePort: 1000 + i } }));
      t.equal(outcome.verdict, tx);
      if (outcome.counters[0] === 'syn_answered') answered++;
    }
    t.ok(answered > 50 && answered < 200, `${answered} were answered`);
    const records = fast.events();
    t.strictSame(
      records.map(({ portServer }) => portServer >>> 16),
      Array.from({ length: answered }, (_, index) => 1000 + index),
    );
    t.match(fast.run(syn()), { counters: ['syn_answered'] }, 'room again');
  });

  t.test('if no engine has run for a minute, no answer', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    const slack = 5000;
    fast.alive(clock() - SYN_ALIVE_MS + slack);
    t.match(fast.run(syn()), { verdict: tx, counters: ['syn_cookie'] });
    fast.alive(clock() - SYN_ALIVE_MS - slack);
    t.match(fast.run(syn()), { verdict: drop, counters: ['drop_not_alive'] });
    fast.alive(clock() + SYN_ALIVE_MS + slack);
    t.match(fast.run(syn()), { verdict: drop, counters: ['drop_not_alive'] });
    const ack = segment({ flags: 'A', seq: 1, ack: SERVER_ISN });
    t.match(fast.run(ack), { verdict: drop, counters: ['engine_absent'] });
    fast.session();
    t.match(fast.run(ack), { verdict: tx, counters: ['forwarded'] }, 'sessions go on');
  });

  t.test('each worker gets its own events', async (t) => {
    const workers = 2;
    const fast = new Fast({ workers });
    t.teardown(() => fast.close());
    fast.engine(true);
    const expected: number[][] = [[], []];
    for (let sourcePort = 1; sourcePort <= 40; sourcePort++) {
      const worker = fast.workerOf(addressNumber(CLIENT.address), (sourcePort << 16) >>> 0);
      expected[worker]?.push(sourcePort);
      t.equal(fast.run(syn({ tcp: { sourcePort } })).verdict, tx);
    }
    for (let worker = 0; worker < workers; worker++) {
      t.strictSame(
        fast.events(worker).map(({ portServer }) => portServer >>> 16),
        expected[worker],
      );
    }
  });
}
