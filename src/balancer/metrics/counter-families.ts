/**
 * The counters of `baton stats` as metrics. A counter becomes `baton_NAME_total`, with its help.
 * Counters that are the cases of one thing become one metric with a label instead: add them up, or
 * look for the case that grows.
 */
import { LOSS_KINDS } from '../../api/losses.js';
import { ACCESS_LOG_COUNTERS } from '../../base/access-log-counters.js';
import { API_COUNTERS } from '../../base/api-counters.js';
import { type CounterInfo, meaning } from '../../base/counter-info.js';
import { COUNTERS } from '../../base/counters.js';
import {
  COUNTER_PREFIX,
  GUARD_COUNTERS,
  RING_COUNTERS,
  XDP_COUNTERS,
} from '../../base/kernel-counters.js';
import { type CounterOrGauge, counterFamily, type MetricsInput, single } from './family.js';

/** A counter of `baton stats`: its name there, and the part of Baton that counts it. */
interface Counted {
  name: string;
  /** Its name without the prefix of its part. */
  own: string;
  part: string;
  info: CounterInfo;
}

const RING_PREFIX = 'ring_';

function counted(part: string, prefix: string, infos: Record<string, CounterInfo>): Counted[] {
  return Object.entries(infos).map(([own, info]) => ({ name: prefix + own, own, part, info }));
}

const ALL: readonly Counted[] = [
  ...counted('engine', '', COUNTERS),
  ...counted('ring', '', RING_COUNTERS).map((each) => ({
    ...each,
    own: each.name.slice(RING_PREFIX.length),
  })),
  ...counted('guard', COUNTER_PREFIX.guard, GUARD_COUNTERS),
  ...counted('xdp', COUNTER_PREFIX.xdp, XDP_COUNTERS),
  ...counted('access_log', COUNTER_PREFIX.accessLog, ACCESS_LOG_COUNTERS),
  ...counted('api', '', API_COUNTERS),
];

/** Counters that become one metric. `label` has the part of the name behind the prefix. */
interface Group {
  metric: string;
  help: string;
  label: string;
  parts: readonly string[];
  prefix: string;
}

const GROUPS: readonly Group[] = [
  {
    metric: 'baton_dropped_packets_total',
    help: 'Packets that a part of the balancer dropped or did not send, by reason. A frame for which the transmit ring had no room may count twice: as transmit_full of the engine and as full of the ring.',
    label: 'reason',
    parts: ['engine', 'ring', 'guard', 'xdp'],
    prefix: 'drop_',
  },
  {
    metric: 'baton_local_answers_total',
    help: 'Sessions that the balancer itself answered with an error, by HTTP status.',
    label: 'status',
    parts: ['engine'],
    prefix: 'answer_',
  },
  {
    metric: 'baton_tls_alerts_total',
    help: 'TLS connections that the balancer ended with an alert, by reason.',
    label: 'reason',
    parts: ['engine'],
    prefix: 'alert_',
  },
  {
    metric: 'baton_closed_sessions_total',
    help: 'Sessions that ended, by reason.',
    label: 'reason',
    parts: ['engine'],
    prefix: 'closed_',
  },
  {
    metric: 'baton_evicted_sessions_total',
    help: 'Sessions removed to make room for others, by what was short.',
    label: 'reason',
    parts: ['engine'],
    prefix: 'evicted_',
  },
  {
    metric: 'baton_xdp_to_engine_packets_total',
    help: 'Packets that the XDP program gave to the engine, by reason.',
    label: 'reason',
    parts: ['xdp'],
    prefix: 'to_engine_',
  },
];

/** Not an end of a session: it ends normally afterwards, and counts there. */
const NO_CASE: readonly string[] = ['closed_silent_client'];

function groupOf({ part, own }: Counted): Group | undefined {
  if (NO_CASE.includes(own)) return undefined;
  return GROUPS.find(({ parts, prefix }) => parts.includes(part) && own.startsWith(prefix));
}

/** Whether this balancer has the counter: without an XDP program there are no counters of one. */
function isThere({ stats }: MetricsInput, { name }: Counted): boolean {
  return name in stats.counters;
}

/** Without what the XDP program dropped: that has a sample of its own. */
function caseValue(input: MetricsInput, { part, name }: Counted): number {
  const engine: Readonly<Record<string, number>> = input.engine;
  return (part === 'engine' ? engine[name] : input.stats.counters[name]) ?? 0;
}

function groupFamily(group: Group): CounterOrGauge {
  const { metric, help, label, parts, prefix } = group;
  const members = ALL.filter((each) => groupOf(each) === group);
  const several = parts.length > 1;
  return {
    ...counterFamily(metric, help, several ? ['part', label] : [label], (input) =>
      members
        .filter((each) => isThere(input, each))
        .map((each) => ({
          labels: {
            ...(several ? { part: each.part } : {}),
            [label]: each.own.slice(prefix.length),
          },
          value: caseValue(input, each),
        })),
    ),
    ...(several ? { valueLabels: `part ${label}` } : {}),
    values: Object.fromEntries(
      members.map((each) => [
        (several ? `${each.part} ` : '') + each.own.slice(prefix.length),
        meaning(each.info),
      ]),
    ),
  };
}

const LOST: CounterOrGauge = {
  ...counterFamily(
    'baton_lost_frames_total',
    "Frames that this machine lost between interface and engine, by counter; 0 on a healthy machine. The balancer's log and `baton stats` say what to do.",
    ['counter'],
    ({ stats }) =>
      LOSS_KINDS.filter(({ counter }) => counter in stats.counters).map(({ counter }) => ({
        labels: { counter },
        value: stats.counters[counter] ?? 0,
      })),
  ),
  values: Object.fromEntries(LOSS_KINDS.map(({ counter, what }) => [counter, what])),
};

/** In the order of `baton stats`, the groups first. */
export const COUNTER_FAMILIES: readonly CounterOrGauge[] = [
  LOST,
  ...GROUPS.map(groupFamily),
  ...ALL.filter((each) => groupOf(each) === undefined).map((each) =>
    counterFamily(`baton_${each.name}_total`, each.info.help, [], (input) =>
      isThere(input, each) ? single(input.stats.counters[each.name] ?? 0) : [],
    ),
  ),
];

/** The metric that shows a counter of `baton stats`. Undefined for an unknown name. */
export function metricOf(name: string): string | undefined {
  const each = ALL.find((other) => other.name === name);
  if (each === undefined) return undefined;
  return groupOf(each)?.metric ?? `baton_${name}_total`;
}
