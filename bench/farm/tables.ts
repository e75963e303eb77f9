/** The tables of docs/benchmarks.md: headings and rows. */
import { whole } from '../report.js';
import { percentile, rates, samplesOf, shareOf, spread, taxes } from './figures.js';
import type { CaseResult, ForwarderId, Results } from './results.js';

export interface Table {
  headings: string[];
  rows: string[][];
  /** Headings of columns with text. The first column always is text. */
  text?: string[];
}

const MEGABYTE = 1e6;

function withRange(values: readonly number[]): string {
  const { median, least, most } = spread(values);
  return `${whole(median)} (${whole(least)} to ${whole(most)})`;
}

function medianOf(values: readonly number[], show: (value: number) => string = whole): string {
  return show(spread(values).median);
}

const milliseconds = (value: number): string => value.toFixed(value < 10 ? 2 : 1);
const megabytes = (value: number): string => (value / MEGABYTE).toFixed(1);

export function caseTable(results: Results, which: CaseResult): Table {
  const rows = results.contenders.flatMap(({ id, name }) => {
    const samples = samplesOf(which, id);
    if (samples.length === 0) return [];
    const perSecond = samples.map((sample) => sample.perSecond);
    const tax = taxes(which, id);
    const share = shareOf(tax, taxes(which, 'haproxy'));
    const crossing = samples.flatMap((sample) => sample.crossing ?? []);
    return [
      [
        name,
        withRange(perSecond),
        medianOf(perSecond.map((rate) => (rate * which.case.bytes) / MEGABYTE)),
        medianOf(
          samples.map(({ p50 }) => p50),
          milliseconds,
        ),
        medianOf(
          samples.map(({ p99 }) => p99),
          milliseconds,
        ),
        withRange(samples.map(({ cpu }) => cpu)),
        id === 'direct' ? '' : medianOf(tax),
        id === 'direct' || share === undefined || Number.isNaN(share) ? '' : share.toFixed(2),
        crossing.length === 0 ? '' : medianOf(crossing),
        whole(samples.reduce((sum, { failed }) => sum + failed, 0)),
      ],
    ];
  });
  return {
    headings: [
      'through',
      'requests/s (range)',
      'MB/s',
      'p50, ms',
      'p99, ms',
      'CPU us/request (range)',
      'tax, us',
      "share of HAProxy's tax",
      'bytes in between/request',
      'failed',
    ],
    rows,
  };
}

export function firstByteTable({ contenders, firstByte }: Results): Table {
  const { direct = [] } = firstByte;
  const rows = contenders.flatMap(({ id, name }) => {
    const { [id]: times = [] } = firstByte;
    if (times.length === 0) return [];
    const at = (share: number): number => percentile(times, share);
    const above = (share: number): string =>
      id === 'direct' ? '' : whole(at(share) - percentile(direct, share));
    return [[name, whole(at(0.5)), whole(at(0.99)), above(0.5), above(0.99), whole(times.length)]];
  });
  return {
    headings: ['through', 'p50, us', 'p99, us', 'p50 above direct', 'p99 above direct', 'samples'],
    rows,
  };
}

const FORWARDER_NAMES: Partial<Record<ForwarderId, string>> = {
  swap: 'XDP program that swaps MAC addresses',
  redirect: 'XDP program that swaps them and redirects',
  packet: 'Baton packet',
  xdp: 'Baton xdp',
};

export function smallPacketTable({ smallPackets }: Results): Table {
  const { floods, programs } = smallPackets;
  const kinds = new Map<string, { id: ForwarderId; sessions: number }>();
  for (const { forwarder, sessions } of floods) {
    kinds.set(`${forwarder} ${sessions}`, { id: forwarder, sessions });
  }
  const rows = [...kinds.values()].map(({ id, sessions }) => {
    const mine = floods.filter((flood) => flood.forwarder === id && flood.sessions === sessions);
    const back = rates(floods, id, sessions);
    const share = shareOf(back, rates(floods, 'swap'));
    const program = programs.find((one) => one.forwarder === id && one.sessions === sessions);
    return [
      FORWARDER_NAMES[id] ?? id,
      id === 'swap' || id === 'redirect' ? '' : whole(sessions),
      withRange(back),
      medianOf(mine.map(({ sent, seconds }) => sent / seconds)),
      id === 'packet'
        ? ''
        : medianOf(
            mine.map(({ waited }) => waited),
            (value) => value.toFixed(2),
          ),
      share === undefined || id === 'swap' ? '' : share.toFixed(2),
      program === undefined ? '' : whole(program.nanoseconds),
    ];
  });
  return {
    headings: [
      ...['forwarder', 'sessions', 'forwarded/s (range)', 'offered/s', 'waits per batch', 'share'],
      'ns in the program',
    ],
    rows,
  };
}

