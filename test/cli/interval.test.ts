/** The rates between two answers of a balancer, and their display. */
import t from 'tap';
import type { StatsDocument } from '../../src/api/documents.js';
import { type Screen, Stream, Terminal } from '../../src/cli/display.js';
import { between, type Interval } from '../../src/cli/interval.js';
import { START, statsAt } from '../support/even-stats.js';

function intervalOf(before: StatsDocument, after: StatsDocument): Interval {
  const interval = between(before, after, START);
  if (interval === undefined) throw new Error('no interval');
  return interval;
}

t.test('rates are per second, for any interval', async (t) => {
  const interval = intervalOf(statsAt(10), statsAt(14));
  t.match(interval, {
    at: '2026-01-02T03:04:05.000Z',
    seconds: 4,
    packets: {
      in: 5_000,
      toEngine: 5_000,
      forwardedByEngine: 4_000,
      forwardedByKernel: 0,
      sent: 120,
      forwardedBytes: 400_000,
    },
    events: { newSessions: 40, requests: 35, handoffs: 34, adopted: 30, localAnswers: 3 },
    sessions: { passing: 1_200 },
    nodes: [
      { name: 'n1', state: 'down', condition: 'unresolved', active: 5, held: 5, adopted: 30 },
    ],
    kernel: null,
  });
  t.same(interval.drops, [
    { name: 'drop_no_session', perSecond: 0.5, total: 7 },
    { name: 'drop_ixcp_tag', perSecond: 0, total: 7 },
    { name: 'ring_lost', perSecond: 3, total: 42 },
  ]);
  t.notOk('drop_ixcp_tag' in interval.counters, 'only counters that have grown');
  t.equal(interval.counters.sent, 120);
  const [stages] = interval.stages;
  t.match(stages, { worker: 0, frames: 5_000, batches: 1_000, framesPerBatch: 5 });
  t.equal(Math.round(stages?.microseconds.engine ?? 0), 100_000);
  t.equal(Math.round(stages?.nanosecondsPerFrame?.engine ?? 0), 20_000);
});

t.test('packets that the kernel forwards are counted apart', async (t) => {
  const withKernel = (seconds: number): StatsDocument => {
    const stats = statsAt(seconds, {
      kernel: { runNanoseconds: 60_000 * seconds, runCount: 2_000 * seconds },
    });
    Object.assign(stats.counters, {
      // As stats.ts adds them up: the engine's own 5,000, and the counters below except those of
      // absorbed and reported frames.
      frames: (5_000 + 3_900 + 20 + 40 + 10 + 2) * seconds,
      xdp_wrapped: 20 * seconds,
      xdp_drop_unresolved: 2 * seconds,
      forwarded: 4_000 * seconds,
      xdp_forwarded: 3_900 * seconds,
      xdp_syn_answered: 40 * seconds,
      xdp_syn_cookie: 10 * seconds,
      xdp_absorbed: 38 * seconds,
      xdp_notice_told: 70 * seconds,
      xdp_drop_no_port: seconds,
      xdp_engine_absent: seconds,
      cookie_accepted: 5 * seconds,
    });
    return stats;
  };
  const interval = intervalOf(withKernel(1), withKernel(3));
  t.match(interval, {
    packets: {
      in: 5_000 + 3_900 + 20 + 40 + 10 + 2 + 38 + 70,
      toEngine: 5_000,
      forwardedByEngine: 100,
      forwardedByKernel: 3_900,
    },
    events: { newSessions: 45 },
    kernel: { microseconds: 60, runs: 2_000, nanosecondsPerRun: 30 },
  });
  t.same(
    interval.drops.map(({ name }) => name),
    [
      'drop_no_session',
      'drop_ixcp_tag',
      'ring_lost',
      'xdp_drop_unresolved',
      'xdp_drop_no_port',
      'xdp_engine_absent',
    ],
  );
  const off = statsAt(3, { kernel: { runNanoseconds: 60, runCount: 2 } });
  t.equal(
    intervalOf(statsAt(1, { kernel: off.kernel }), off).kernel,
    null,
    'without kernel.bpf_stats_enabled',
  );
});

t.test('two answers that give no interval', async (t) => {
  t.equal(between(statsAt(5), statsAt(5), START), undefined);
  t.equal(between(statsAt(5), statsAt(8, { startedAt: START + 1 }), START), undefined);
  const idle = statsAt(4, { stages: statsAt(3).stages });
  const [stages] = intervalOf(statsAt(3, { counters: statsAt(9).counters }), idle).stages;
  t.match(stages, {
    frames: 0,
    framesPerBatch: 0,
    nanosecondsPerFrame: null,
    microseconds: { engine: 0 },
  });
});

/** A screen that records its text. Without a size it is not a terminal. */
class NotedScreen implements Screen {
  text = '';
  notes: string[] = [];
  dims = true;
  private readonly terminal: { columns: number; rows: number } | undefined;
  constructor(terminal?: { columns: number; rows: number }) {
    this.terminal = terminal;
  }
  write(text: string): void {
    this.text += text;
  }
  note(line: string): void {
    this.notes.push(line);
  }
  size(): { columns: number; rows: number } | undefined {
    return this.terminal;
  }
}

