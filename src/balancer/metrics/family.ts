/** What a metric is, and the values that the metrics of one scrape are made of. */
import type { NodeDocument, StatsDocument, VirtualServerDocument } from '../../api/documents.js';
import type { CounterName } from '../../base/counters.js';
import type { NodeCounterName, ServerCounts } from '../../base/object-counters.js';

/** A node, and what the engine threads have counted about it. */
export type NodeFigures = Pick<
  NodeDocument,
  'name' | 'address' | 'weight' | 'state' | 'condition' | 'active' | 'forwarded' | 'lastReportMs'
> & { counts: Readonly<Record<NodeCounterName, number>> };

/** A virtual server, and what the engine threads have counted about it. */
export type ServerFigures = Pick<
  VirtualServerDocument,
  'name' | 'address' | 'port' | 'predictor' | 'active'
> & { counts: Readonly<ServerCounts>; forwarded?: NodeDocument['forwarded'] | undefined };

/** Everything that one scrape shows. */
export interface MetricsInput {
  stats: Omit<StatsDocument, 'nodes' | 'virtualServers'>;
  /** The engine's counters without what the XDP program did in its place. */
  engine: Readonly<Record<CounterName, number>>;
  /** The nodes and virtual servers in use, not those that were removed. */
  nodes: readonly NodeFigures[];
  servers: readonly ServerFigures[];
  sessionLimit: number;
  process: { cpuSeconds: number; residentBytes: number };
}

/** One line of a metric. */
export interface Sample {
  labels: Readonly<Record<string, string>>;
  value: number;
}

interface Described {
  /** Begins with baton_; a counter ends with _total. */
  name: string;
  /** At most one line, for people. */
  help: string;
  labels: readonly string[];
}

export interface CounterOrGauge extends Described {
  type: 'counter' | 'gauge';
  samples(input: MetricsInput): Sample[];
  /** For docs/metrics.md: the values of the last label, or of several, each with its meaning. */
  values?: Readonly<Record<string, string>>;
  /** The labels of `values`, if they are several. */
  valueLabels?: string;
}

/** One line of a histogram for each bucket, and their sum. */
export interface HistogramSample {
  labels: Readonly<Record<string, string>>;
  /** Observations in each bucket, and above the last bound. */
  buckets: readonly number[];
  sum: number;
}

export interface HistogramFamily extends Described {
  type: 'histogram';
  /** Upper bounds, inclusive, without +Inf. */
  bounds: readonly number[];
  histograms(input: MetricsInput): HistogramSample[];
}

export type Family = CounterOrGauge | HistogramFamily;

export function counterFamily(
  name: string,
  help: string,
  labels: readonly string[],
  samples: (input: MetricsInput) => Sample[],
): CounterOrGauge {
  return { type: 'counter', name, help, labels, samples };
}

export function gaugeFamily(
  name: string,
  help: string,
  labels: readonly string[],
  samples: (input: MetricsInput) => Sample[],
): CounterOrGauge {
  return { type: 'gauge', name, help, labels, samples };
}

/** A sample without labels. */
export function single(value: number): Sample[] {
  return [{ labels: {}, value }];
}
