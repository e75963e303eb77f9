/** Every metric of `/metrics`, in the order in which it shows them. docs/metrics.md lists them. */
import { NODE_CONDITIONS, NODE_STATES } from '../../api/documents.js';
import {
  NODE_COUNTERS,
  SERVER_COUNTERS,
  type ServerCounterName,
  TIME_BOUNDS_MS,
} from '../../base/object-counters.js';
import { STAGE_NAMES, STAGES } from '../../base/stages.js';
import { COUNTER_FAMILIES } from './counter-families.js';
import {
  type CounterOrGauge,
  counterFamily,
  type Family,
  gaugeFamily,
  type HistogramFamily,
  type MetricsInput,
  type NodeFigures,
  type Sample,
  type ServerFigures,
  single,
} from './family.js';

const NS_PER_S = 1e9;
const MS_PER_S = 1e3;

const BALANCER: readonly CounterOrGauge[] = [
  gaugeFamily(
    'baton_build_info',
    'Always 1; the labels say which version runs, and how.',
    ['version', 'datapath', 'interface'],
    ({ stats }) => [
      {
        labels: {
          version: stats.version,
          datapath: stats.datapath,
          interface: stats.interface,
        },
        value: 1,
      },
    ],
  ),
  gaugeFamily(
    'baton_start_time_seconds',
    'Time when this balancer was ready, in seconds since 1970. Counters began at 0 then.',
    [],
    ({ stats }) => single(stats.startedAt / MS_PER_S),
  ),
  counterFamily(
    'baton_process_cpu_seconds_total',
    'Processor time of the whole balancer, user and system, all threads.',
    [],
    ({ process }) => single(process.cpuSeconds),
  ),
  gaugeFamily(
    'baton_process_resident_memory_bytes',
    'Memory of the balancer that is in RAM.',
    [],
    ({ process }) => single(process.residentBytes),
  ),
];

const SESSION_STATES = {
  half_open: 'Handshake not complete.',
  collecting: 'Request head not complete.',
  handing: 'Handed to a node that has not confirmed.',
  passing: 'Forwarded to the node that adopted the session.',
  answering: 'Answered by the balancer itself.',
  closing: 'Ended by FIN or RST, and kept for a while to forward late packets.',
};

const SESSIONS: readonly CounterOrGauge[] = [
  {
    ...gaugeFamily('baton_sessions', 'Sessions in the table, by state.', ['state'], ({ stats }) => {
      const { halfOpen, collecting, handing, passing, answering, closing } = stats.sessions;
      const states = { half_open: halfOpen, collecting, handing, passing, answering, closing };
      return Object.entries(states).map(([state, value]) => ({ labels: { state }, value }));
    }),
    values: SESSION_STATES,
  },
  gaugeFamily(
    'baton_sessions_limit',
    'Sessions for which the table has room: limits.sessions of the config.',
    [],
    ({ sessionLimit }) => single(sessionLimit),
  ),
];

/** One sample for each virtual server. */
function perServer(name: ServerCounterName): CounterOrGauge {
  return counterFamily(
    `baton_virtual_server_${name}_total`,
    SERVER_COUNTERS[name].help,
    ['virtual_server'],
    ({ servers }) =>
      servers.map((server) => ({
        labels: { virtual_server: server.name },
        value: server.counts[name],
      })),
  );
}

const ANSWER_PREFIX = 'answer_';
const ANSWERS = (Object.keys(SERVER_COUNTERS) as ServerCounterName[]).filter((name) =>
  name.startsWith(ANSWER_PREFIX),
);

const TIME_TO_HANDOFF: HistogramFamily = {
  type: 'histogram',
  name: 'baton_time_to_handoff_seconds',
  help: "Time from a client's SYN to the first handoff of its session to a node, to the millisecond. It has the round trip to the client and the time in which the client sends its request head.",
  labels: ['virtual_server'],
  bounds: TIME_BOUNDS_MS.map((ms) => ms / MS_PER_S),
  histograms: ({ servers }) =>
    servers.map(({ name, counts: { timeToHandoff } }: ServerFigures) => ({
      labels: { virtual_server: name },
      buckets: timeToHandoff.buckets,
      sum: timeToHandoff.sumMs / MS_PER_S,
    })),
};

