/**
 * The text of `/metrics`. It is made anew for each scrape, one metric after the other, and the
 * event loop gets its turn between two metrics: the main thread also answers for the local
 * services.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Gauge, Registry } from 'prom-client';
import { FAMILIES } from './families.js';
import type { Family, HistogramFamily, MetricsInput } from './family.js';

/** A line; `metricName` if it is not that of the family. */
interface Line {
  metricName?: string;
  labels: Record<string, string | number>;
  value: number;
}

/** Renders all metrics in Prometheus' text format. A metric without a value is left out. */
export async function renderMetrics(input: MetricsInput): Promise<string> {
  const texts: string[] = [];
  for (const family of FAMILIES) {
    const lines =
      family.type === 'histogram' ? histogramLines(family, input) : family.samples(input);
    if (lines.length === 0) continue;
    const registry = new Registry();
    registry.registerMetric(new Prepared(family, lines));
    texts.push(await registry.metrics());
    await nextTurn();
  }
  return texts.join('');
}

/** Of each histogram: one line for each bucket, which includes those below; sum and count. */
function histogramLines(family: HistogramFamily, input: MetricsInput): Line[] {
  const { name, bounds } = family;
  return family.histograms(input).flatMap(({ labels, buckets, sum }): Line[] => {
    let count = 0;
    const lines = [...bounds, '+Inf'].map((le, index) => {
      count += buckets[index] ?? 0;
      return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: count };
    });
    return [
      ...lines,
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: count },
    ];
  });
}

type Shown = Awaited<ReturnType<Gauge['get']>>;

/**
 * A metric of any type whose values were counted elsewhere. The library's own metrics count by
 * themselves, and look up every value by its labels; this one only gives the lines to the registry.
 */
class Prepared extends Gauge {
  private readonly family: Family;
  private readonly lines: readonly Line[];

  constructor(family: Family, lines: readonly Line[]) {
    super({ name: family.name, help: family.help, registers: [] });
    this.family = family;
    this.lines = lines;
  }

  override async get(): Promise<Shown> {
    const { name, help, type } = this.family;
    // The library's types say that a type is a number; its registry prints it.
    return { name, help, type, values: this.lines } as unknown as Shown;
  }
}
