/** The text of /metrics. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { checkMetrics, whyNoPrometheus } from '../../../lab/servers/prometheus.js';
import { renderMetricDocs } from '../../../scripts/metric-docs.js';
import { metricOf } from '../../../src/balancer/metrics/counter-families.js';
import { renderMetrics } from '../../../src/balancer/metrics/exposition.js';
import { FAMILIES } from '../../../src/balancer/metrics/families.js';
import { Counters } from '../../../src/base/counters.js';
import { GLOSSARY } from '../../../src/cli/glossary.js';
import { COUNTER_VALUES, metricsInput, nodeFigures, serverFigures } from './fixture.js';

/** The values by line, without HELP and TYPE. */
function valuesOf(text: string): Map<string, number> {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(
    lines.map((line) => {
      const space = line.lastIndexOf(' ');
      return [line.slice(0, space), Number(line.slice(space + 1))];
    }),
  );
}

t.test('promtool has nothing to complain about', { skip: whyNoPrometheus() }, async (t) => {
  const { code, stdout, stderr } = await checkMetrics(await renderMetrics(metricsInput()));
  t.equal(stderr + stdout, '');
  t.equal(code, 0);
  const bad = await checkMetrics('# TYPE baton_x counter\nbaton_x 1\n');
  t.not(bad.code, 0, 'it would complain');
});

t.test('nodes and virtual servers have their values', async (t) => {
  const values = valuesOf(await renderMetrics(metricsInput()));
  const are = (expected: Record<string, number>): void => {
    for (const [line, value] of Object.entries(expected)) t.equal(values.get(line), value, line);
  };
  are({
    'baton_build_info{version="0.1.0",datapath="xdp",interface="eth0"}': 1,
    baton_start_time_seconds: 1_700_000_000.5,
    'baton_sessions{state="half_open"}': 1,
    'baton_sessions{state="answering"}': 6,
    'baton_sessions{state="closing"}': 5,
    baton_sessions_limit: 1_000_000,
    'baton_node_info{node="n1",address="10.99.0.3"}': 1,
    'baton_node_state{node="n1",state="draining"}': 1,
    'baton_node_state{node="n1",state="up"}': 0,
    'baton_node_condition{node="n1",condition="up"}': 1,
    'baton_node_condition{node="n1",condition="suspended"}': 0,
    'baton_node_weight{node="n1"}': 2,
    'baton_node_sessions{node="n1"}': 4,
    'baton_node_handoffs_total{node="n1"}': 50,
    'baton_node_handoff_results_total{node="n1",result="adopted"}': 40,
    'baton_node_handoff_results_total{node="n1",result="refused"}': 5,
    'baton_node_handoff_results_total{node="n1",result="silent"}': 3,
    'baton_node_handoff_results_total{node="n1",result="taken_back"}': 1,
    'baton_node_report_age_seconds{node="n1"}': 0.4,
    'baton_virtual_server_sessions{virtual_server="www"}': 6,
    'baton_virtual_server_connections_total{virtual_server="www"}': 60,
    'baton_virtual_server_local_answers_total{virtual_server="www",status="404"}': 9,
    'baton_virtual_server_local_answers_total{virtual_server="www",status="503"}': 0,
    'baton_engine_stage_seconds_total{worker="1",stage="receive"}': 0.5,
    'baton_engine_batches_total{worker="0"}': 1_000,
    baton_xdp_run_seconds_total: 1.5,
    baton_process_cpu_seconds_total: 12.5,
  });
  const conditions = [...values].filter(([line]) => line.startsWith('baton_node_condition'));
  t.equal(
    conditions.reduce((sum, [, value]) => sum + value, 0),
    1,
    'a node is in one condition',
  );
});

t.test('the buckets of the histogram include those below', async (t) => {
  const values = valuesOf(await renderMetrics(metricsInput()));
  const bucket = (le: string): number | undefined =>
    values.get(`baton_time_to_handoff_seconds_bucket{virtual_server="www",le="${le}"}`);
  t.equal(bucket('0.001'), 1);
  t.equal(bucket('0.002'), 1);
  t.equal(bucket('0.005'), 3);
  t.equal(bucket('0.5'), 3);
  t.equal(bucket('1'), 4);
  t.equal(bucket('10'), 4);
  t.equal(bucket('+Inf'), 5);
  t.equal(values.get('baton_time_to_handoff_seconds_count{virtual_server="www"}'), 5);
  t.equal(values.get('baton_time_to_handoff_seconds_sum{virtual_server="www"}'), 20.709);
});

