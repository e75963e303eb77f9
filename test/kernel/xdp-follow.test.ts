/**
 * The XDP program follows clients as the engine does: both get the same random segments.
 */
import fc from 'fast-check';
import t from 'tap';
import { build } from '../../lab/packet.js';
import {
  SESSION_RECORD,
  SESSION_RECORD_BYTES,
  SessionAction,
} from '../../src/engine/table/session-record.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import { onward, pseudoSum, SERVER_ISN, segment, Verdict } from './xdp-packets.js';
import { Twin } from './xdp-twin.js';

const MAX_ADVANCE = 1 << 24;
const FIN = 0x01;
const RUNS = 300;

/** Numbers near the limits. */
const step = fc.oneof(
  fc.integer({ min: -3, max: 3 }),
  fc.integer({ min: -3, max: 3 }).map((by) => MAX_ADVANCE + by),
  fc.integer({ min: -3, max: 3 }).map((by) => by - MAX_ADVANCE),
  fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }),
);
const steps = fc.array(
  fc.record({
    seq: step,
    ack: step,
    flags: fc.constantFrom('A', 'A', 'PA', 'FA', 'FA', 'F', '', 'UA'),
    bytes: fc.oneof(
      fc.constant(0),
      fc.integer({ min: 1, max: 5 }),
      fc.integer({ min: 6, max: 1400 }),
    ),
  }),
  { minLength: 1, maxLength: 12 },
);

if (insideNamespace(import.meta.url)) {
  t.test('any segments', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    const twin = new Twin(SERVER_ISN);
    const { slot, seq, ack } = twin.handing();
    const first = { next: seq, acked: ack };
    const { table } = twin;
    const other = fast.tables[0]!;
    const there = twin.mirror(fast, slot, SessionAction.forward);
    table.setState(slot, SessionState.passing);
    const bytesOf = (): Uint8Array =>
      new Uint8Array(fast.records.buffer, there * SESSION_RECORD_BYTES, SESSION_RECORD_BYTES);
    fc.assert(
      fc.property(steps, (list) => {
        for (const each of [table, other]) {
          const at = each === table ? slot : there;
          each.setReceiveNext(at, first.next);
          each.setClientAck(at, first.acked);
          each.setFlags(at, 0);
        }
        for (const { seq: by, ack: ackBy, flags, bytes } of list) {
          const spec = segment(
            {
              flags,
              seq: (table.receiveNext(slot) + by) >>> 0,
              ack: (table.clientAck(slot) + ackBy) >>> 0,
            },
            'z'.repeat(bytes),
          );
          const frame = build(spec);
          // One right checksum in 65536 looks unfinished.
          if (new DataView(frame.buffer).getUint16(50) === pseudoSum(frame)) continue;
          const outcome = fast.run(frame);
          if (outcome.verdict !== Verdict.tx) return false;
          if (Buffer.compare(outcome.frame, onward(frame)) !== 0) return false;
          const [sent] = twin.receive(frame, other.lastSeen(there));
          if (sent === undefined || Buffer.compare(sent, outcome.frame) !== 0) return false;
          const mine = bytesOf().slice();
          const its = twin.record(slot);
          mine[SESSION_RECORD.action] = its[SESSION_RECORD.action]!;
          mine[SESSION_RECORD.state] = its[SESSION_RECORD.state]!;
          if (Buffer.compare(mine, its) !== 0) return false;
          if (outcome.counters.includes('forwarded_alone') !== ((frame[47]! & FIN) !== 0))
            return false;
        }
        return true;
      }),
      { numRuns: RUNS },
    );
    t.ok(other.packets(there) > RUNS, `${other.packets(there)} segments`);
  });
}