/** What was only forwarded. Virtual servers with mode handoff have none of these. */
function forwardedFamilies(
  prefix: string,
  label: string,
  whose: string,
  figures: (input: MetricsInput) => readonly (ServerFigures | NodeFigures)[],
): CounterOrGauge[] {
  const family = (what: keyof NonNullable<NodeFigures['forwarded']>, help: string) =>
    counterFamily(`${prefix}_forwarded_${what}_total`, help, [label], (input) =>
      figures(input).flatMap(({ name, forwarded }) =>
        forwarded === undefined ? [] : [{ labels: { [label]: name }, value: forwarded[what] }],
      ),
    );
  return [
    family('packets', `Packets of mode forward ${whose}, with only the MAC addresses changed.`),
    family('bytes', `Bytes of the packets of mode forward ${whose}, Ethernet headers included.`),
    family(
      'flows',
      `Flows of mode forward ${whose} that chose a node; with buckets, TCP connections that were opened.`,
    ),
  ];
}

const SERVERS: readonly Family[] = [
  gaugeFamily(
    'baton_virtual_server_info',
    'Always 1; the labels say where the virtual server listens, and how it picks nodes.',
    ['virtual_server', 'address', 'port', 'predictor'],
    ({ servers }) =>
      servers.map(({ name, address, port, predictor }) => ({
        labels: { virtual_server: name, address, port: String(port), predictor },
        value: 1,
      })),
  ),
  gaugeFamily(
    'baton_virtual_server_sessions',
    'Sessions of the virtual server that have not ended.',
    ['virtual_server'],
    ({ servers }) =>
      servers.map(({ name, active }) => ({ labels: { virtual_server: name }, value: active })),
  ),
  perServer('connections'),
  perServer('requests'),
  perServer('handoffs'),
  {
    ...counterFamily(
      'baton_virtual_server_local_answers_total',
      'Sessions of the virtual server that the balancer itself answered with an error, by HTTP status.',
      ['virtual_server', 'status'],
      ({ servers }) =>
        servers.flatMap(({ name, counts }) =>
          ANSWERS.map((answer) => ({
            labels: { virtual_server: name, status: answer.slice(ANSWER_PREFIX.length) },
            value: counts[answer],
          })),
        ),
    ),
    values: Object.fromEntries(
      ANSWERS.map((answer) => [answer.slice(ANSWER_PREFIX.length), SERVER_COUNTERS[answer].help]),
    ),
  },
  perServer('alerts'),
  perServer('closed_silent_client'),
  ...forwardedFamilies(
    'baton_virtual_server',
    'virtual_server',
    'for the virtual server',
    ({ servers }) => servers,
  ),
  TIME_TO_HANDOFF,
];

/** A removed node has no metrics. */
const CONDITIONS = NODE_CONDITIONS.filter((condition) => condition !== 'removed');

/** The ends that a handoff can have. */
const RESULTS = ['adopted', 'refused', 'silent', 'taken_back'] as const;

