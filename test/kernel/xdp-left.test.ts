/**
 * The XDP program and work that senders leave to hardware: unfinished checksums, and segments
 * larger than the MTU.
 */
import t from 'tap';
import { build } from '../../lab/packet.js';
import { SessionAction } from '../../src/engine/table/session-record.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import {
  byStack,
  CLIENT_ISN,
  MSS,
  NODE,
  SERVER_ISN,
  segment,
  unfinished,
  Verdict,
} from './xdp-packets.js';

const { drop, pass, redirect } = Verdict;
const plain = { flags: 'A', seq: (CLIENT_ISN + 1) >>> 0, ack: SERVER_ISN + 1 };
const forward = SessionAction.forward;

if (insideNamespace(import.meta.url)) {
  t.test(
    'a segment whose checksum is left to hardware goes to the node through the stack',
    async (t) => {
      const fast = new Fast();
      t.teardown(() => fast.close());
      const table = fast.tables[0]!;
      const slot = fast.session();
      const short = unfinished(segment(plain, 'text'));
      const long = unfinished(segment({ ...plain, seq: plain.seq + 4 }, 'y'.repeat(3000)));
      for (const engine of [true, false]) {
        fast.engine(engine);
        for (const frame of [short, long]) byStack(t, fast.run(frame), frame, ['forwarded']);
      }
      t.equal(table.packets(slot), 4);
      t.equal(table.receiveNext(slot), (plain.seq + 3004) >>> 0);

      const other = fast.object;
      t.strictSame(
        [...other.mapSums('counters', 2)],
        [4, 2 * (short.length + long.length)],
        'bytes',
      );
      fast.node(NODE.index, { mac: NODE.mac, interface: 77 });
      byStack(t, fast.run(short), short, ['forwarded'], 77);
      fast.node(NODE.index, { mac: NODE.mac, interface: 0 });
      t.match(fast.run(short), { verdict: drop, counters: ['drop_unresolved'] });
    },
  );

  t.test('a frame for the engine that is larger than the MTU passes to its tap', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    const slot = fast.session(0);
    const most = 'y'.repeat(MSS);
    t.match(fast.run(segment(plain, most)), { verdict: redirect, counters: ['to_engine_state'] });
    const larger = [
      build(segment(plain, `${most}y`)),
      unfinished(segment(plain, 'y'.repeat(3000))),
      build(segment({ ...plain, flags: 'FA' }, 'y'.repeat(3000))),
      build(segment({ ...plain, sourcePort: 1 }, 'y'.repeat(3000))),
    ];
    for (const frame of larger) {
      const outcome = fast.run(frame);
      t.match(outcome, { verdict: pass, counters: ['to_engine_uncut'] });
      t.strictSame([...outcome.frame], [...frame], 'as it came');
    }
    fast.setAction(slot, forward | SessionAction.payloadUp);
    for (const frame of larger.slice(0, 3)) {
      t.match(
        fast.run(frame),
        { verdict: pass, counters: ['to_engine_uncut'] },
        'payload that the engine asks to see',
      );
    }
    t.equal(fast.tables[0]!.packets(slot), 0, 'none of which was counted as forwarded');
    fast.setAction(slot, 0);
    fast.engine(false);
    for (const frame of larger) {
      t.match(fast.run(frame), { verdict: drop, counters: ['engine_absent'] });
    }
  });
}
