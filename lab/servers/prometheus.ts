/** Debian's Prometheus and promtool, for tests: see scripts/prometheus.sh. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { projectRoot } from '../farm/baton.js';
import type { Host } from '../farm/host.js';
import { type RunResult, run } from '../farm/process.js';

const FETCHED = path.join(projectRoot(), '.prometheus');
/** Where it listens, on the host that it runs on. */
const ADDRESS = '127.0.0.1:9090';

function programPath(name: 'prometheus' | 'promtool'): string {
  const fetched = path.join(FETCHED, name);
  return existsSync(fetched) ? fetched : name;
}

/** Why there are no tests with Prometheus; false when there are. For tap's `skip`. */
export function whyNoPrometheus(): string | false {
  const works = (name: 'prometheus' | 'promtool'): boolean =>
    spawnSync(programPath(name), ['--version'], { stdio: 'ignore' }).status === 0;
  return !(works('prometheus') && works('promtool')) && 'needs prometheus and promtool';
}

/** Runs `promtool check metrics`, which reads `text`. It complains in `stderr`. */
export function checkMetrics(text: string): Promise<RunResult> {
  return run(programPath('promtool'), ['check', 'metrics'], { input: text, allowFailure: true });
}

/** One value of a query's result. */
export interface QueryValue {
  labels: Record<string, string>;
  value: number;
}

interface QueryAnswer {
  status: string;
  error?: string;
  data?: { result: { metric: Record<string, string>; value: [number, string] }[] };
}

export class Prometheus {
  private readonly host: Host;

  private constructor(host: Host) {
    this.host = host;
  }

  /**
   * Starts a Prometheus that scrapes `target`, an address and port, every second. Its data is below
   * `directory`. It ends with the farm.
   */
  static start(host: Host, target: string, directory: string): Prometheus {
    const home = path.join(directory, 'prometheus');
    mkdirSync(home, { recursive: true });
    const config = path.join(home, 'prometheus.yml');
    writeFileSync(
      config,
      [
        'global: {scrape_interval: 1s}',
        'scrape_configs:',
        '  - job_name: baton',
        `    static_configs: [{targets: ["${target}"]}]`,
        '',
      ].join('\n'),
    );
    host.start('prometheus', [
      programPath('prometheus'),
      `--config.file=${config}`,
      `--storage.tsdb.path=${path.join(home, 'data')}`,
      `--web.listen-address=${ADDRESS}`,
    ]);
    return new Prometheus(host);
  }

  /** The result of a PromQL query now; empty until Prometheus answers. */
  async query(query: string): Promise<QueryValue[]> {
    const { stdout } = await this.host.run(
      'curl',
      [
        '-s',
        '--noproxy',
        '*',
        '-G',
        `http://${ADDRESS}/api/v1/query`,
        '--data-urlencode',
        `query=${query}`,
      ],
      { allowFailure: true },
    );
    if (!stdout.startsWith('{')) return [];
    const answer = JSON.parse(stdout) as QueryAnswer;
    if (answer.status !== 'success') throw new Error(`${query}: ${answer.error}`);
    return (answer.data?.result ?? []).map(({ metric, value: [, value] }) => ({
      labels: metric,
      value: Number(value),
    }));
  }

  /** The sum of a query's values; NaN when it has none. */
  async sum(query: string): Promise<number> {
    const values = await this.query(query);
    return values.length === 0 ? Number.NaN : values.reduce((sum, { value }) => sum + value, 0);
  }
}