export function memoryTable({ memory }: Results): Table {
  const { haproxy } = memory;
  const baton = memory.baton.map((held) => {
    const all = held.process + held.rings + held.maps;
    return [
      `Baton ${held.datapath}`,
      `${whole(held.sessions)} sessions`,
      megabytes(all),
      `${megabytes(held.process)} + ${megabytes(held.rings)} + ${megabytes(held.maps)}`,
      megabytes(held.empty),
      whole((all - held.empty) / held.sessions),
    ];
  });
  const each = (haproxy.process - haproxy.empty) / haproxy.connections;
  return {
    headings: [
      'what',
      'holds',
      'MB',
      'process + rings + BPF maps',
      'MB when empty',
      'additional bytes for each',
    ],
    rows: [
      ...baton,
      [
        'HAProxy tuned',
        `${whole(haproxy.connections)} idle connections`,
        megabytes(haproxy.process),
        megabytes(haproxy.process),
        megabytes(haproxy.empty),
        whole(each),
      ],
    ],
    text: ['holds', 'process + rings + BPF maps'],
  };
}

/** MB of HAProxy's process for a million connections, extrapolated from those that it held. */
export function haproxyMillion({ memory: { haproxy } }: Results): string {
  const each = (haproxy.process - haproxy.empty) / haproxy.connections;
  return megabytes(haproxy.empty + each * 1e6);
}

export function engineTable({ engine }: Results): Table {
  const range = (values: readonly number[]): string[] => {
    const { median, least, most } = spread(values);
    return [whole(median), `${whole(least)} to ${whole(most)}`];
  };
  return {
    headings: ['what', 'median', 'range'],
    rows: [
      ['pass-through packets/s', ...range(engine.packetsPerSecond)],
      ['handoffs/s, SYN to IXP', ...range(engine.handoffsPerSecond)],
      ['handoffs/s, SYN to confirmed', ...range(engine.confirmedPerSecond)],
      [
        `heap growth over ${whole(engine.heapPackets)} packets, bytes`,
        whole(engine.heapGrowthBytes),
        '',
      ],
      ['session table, bytes per session', engine.tableBytesPerSession.toFixed(1), ''],
      [
        'session table with timers and lists, bytes per session',
        engine.enginePerSession.toFixed(1),
        '',
      ],
    ],
  };
}

/** Compares one engine thread with several. */
export function workersTable({ engine: { workers } }: Results): Table {
  const { handoffs, packets, handoffRatios, packetRatios } = workers;
  const row = (
    what: string,
    { one, all }: { one: number[]; all: number[] },
    ratios: number[],
  ): string[] => {
    const { median, least, most } = spread(ratios);
    const ratio = `${median.toFixed(2)} (${least.toFixed(2)} to ${most.toFixed(2)})`;
    return [what, withRange(one), withRange(all), ratio];
  };
  return {
    headings: ['what', '1 worker (range)', `${workers.workers} workers (range)`, 'ratio (range)'],
    rows: [
      row('handoffs/s, SYN to IXP', handoffs, handoffRatios),
      row('pass-through packets/s', packets, packetRatios),
    ],
  };
}

/** The number of rounds of a case that count, and of discarded ones. */
export function roundsOf(which: CaseResult): string {
  const { length } = which.discarded;
  return `${which.rounds.length} rounds${length === 0 ? '' : `, ${length} more discarded for stolen time`}`;
}
