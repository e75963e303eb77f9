/**
 * The rules of src/engine/acceptance.ts as tables. The client's first byte is 1,000 and ours 5,000,
 * except where numbers wrap.
 */
import t from 'tap';
import {
  Acceptance,
  acceptAckOfSyn,
  acceptHalfOpen,
  acceptHandedOver,
  acceptReset,
  acceptSyn,
  acknowledges,
  acknowledgesAnswer,
  finEndsHead,
  finIsInSequence,
  hasOneControlAtMost,
  isInHeadWindow,
  isKeepAliveProbe,
  isPlausibleAck,
  movesOn,
  resetEndsPassing,
  SynAcceptance,
} from '../../src/engine/acceptance.js';
import { SessionState } from '../../src/engine/table/session-table.js';
import { seqAdd } from '../../src/wire/seq.js';
import { TcpFlag } from '../../src/wire/tcp.js';

const { accepted, reset, inexactReset, outOfWindow, noAck, badAck } = Acceptance;
const { ack: ACK, rst: RST, fin: FIN, syn: SYN, psh: PSH } = TcpFlag;
const FIRST = 1_000;
const OURS = 5_000;
const WINDOW = 20_000;
const STEP = 1 << 24;

t.test('one of SYN, FIN and RST at most', async (t) => {
  for (const flags of [0, ACK, SYN, FIN | ACK, RST | ACK | PSH])
    t.ok(hasOneControlAtMost(flags), `${flags}`);
  for (const flags of [SYN | FIN, SYN | RST, FIN | RST | ACK, SYN | FIN | RST])
    t.notOk(hasOneControlAtMost(flags), `${flags}`);
});

t.test('a segment acknowledges if it has ACK and is no RST', async (t) => {
  t.same(
    [ACK, ACK | FIN, 0, FIN, RST, RST | ACK].map((flags) => acknowledges(flags)),
    [true, true, false, false, false, false],
  );
});

t.test('a SYN of a session', async (t) => {
  const { repeated, challenged, forNode, late, replaces } = SynAcceptance;
  const rows: [number, number, number][] = [
    [SessionState.synReceived, repeated, replaces],
    [SessionState.collecting, challenged, challenged],
    [SessionState.handing, forNode, forNode],
    [SessionState.passing, forNode, forNode],
    [SessionState.lingering, late, replaces],
  ];
  for (const [state, same, other] of rows)
    t.same([acceptSyn(state, true), acceptSyn(state, false)], [same, other], `state ${state}`);
});

t.test('an RST resets at exactly the next number, and is challenged in the window', async (t) => {
  const rows: [number, number][] = [
    [0, reset],
    [1, inexactReset],
    [WINDOW, inexactReset],
    [WINDOW + 1, outOfWindow],
    [-1, outOfWindow],
    [0x8000_0000, outOfWindow],
  ];
  for (const next of [FIRST, 0, 0xffff_fff0])
    for (const [ahead, verdict] of rows)
      t.equal(acceptReset(seqAdd(next, ahead), next, WINDOW), verdict, `${next} + ${ahead}`);
});

t.test("in pass-through an RST counts at the next number, and at the FIN's own", async (t) => {
  const rows: [number, boolean, boolean][] = [
    [0, true, true],
    [-1, false, true],
    [-2, false, false],
    [1, false, false],
    [0x8000_0000, false, false],
  ];
  for (const next of [FIRST, 0, 1])
    for (const [ahead, open, closed] of rows) {
      t.equal(resetEndsPassing(seqAdd(next, ahead), next, false), open, `${next} + ${ahead}`);
      t.equal(resetEndsPassing(seqAdd(next, ahead), next, true), closed, `FIN, ${next} + ${ahead}`);
    }
});

t.test(
  'half open: the window, RST, ACK and the acknowledgement number are checked in this order',
  async (t) => {
    const rows: [number, number, number, number][] = [
      // flags, bytes from the first, acknowledged of ours, verdict
      [ACK, 0, 0, accepted],
      [ACK, WINDOW, 0, accepted],
      [ACK | FIN, 0, 0, accepted],
      [ACK, -1, 0, outOfWindow],
      [ACK, WINDOW + 1, 0, outOfWindow],
      [ACK, 0, 1, badAck],
      [ACK, 0, -1, badAck],
      [0, 0, 0, noAck],
      [FIN, 0, 1, noAck],
      [RST, 0, 7, reset],
      [RST | ACK, 0, 0, reset],
      [RST, 1, 0, inexactReset],
      [RST, -1, 0, outOfWindow],
      [0, -1, 0, outOfWindow],
    ];
    for (const [first, ours] of [
      [FIRST, OURS],
      [0, 0],
      [0xffff_ffff, 0xffff_ffff],
    ] as const)
      for (const [flags, at, acked, verdict] of rows)
        t.equal(
          acceptHalfOpen(flags, seqAdd(first, at), seqAdd(ours, acked), first, ours, WINDOW),
          verdict,
          `flags ${flags} at ${first} + ${at}, acknowledging ${ours} + ${acked}`,
        );
  },
);