t.test('every counter of `baton stats` is in exactly one metric', async (t) => {
  // A value that occurs once says which line shows a counter.
  const engine = new Counters().toObject();
  for (const name of Object.keys(engine) as (keyof typeof engine)[])
    engine[name] = COUNTER_VALUES[name] ?? 0;
  const values = valuesOf(await renderMetrics(metricsInput({ engine })));
  const lines = [...values].filter(([line]) => !line.startsWith('baton_lost_frames_total'));
  for (const [name, value] of Object.entries(COUNTER_VALUES)) {
    const shown = lines.filter(([, other]) => other === value).map(([line]) => line.split('{')[0]);
    t.same(shown, [metricOf(name)], `${name} is shown`);
  }
  t.equal(
    values.get('baton_dropped_packets_total{part="engine",reason="cookie"}'),
    engine.drop_cookie,
  );
  t.equal(values.get('baton_closed_sessions_total{reason="fin"}'), engine.closed_fin);
  t.equal(
    values.get('baton_lost_frames_total{counter="ring_lost"}'),
    COUNTER_VALUES.ring_lost,
    'losses are shown together as well',
  );
});

t.test('a packet that the XDP program dropped is not a drop of the engine too', async (t) => {
  // In `baton stats`, drop_unresolved is the sum of both.
  const input = metricsInput();
  const counters = { ...COUNTER_VALUES, drop_unresolved: 12, xdp_drop_unresolved: 7 };
  const engine = { ...input.engine, drop_unresolved: 5 };
  const values = valuesOf(
    await renderMetrics({ ...input, stats: { ...input.stats, counters }, engine }),
  );
  t.equal(values.get('baton_dropped_packets_total{part="engine",reason="unresolved"}'), 5);
  t.equal(values.get('baton_dropped_packets_total{part="xdp",reason="unresolved"}'), 7);
});

t.test('what a balancer does not have is left out', async (t) => {
  const input = metricsInput();
  const counters = Object.fromEntries(
    Object.entries(COUNTER_VALUES).filter(([name]) => !name.startsWith('xdp_')),
  );
  const text = await renderMetrics({
    ...input,
    stats: { ...input.stats, counters, kernel: null },
    nodes: [nodeFigures({ lastReportMs: null })],
    servers: [],
  });
  t.notMatch(text, /baton_xdp_/);
  t.notMatch(text, /part="xdp"/);
  t.notMatch(text, /baton_node_report_age_seconds/);
  t.notMatch(text, /baton_time_to_handoff_seconds/);
});

t.test('names of a config cannot break a line', { skip: whyNoPrometheus() }, async (t) => {
  const odd = 'a"b\\c\nd';
  const text = await renderMetrics(
    metricsInput({
      nodes: [nodeFigures({ name: odd })],
      servers: [serverFigures({ name: odd })],
    }),
  );
  t.match(text, 'baton_node_weight{node="a\\"b\\\\c\\nd"} 2');
  t.equal((await checkMetrics(text)).code, 0);
});

t.test('the largest farm is rendered, and other work gets its turn meanwhile', async (t) => {
  const nodes = Array.from({ length: 1_024 }, (_, i) => nodeFigures({ name: `n${i}` }));
  const servers = Array.from({ length: 256 }, (_, i) => serverFigures({ name: `v${i}` }));
  let turns = 0;
  let running = true;
  const turn = (): void => {
    turns++;
    if (running) setImmediate(turn);
  };
  setImmediate(turn);
  const values = valuesOf(await renderMetrics(metricsInput({ nodes, servers })));
  running = false;
  t.equal(values.get('baton_node_weight{node="n1023"}'), 2);
  t.equal(values.get('baton_time_to_handoff_seconds_count{virtual_server="v255"}'), 5);
  t.ok(turns >= FAMILIES.length / 2, `${turns} turns of the event loop`);
});

t.test('docs/metrics.md matches the declarations', async (t) => {
  const page = new URL('../../../../docs/metrics.md', import.meta.url);
  t.equal(
    readFileSync(page, 'utf8'),
    renderMetricDocs(),
    'if not: node dist/scripts/metric-docs.js',
  );
  t.equal(
    [...GLOSSARY.keys()].every((name) => metricOf(name) !== undefined),
    true,
  );
});

t.test('names are unique, and every metric has a help', async (t) => {
  const names = FAMILIES.map(({ name }) => name);
  t.same(names, [...new Set(names)]);
  for (const { name, help, type } of FAMILIES) {
    t.match(name, /^baton_[a-z0-9_]+$/);
    t.equal(name.endsWith('_total'), type === 'counter', name);
    t.ok(help.endsWith('.') && !help.includes('\n'), `${name}: ${help}`);
  }
});