const NODES: readonly CounterOrGauge[] = [
  gaugeFamily(
    'baton_node_info',
    'Always 1; the label says which address the node has.',
    ['node', 'address'],
    ({ nodes }) =>
      nodes.map(({ name, address }) => ({ labels: { node: name, address }, value: 1 })),
  ),
  gaugeFamily(
    'baton_node_state',
    '1 for the state of the node, 0 for every other one. Only a node that is up gets new sessions.',
    ['node', 'state'],
    ({ nodes }) =>
      nodes.flatMap((node) =>
        NODE_STATES.map((state) => ({
          labels: { node: node.name, state },
          value: node.state === state ? 1 : 0,
        })),
      ),
  ),
  gaugeFamily(
    'baton_node_condition',
    '1 for what the balancer has found out about the node, 0 for everything else. `baton stats` says why.',
    ['node', 'condition'],
    ({ nodes }) =>
      nodes.flatMap((node) =>
        CONDITIONS.map((condition) => ({
          labels: { node: node.name, condition },
          value: node.condition === condition ? 1 : 0,
        })),
      ),
  ),
  gaugeFamily('baton_node_weight', 'Weight of the node.', ['node'], ({ nodes }) =>
    nodes.map(({ name, weight }) => ({ labels: { node: name }, value: weight })),
  ),
  gaugeFamily(
    'baton_node_sessions',
    'Sessions that were handed to the node and have not ended.',
    ['node'],
    ({ nodes }) => nodes.map(({ name, active }) => ({ labels: { node: name }, value: active })),
  ),
  counterFamily('baton_node_handoffs_total', NODE_COUNTERS.handoffs.help, ['node'], ({ nodes }) =>
    nodes.map(({ name, counts }) => ({ labels: { node: name }, value: counts.handoffs })),
  ),
  {
    ...counterFamily(
      'baton_node_handoff_results_total',
      'Handoffs to the node that have a result, by result.',
      ['node', 'result'],
      ({ nodes }) =>
        nodes.flatMap(({ name, counts }) =>
          RESULTS.map((result) => ({ labels: { node: name, result }, value: counts[result] })),
        ),
    ),
    values: Object.fromEntries(RESULTS.map((result) => [result, NODE_COUNTERS[result].help])),
  },
  ...forwardedFamilies('baton_node', 'node', 'to the node', ({ nodes }) => nodes),
  gaugeFamily(
    'baton_node_report_age_seconds',
    "Time since the last report of the node's agent. A node whose agent has never reported has no value.",
    ['node'],
    ({ nodes }) =>
      nodes.flatMap(({ name, lastReportMs }): Sample[] =>
        lastReportMs === null ? [] : [{ labels: { node: name }, value: lastReportMs / MS_PER_S }],
      ),
  ),
];

const ENGINE: readonly CounterOrGauge[] = [
  {
    ...counterFamily(
      'baton_engine_stage_seconds_total',
      'Time of each engine thread, by stage. The stages of a thread add up to the time since its start.',
      ['worker', 'stage'],
      ({ stats }) =>
        stats.stages.flatMap(({ worker, nanoseconds }) =>
          STAGE_NAMES.map((stage) => ({
            labels: { worker: String(worker), stage },
            value: nanoseconds[stage] / NS_PER_S,
          })),
        ),
    ),
    values: STAGES,
  },
  counterFamily(
    'baton_engine_batches_total',
    'Batches with at least one frame that an engine thread has handled.',
    ['worker'],
    ({ stats }) =>
      stats.stages.map(({ worker, batches }) => ({
        labels: { worker: String(worker) },
        value: batches,
      })),
  ),
  counterFamily(
    'baton_engine_frames_total',
    'Frames in the batches of an engine thread.',
    ['worker'],
    ({ stats }) =>
      stats.stages.map(({ worker, frames }) => ({
        labels: { worker: String(worker) },
        value: frames,
      })),
  ),
  counterFamily(
    'baton_xdp_run_seconds_total',
    'Time in the XDP program. Counted while the sysctl kernel.bpf_stats_enabled is 1.',
    [],
    ({ stats }) => (stats.kernel === null ? [] : single(stats.kernel.runNanoseconds / NS_PER_S)),
  ),
  counterFamily(
    'baton_xdp_run_packets_total',
    'Packets that the XDP program has read. Counted while the sysctl kernel.bpf_stats_enabled is 1.',
    [],
    ({ stats }) => (stats.kernel === null ? [] : single(stats.kernel.runCount)),
  ),
];

export const FAMILIES: readonly Family[] = [
  ...BALANCER,
  ...SESSIONS,
  ...SERVERS,
  ...NODES,
  ...ENGINE,
  ...COUNTER_FAMILIES,
];
