/**
 * The XDP program and a virtual server whose server may speak first: the engine gets the ACKs that
 * end handshakes, and everything else is as usual.
 */
import t from 'tap';
import { build } from '../../lab/packet.js';
import { SERVER_ACKS_UP, SERVER_RETIRED } from '../../src/datapath/xdp-layout.js';
import { SessionAction } from '../../src/engine/table/session-record.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import { CLIENT_ISN, onward, SERVER_ISN, segment, syn, Verdict } from './xdp-packets.js';

const { redirect, tx } = Verdict;

if (insideNamespace(import.meta.url)) {
  for (const inlineServers of [true, false]) {
    const where = inlineServers ? 'in `control`' : 'in the map';
    t.test(`${where}: the engine gets the ACK that ends a handshake`, async (t) => {
      const fast = new Fast({ inlineServers });
      t.teardown(() => fast.close());
      fast.engine(true);
      fast.mark(0, SERVER_ACKS_UP);
      t.match(fast.run(syn()), { verdict: tx, counters: ['syn_answered'] });
      const [event] = fast.events();
      const early = { flags: 'A', seq: 0, ack: ((event?.serverIsn ?? 0) + 1) >>> 0 };
      t.match(
        fast.run(segment(early)),
        { verdict: redirect, counters: ['to_engine_unknown'] },
        'before the engine has read the event',
      );
      fast.session(0, () => {}, SessionState.synReceived);
      const ack = { flags: 'A', seq: (CLIENT_ISN + 1) >>> 0, ack: (SERVER_ISN + 1) >>> 0 };
      const up = { verdict: redirect, counters: ['to_engine_state'] };
      t.match(fast.run(segment(ack)), up, 'with its record');
      fast.mark(0, SERVER_ACKS_UP | SERVER_RETIRED);
      t.match(fast.run(segment(ack)), up, 'also when the virtual server is retired');
      t.match(fast.run(syn()), { verdict: redirect, counters: ['to_engine_state'] });
    });

    t.test(`${where}: the kernel forwards its sessions`, async (t) => {
      const fast = new Fast({ inlineServers });
      t.teardown(() => fast.close());
      fast.engine(true);
      fast.mark(0, SERVER_ACKS_UP);
      fast.session(SessionAction.forward);
      const plain = { flags: 'A', seq: (CLIENT_ISN + 1) >>> 0, ack: (SERVER_ISN + 1) >>> 0 };
      const frame = build(segment(plain));
      const outcome = fast.run(frame);
      t.match(outcome, { verdict: tx, counters: ['forwarded'] });
      t.strictSame([...outcome.frame], [...onward(frame)]);
    });
  }
}
