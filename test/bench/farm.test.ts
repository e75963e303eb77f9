/** Goals, tables and document of the farm benchmark, made from invented samples. */
import t from 'tap';
import { CASES } from '../../bench/farm/cases.js';
import type { ContenderId } from '../../bench/farm/contenders.js';
import { documentOf } from '../../bench/farm/document.js';
import { type Goal, goalsOf, verdict } from '../../bench/farm/goals.js';
import { PROXIES } from '../../bench/farm/proxies.js';
import type { FloodSample, Results, Sample } from '../../bench/farm/results.js';
import { smallPacketTable, workersTable } from '../../bench/farm/tables.js';

/** CPU in us per request. Above direct: stock HAProxy 100, tuned HAProxy 50, Baton 30. */
const CPU: Record<ContenderId, number> = {
  direct: 100,
  haproxy: 200,
  'haproxy-tuned': 150,
  nginx: 220,
  'nginx-tuned': 120,
  bare: 105,
  packet: 140,
  xdp: 130,
};
const IDS: readonly ContenderId[] = [
  ...([
    'direct',
    'haproxy',
    'haproxy-tuned',
    'nginx',
    'nginx-tuned',
    'bare',
    'packet',
    'xdp',
  ] as const),
];

function sample(cpu: number): Sample {
  return { requests: 10, failed: 0, perSecond: 1e6 / cpu, p50: 1, p99: 2, cpu, stolen: 0 };
}

function flood(
  forwarder: FloodSample['forwarder'],
  sessions: number,
  returned: number,
): FloodSample {
  return { forwarder, sessions, seconds: 1, sent: 2_000_000, returned, waited: 0.97, stolen: 0 };
}

function resultsOf(cpu: Partial<Record<ContenderId, number>>): Results {
  const round = Object.fromEntries(Object.entries(cpu).map(([id, us]) => [id, sample(us)]));
  const proxy = { connections: 9500, empty: 16e6, process: 27e6, limit: 'enough' };
  const held = { process: 100e6, rings: 20e6, maps: 100e6, empty: 130e6 };
  return {
    version: 3,
    startedAt: '2026-01-02T03:04:05.000Z',
    seconds: 720,
    settings: { rounds: 1, seconds: 2 },
    machine: { 'congestion control': 'bbr' },
    versions: {},
    contenders: IDS.map((id) => {
      const proxyKind = PROXIES.find((one) => one.id === id);
      return { id, name: proxyKind?.name ?? id, how: proxyKind?.how ?? id };
    }),
    idleShare: 0,
    cases: CASES.map((one) => ({ case: one, rounds: [round], discarded: [] })),
    firstByte: {},
    smallPackets: {
      floods: [
        flood('swap', 10_000, 1_000_000),
        flood('xdp', 1, 990_000),
        flood('xdp', 1000, 950_000),
        flood('xdp', 10_000, 840_000),
        flood('xdp', 1_000_000, 400_000),
      ],
      discarded: [],
      programs: [],
    },
    memory: { baton: [{ datapath: 'xdp', sessions: 1e6, seconds: 9, ...held }], haproxy: proxy },
    engine: {
      handoffsPerSecond: [300_000],
      confirmedPerSecond: [200_000],
      packetsPerSecond: [9_000_000],
      heapGrowthBytes: 0,
      heapPackets: 1,
      tableBytesPerSession: 139,
      enginePerSession: 153,
      workers: {
        workers: 2,
        handoffs: { one: [100, 100, 100], all: [170, 190, 180] },
        packets: { one: [100, 100, 100], all: [170, 179, 199] },
        handoffRatios: [1.7, 1.9, 1.8],
        packetRatios: [1.7, 1.79, 1.99],
      },
    },
  };
}

function find(goals: readonly Goal[], start: string): Goal {
  const found = goals.find(({ what }) => what.startsWith(start));
  if (found === undefined) throw new Error(`no goal begins with ${start}`);
  return found;
}