t.test('the intervals as text', async (t) => {
  const screen = new NotedScreen();
  const stream = Stream.text(screen);
  stream.interval(intervalOf(statsAt(13), statsAt(14)));
  t.same(screen.text.split('\n'), [
    '2026-01-02T03:04:05.000Z',
    'Baton on eth0, datapath packet, up 14.0s; over the last 1.0 s',
    '',
    'PACKETS IN/S  TO ENGINE/S  FORWARDED BY ENGINE/S  BY KERNEL/S  FORWARDED BYTES/S  SENT/S',
    '       5,000        5,000                  4,000            0            400,000     120',
    '',
    'NEW SESSIONS/S  REQUESTS/S  HANDOFFS/S  ADOPTED/S  LOCAL ANSWERS/S',
    '            40          35          34         30              3.0',
    '',
    'SESSIONS  HALF-OPEN  COLLECTING  HANDING  PASSING  ANSWERING  ENDED',
    '   1,209          4           3        2    1,200          0     25',
    '',
    'ENGINE TIME  WAITING     LOOP  RECEIVE   ENGINE  TIMERS   FLUSH  FRAMES/BATCH',
    'us/s         700,000  100,000   50,000  100,000  10,000  40,000           5.0',
    'ns/frame           -   20,000   10,000   20,000   2,000   8,000             -',
    '',
    'NODE  STATE  ACTIVE  ADOPTED/S  WHY',
    'n1    down        5         30  unresolved: no reply\\x1b[2J',
    '',
    'DROPPED          PER S  TOTAL  WHAT',
    'ring_lost          3.0     42  Frames lost before the engine took them, because a receive ring was full.',
    'drop_no_session    0.5      7  Segments dropped because they belong to no session.',
    'drop_ixcp_tag        0      7  IXCP messages dropped because their tag is invalid.',
    '',
  ]);
  screen.text = '';
  stream.interval(intervalOf(statsAt(14), statsAt(15)));
  t.match(screen.text, /^\n2026/, 'an empty line precedes the next interval');
  stream.silent('why');
  stream.silent('why');
  stream.restarted();
  t.same(screen.notes, ['no answer: why', 'the balancer was restarted']);
});

t.test('the intervals as JSON', async (t) => {
  const screen = new NotedScreen();
  const stream = Stream.json(screen);
  stream.interval(intervalOf(statsAt(10), statsAt(13)));
  stream.interval(intervalOf(statsAt(13), statsAt(14)));
  const lines = screen.text.split('\n');
  t.equal(lines.length, 3);
  t.match(JSON.parse(lines[0] ?? ''), {
    seconds: 3,
    packets: { in: 5_000 },
    events: { newSessions: 40 },
  });
  t.notMatch(screen.text, /\.\d{4}/, 'three decimals at most');
});

t.test('several engine threads are shown as a sum and one by one', async (t) => {
  const two = (seconds: number): StatsDocument => {
    const [first] = statsAt(seconds).stages;
    const [second] = statsAt(seconds * 2).stages;
    if (first === undefined || second === undefined) throw new Error('no stages');
    return statsAt(seconds, {
      stages: [first, { ...second, worker: 1 }],
      kernel: { runNanoseconds: 1e6 * seconds, runCount: 1e4 * seconds },
    });
  };
  const screen = new NotedScreen();
  Stream.text(screen).interval(intervalOf(two(1), two(2)));
  const lines = screen.text.split('\n');
  const at = lines.findIndex((line) => line.startsWith('ENGINE TIME'));
  t.same(lines.slice(at, at + 6), [
    'ENGINE TIME       WAITING     LOOP  RECEIVE   ENGINE  TIMERS   FLUSH  FRAMES/BATCH',
    'us/s            1,400,000  200,000  100,000  200,000  20,000  80,000           5.0',
    'ns/frame                -   13,333    6,667   13,333   1,333   5,333             -',
    'thread 0, us/s    700,000  100,000   50,000  100,000  10,000  40,000           5.0',
    'thread 1, us/s    700,000  100,000   50,000  100,000  10,000  40,000           5.0',
    'XDP program: 1,000 us/s, 100 ns/packet, 10,000 packets/s',
  ]);
});

/** The screen's text with visible escape characters. */
function seen(screen: NotedScreen): string {
  return screen.text.replaceAll('\x1b', '^');
}

t.test('the intervals on a terminal', async (t) => {
  const screen = new NotedScreen({ columns: 60, rows: 40 });
  const terminal = new Terminal(screen);
  terminal.began(1);
  t.equal(seen(screen), '^[2J^[Hfirst figures in 1 s; Ctrl-C ends^[K\n^[J');
  screen.text = '';
  terminal.interval(intervalOf(statsAt(13), statsAt(14)));
  t.ok(
    seen(screen).startsWith('^[H2026-01-02T03:04:05.000Z^[K\n'),
    'the text starts at the top, and the screen is not cleared again',
  );
  t.match(seen(screen), /\^\[2mdrop_ixcp_tag {8}0 {6}7/, 'a counter that does not grow is dimmed');
  t.match(screen.text, /\ndrop_no_session/, 'a counter that grows is not dimmed');
  for (const line of seen(screen).split('\n')) {
    t.ok(line.replace(/\^\[\d*[a-zA-Z]/g, '').length < 60, line);
  }
  screen.text = '';
  terminal.silent('no balancer is running there');
  t.match(seen(screen), /^\^\[HNO ANSWER: no balancer is running there\^\[K\nBaton on eth0/);

  const small = new NotedScreen({ columns: 200, rows: 10 });
  small.dims = false;
  new Terminal(small).interval(intervalOf(statsAt(13), statsAt(14)));
  const lines = small.text.split('\n');
  t.equal(lines.length, 10);
  t.match(lines[8], /^\(15 more lines\)/);
});
