/** Load on a farm by wrk: many requests over a fixed number of connections. */
import type { Host } from '../farm/host.js';
import type { Program } from '../farm/process.js';
import { PATIENCE_MS } from '../patience.js';

export interface WrkResult {
  requests: number;
  seconds: number;
  perSecond: number;
  /** connect, read, write, status (not 2xx or 3xx), timeout. */
  errors: { connect: number; read: number; write: number; status: number; timeout: number };
  /** All errors. */
  failed: number;
  /** Percentiles of the latency, in ms. */
  p50: number;
  p99: number;
}

export interface WrkOptions {
  connections: number;
  /** How long it runs, unless `stop` ends it. */
  seconds: number;
  threads?: number;
  /** A new connection for each request. */
  close?: boolean;
  timeoutSeconds?: number;
  /** The file of a Lua script (wrk's option -s). */
  script?: string;
}

function wrkArguments(url: string, options: WrkOptions): string[] {
  const threads = Math.min(options.threads ?? 1, options.connections);
  const { connections, seconds } = options;
  const args = ['-t', String(threads), '-c', String(connections), '-d', `${seconds}s`];
  args.push('--latency', '--timeout', `${options.timeoutSeconds ?? 10}s`);
  if (options.close === true) args.push('-H', 'Connection: close');
  if (options.script !== undefined) args.push('-s', options.script);
  return [...args, url];
}

/** Puts load on a URL for a fixed time. */
export async function wrk(host: Host, url: string, options: WrkOptions): Promise<WrkResult> {
  const timeoutMs = options.seconds * 1000 + PATIENCE_MS;
  const { stdout } = await host.run('wrk', wrkArguments(url, options), { timeoutMs });
  return parseWrk(stdout);
}

/** A wrk that runs until `stop`. */
export class Wrk {
  private static count = 0;
  private readonly program: Program;

  constructor(host: Host, url: string, options: WrkOptions) {
    this.program = host.start(`wrk${Wrk.count++}`, ['wrk', ...wrkArguments(url, options)]);
  }

  get running(): boolean {
    return this.program.running;
  }

  /** Ends it as Ctrl-C does, and returns its report. */
  async stop(): Promise<WrkResult> {
    this.program.signal('SIGINT');
    await this.program.exited;
    return parseWrk(this.program.log());
  }
}

/** A line of wrk's latency distribution, such as "  99%    1.20ms" or "  99%    1.02s ", in ms. */
function percentile(text: string, percent: number): number {
  const line = new RegExp(`^ +${percent}% +([\\d.]+)(us|ms|s|m) *$`, 'm').exec(text);
  const unit = { us: 0.001, ms: 1, s: 1000, m: 60_000 }[line?.[2] ?? 'ms'] ?? 1;
  return Number(line?.[1] ?? Number.NaN) * unit;
}

/** Reads what wrk prints with --latency. Throws when the text is not a report of wrk. */
export function parseWrk(text: string): WrkResult {
  const total = /(\d+) requests in ([\d.]+)(ms|s|m)/.exec(text);
  if (total === null) {
    throw new Error(`wrk printed: ${text}`);
  }
  const unit = { ms: 0.001, s: 1, m: 60 }[total[3] ?? 's'] ?? 1;
  const socket = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text);
  const status = /Non-2xx or 3xx responses: (\d+)/.exec(text);
  const at = (index: number): number => Number(socket?.[index] ?? 0);
  const errors = {
    connect: at(1),
    read: at(2),
    write: at(3),
    timeout: at(4),
    status: Number(status?.[1] ?? 0),
  };
  const latency = { p50: percentile(text, 50), p99: percentile(text, 99) };
  const requests = Number(total[1]);
  const seconds = Number(total[2]) * unit;
  const failed = Object.values(errors).reduce((sum, count) => sum + count, 0);
  return { requests, seconds, perSecond: requests / seconds, errors, failed, ...latency };
}