t.test('while the head is collected, only our SYN can be acknowledged', async (t) => {
  t.equal(acceptAckOfSyn(ACK, OURS, OURS), accepted);
  t.equal(acceptAckOfSyn(ACK | PSH, OURS + 1, OURS), badAck);
  t.equal(acceptAckOfSyn(ACK, OURS - 1, OURS), badAck);
  t.equal(acceptAckOfSyn(PSH, OURS, OURS), noAck);
});

t.test('the window of a head begins with a keep-alive probe', async (t) => {
  const rows: [number, number, boolean][] = [
    // offset from the first byte, length
    [0, 0, true],
    [WINDOW, 1, true],
    [WINDOW + 1, 0, false],
    [-1, 0, true],
    [-1, 1, true],
    [-2, 0, false],
    [-2, 1, true],
    [-100, 98, false],
    [-100, 99, true],
  ];
  for (const [at, length, verdict] of rows)
    t.equal(isInHeadWindow(at, length, WINDOW), verdict, `${length} bytes at ${at}`);
});

t.test('a bare ACK before the next number is a keep-alive probe', async (t) => {
  for (const next of [FIRST, 0])
    t.same(
      [-1, -100, 0, 1].map((at) => isKeepAliveProbe(seqAdd(next, at), next)),
      [true, true, false, false],
    );
});

t.test('a FIN ends a head if all bytes before it are here', async (t) => {
  t.ok(finEndsHead(FIN | ACK, FIRST + 10, FIRST + 10));
  t.notOk(finEndsHead(ACK, FIRST + 10, FIRST + 10));
  t.notOk(finEndsHead(FIN | ACK, FIRST + 11, FIRST + 10), 'past a gap');
  t.notOk(finEndsHead(FIN | ACK, FIRST + 9, FIRST + 10));
});

t.test('handed over: a probe, the bytes kept, and a window behind them', async (t) => {
  const kept = 300;
  const rows: [number, number, number, number][] = [
    // flags, bytes from the first, acknowledged of ours, verdict
    [ACK, 0, 0, accepted],
    [ACK, -1, 0, accepted],
    [ACK, -2, 0, outOfWindow],
    [ACK, kept + 0xffff, 0, accepted],
    [ACK, kept + 0x1_0000, 0, outOfWindow],
    [ACK, kept, STEP, accepted],
    [ACK, kept, STEP + 1, badAck],
    [ACK, kept, -1, badAck],
    [0, kept, 0, noAck],
    [FIN, -2, 0, noAck],
    [RST, kept, -1, reset],
    [RST | ACK, kept, 0, reset],
    [RST, kept + 1, 0, outOfWindow],
    [RST, kept - 1, 0, outOfWindow],
  ];
  for (const [first, ours] of [
    [FIRST, OURS],
    [0xffff_ff00, 0xffff_ffff],
  ] as const) {
    const end = seqAdd(first, kept);
    for (const [flags, at, acked, verdict] of rows)
      t.equal(
        acceptHandedOver(flags, seqAdd(first, at), seqAdd(ours, acked), first, ours, end, end),
        verdict,
        `flags ${flags} at ${first} + ${at}, acknowledging ${ours} + ${acked}`,
      );
  }
});

t.test('an answer is acknowledged by any byte behind our SYN', async (t) => {
  t.same(
    [OURS - 1, OURS, OURS + 1].map((number) => acknowledgesAnswer(number, OURS)),
    [false, false, true],
  );
  t.ok(acknowledgesAnswer(3, 0xffff_fff0), 'across the wrap');
});

t.test('the balancer follows only plausible steps', async (t) => {
  for (const seen of [FIRST, 5, 0xffff_fff0]) {
    for (const step of [0, 1, -1, STEP, -STEP])
      t.ok(isPlausibleAck(seqAdd(seen, step), seen), `${seen} + ${step}`);
    for (const step of [STEP + 1, -STEP - 1, 0x8000_0000])
      t.notOk(isPlausibleAck(seqAdd(seen, step), seen), `${seen} + ${step}`);
    t.same(
      [0, 1, STEP - 1, STEP, -1].map((step) => movesOn(seqAdd(seen, step), seen)),
      [false, true, true, false, false],
    );
  }
});

t.test('a FIN counts once, when all bytes before it were seen', async (t) => {
  const rows: [number, number, number, number, boolean, boolean][] = [
    // from, FIN's own number, seen before, seen with it, FIN seen already, verdict
    [FIRST, FIRST + 10, FIRST, FIRST + 10, false, true],
    [FIRST, FIRST, FIRST, FIRST, false, true],
    [FIRST, FIRST, FIRST, FIRST, true, true],
    [FIRST + 5, FIRST + 10, FIRST, FIRST + 10, false, false],
    [FIRST, FIRST, FIRST + 1, FIRST + 1, false, true],
    [FIRST, FIRST, FIRST + 1, FIRST + 1, true, false],
    [FIRST, FIRST, FIRST + 2, FIRST + 2, false, false],
    [0xffff_fff8, 2, 0xffff_fff8, 2, false, true],
  ];
  for (const [from, end, before, seen, known, verdict] of rows)
    t.equal(
      finIsInSequence(from, end, before, seen, known),
      verdict,
      `from ${from} to ${end}, seen ${before} and ${seen}, ${known ? 'again' : 'first'}`,
    );
});