t.test(
  'a tax is judged against the stock proxies, and also shown against the tuned ones',
  async (t) => {
    const goals = goalsOf(resultsOf(CPU));
    const haproxy = find(goals, "1 KB, a connection per request: tax as a share of HAProxy's");
    t.equal(haproxy.shown, '0.30');
    t.equal(verdict(haproxy), 'met', 'against the tuned proxy the goal would be missed');
    t.equal(haproxy.ofTuned, '0.60');
    const nginx = find(goals, "1 KB, a connection per request: tax as a share of nginx's");
    t.match(nginx, { shown: '0.25', ofTuned: '1.50' });
    t.equal(verdict(nginx), 'met');
    t.equal(verdict(find(goals, '10 MB: tax')), '**missed**');
    t.equal(
      goals.filter(({ ofTuned }) => ofTuned !== undefined).length,
      5,
      'only the goals of taxes',
    );
  },
);

t.test(
  'a tuned proxy that was not measured, or that costs nothing, changes no verdict',
  async (t) => {
    const { 'haproxy-tuned': _, ...without } = CPU;
    const absent = find(goalsOf(resultsOf(without)), '1 KB, kept alive: tax');
    t.match(absent, { ofTuned: 'not measured', shown: '0.30', met: false });
    const free = find(goalsOf(resultsOf({ ...CPU, 'haproxy-tuned': 90 })), '1 KB, kept alive: tax');
    t.match(free, { ofTuned: 'nothing to compare with', met: false });
    const { haproxy: __, ...none } = CPU;
    t.match(find(goalsOf(resultsOf(none)), '1 KB, kept alive: tax'), {
      shown: 'not measured',
      ofTuned: '0.60',
      met: undefined,
    });
  },
);

t.test('small packets are judged with 10,000 sessions, and shown with every number', async (t) => {
  const results = resultsOf(CPU);
  t.match(find(goalsOf(results), 'small packets'), { shown: '0.84', met: false });
  t.same(
    smallPacketTable(results).rows.map(([, sessions, , , waits, share]) => [
      sessions,
      waits,
      share,
    ]),
    [
      ['', '0.97', ''],
      ['1', '0.97', '0.99'],
      ['1,000', '0.97', '0.95'],
      ['10,000', '0.97', '0.84'],
      ['1,000,000', '0.97', '0.40'],
    ],
  );
});

t.test('two workers are judged by the median of the ratios', async (t) => {
  const results = resultsOf(CPU);
  const start = '2 workers as a multiple of one, capture in memory';
  t.match(find(goalsOf(results), `${start}: handoffs`), {
    goal: 'at least 1.80',
    shown: '1.80',
    met: true,
  });
  t.match(find(goalsOf(results), `${start}: packets`), {
    goal: 'at least 1.80',
    shown: '1.79',
    met: false,
  });
  t.same(workersTable(results).rows[0], [
    'handoffs/s, SYN to IXP',
    '100 (100 to 100)',
    '180 (170 to 190)',
    '1.80 (1.70 to 1.90)',
  ]);
});

t.test('paragraphs of the document fit 100 columns', async (t) => {
  const paragraphs = documentOf(resultsOf(CPU))
    .replace(/^```[\s\S]*?^```/gm, '')
    .split('\n')
    .filter((line) => !/^[|#]/.test(line));
  t.ok(paragraphs.length > 50);
  t.same(
    paragraphs.filter((line) => line.length > 100),
    [],
  );
});

t.test('the document names every contender in every table of the farm', async (t) => {
  const text = documentOf(resultsOf(CPU));
  const unwrapped = text.replace(/\s+/g, ' ');
  t.match(text, 'congestion control bbr');
  t.match(text, 'net.ipv4.tcp_tw_reuse=1');
  for (const { name, how } of PROXIES) {
    t.ok(unwrapped.includes(`- **${name}**: ${how}.`), `how ${name} is set up`);
    t.equal(
      text.split(`\n| ${name} | `).length - 1,
      CASES.length + (name === 'HAProxy tuned' ? 1 : 0),
      name,
    );
  }
});
