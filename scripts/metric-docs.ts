/**
 * Writes docs/metrics.md from the declarations of the metrics, so that the page and `/metrics`
 * always agree. Run it from the source directory after changing a metric or a counter:
 *
 *     node dist/scripts/metric-docs.js
 */
import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import { FAMILIES } from '../src/balancer/metrics/families.js';
import type { Family } from '../src/balancer/metrics/family.js';

const FILE = 'docs/metrics.md';

const INTRODUCTION = `# Metrics

A balancer shows its state and its counters to Prometheus when its config says where:

\`\`\`yaml
metrics: {listen: "127.0.0.1:9464"}
\`\`\`

\`\`\`yaml
# prometheus.yml
scrape_configs:
  - job_name: baton
    static_configs:
      - targets: ["127.0.0.1:9464"]
\`\`\`

Everyone who reaches that address can read the metrics, so choose one that only your Prometheus
reaches. The same text is on the control socket, whatever the config says:

\`\`\`sh
curl --unix-socket /run/baton/baton.sock http://localhost/metrics
\`\`\`

- Names and units follow Prometheus' conventions. Times are seconds, sizes are bytes.
- The label \`node\` is a name of \`nodes\`, and \`virtual_server\` one of \`virtualServers\`.
- Counters begin at 0 when the balancer starts. Those of a node or virtual server may also begin at
  0 again when it is removed and added again. \`rate()\` and \`increase()\` allow for that.
- A node or virtual server that is removed has no values any more, even while sessions of it go on.
- A counter \`NAME\` of \`baton stats\` is the metric \`baton_NAME_total\`, unless it is one case of a
  metric with a label: \`drop_cookie\` is \`baton_dropped_packets_total{part="engine",
  reason="cookie"}\`.
- A scrape reads memory that the engine threads share, and asks each of them one question. With
  1,024 nodes the question takes a thread about 0.2 ms. All scrapers within 0.2 s get the same text.
  A scraper that has not read it after 10 s is disconnected.

Queries to begin with:

\`\`\`promql
# Sessions handed over per second, by virtual server
sum by (virtual_server) (rate(baton_virtual_server_handoffs_total[5m]))

# Time from the SYN to the handoff that 99 of 100 sessions stay below
histogram_quantile(0.99, sum by (le, virtual_server) (rate(baton_time_to_handoff_seconds_bucket[5m])))

# Nodes that get no new sessions
baton_node_state{state="up"} == 0

# Frames that this machine lost
sum by (counter) (increase(baton_lost_frames_total[5m])) > 0

# Part of its time that each engine thread works
1 - sum by (worker) (rate(baton_engine_stage_seconds_total{stage="waiting"}[5m]))
\`\`\`

\`node dist/scripts/metric-docs.js\` generates this page from src/balancer/metrics/.

## All metrics
`;

/** The text of docs/metrics.md. */
export function renderMetricDocs(): string {
  const rows = FAMILIES.map(
    ({ name, type, labels, help }) => `| \`${name}\` | ${type} | ${code(labels)} | ${help} |`,
  );
  return [
    INTRODUCTION,
    '| metric | type | labels | meaning |',
    '| --- | --- | --- | --- |',
    ...rows,
    '',
    ...FAMILIES.flatMap(valueTable),
  ].join('\n');
}

/** The values of a metric's last labels, if they need words. */
function valueTable(family: Family): string[] {
  if (family.type === 'histogram' || family.values === undefined) return [];
  return [
    `### Values of \`${family.name}\``,
    '',
    `| ${family.valueLabels ?? family.labels.at(-1)} | meaning |`,
    '| --- | --- |',
    ...Object.entries(family.values).map(([value, meaning]) => `| \`${value}\` | ${meaning} |`),
    '',
  ];
}

function code(labels: readonly string[]): string {
  return labels.map((label) => `\`${label}\``).join(', ');
}

if (argv[1] !== undefined && resolve(argv[1]) === fileURLToPath(import.meta.url)) {
  writeFileSync(FILE, renderMetricDocs());
}
