/** Clients of a farm: curl, wrk, and a raw TCP client whose every write is decided by the test. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Host } from '../farm/host.js';
import type { Program } from '../farm/process.js';
import { PATIENCE_MS } from '../patience.js';
import type { Conversation, Heard } from './raw-client.js';

export interface CurlAnswer {
  /** curl's own exit code: 0 when the whole answer arrived. */
  exit: number;
  status: number;
  body: Buffer;
  headers: string;
  /** The address that curl was connected to. */
  remoteAddress: string;
  localPort: number;
  /** Connections that were made for this request: 0 when an earlier one served it too. */
  connects: number;
  /** Seconds from the start to the last byte. */
  seconds: number;
  /** Bytes per second of the body. */
  rate: number;
  error: string;
}

interface CurlReport {
  response_code: number;
  remote_ip: string;
  local_port: number;
  num_connects: number;
  time_total: number;
  speed_download: number;
  exitcode: number;
  errormsg: string | null;
}

/** Fetches several URLs with one curl, in order, over as few connections as curl needs. */
export async function curlAll(
  host: Host,
  urls: readonly string[],
  args: readonly string[] = [],
  timeoutMs = PATIENCE_MS,
): Promise<CurlAnswer[]> {
  const directory = mkdtempSync('/tmp/baton-curl-');
  try {
    const parts = urls.flatMap((url, index) => {
      const files = [
        '-o',
        path.join(directory, `body${index}`),
        '-D',
        path.join(directory, `head${index}`),
      ];
      const seconds = String(timeoutMs / 1000);
      return [
        ...(index === 0 ? [] : ['--next']),
        ...[
          '-s',
          '-g',
          '--path-as-is',
          '--noproxy',
          '*',
          '-m',
          seconds,
          ...args,
          '-w',
          '%{json}\n',
          ...files,
          url,
        ],
      ];
    });
    const { stdout } = await host.run('curl', parts, {
      allowFailure: true,
      timeoutMs: timeoutMs * urls.length + 5000,
    });
    const reports = stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as CurlReport);
    return reports.map((report, index) => ({
      exit: report.exitcode,
      status: report.response_code,
      body: readOrEmpty(path.join(directory, `body${index}`)),
      headers: readOrEmpty(path.join(directory, `head${index}`)).toString('latin1'),
      remoteAddress: report.remote_ip,
      localPort: report.local_port,
      connects: report.num_connects,
      seconds: report.time_total,
      rate: report.speed_download,
      error: report.errormsg ?? '',
    }));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export async function curl(
  host: Host,
  url: string,
  args: readonly string[] = [],
  timeoutMs = PATIENCE_MS,
): Promise<CurlAnswer> {
  const [answer] = await curlAll(host, [url], args, timeoutMs);
  if (answer === undefined) {
    throw new Error(`curl said nothing about ${url}`);
  }
  return answer;
}

function readOrEmpty(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch {
    return Buffer.alloc(0);
  }
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

const RAW_CLIENT = fileURLToPath(new URL('./raw-client.js', import.meta.url));

/** Runs a scripted TCP conversation from a host: see raw-client.ts. */
export async function converse(
  host: Host,
  conversation: Conversation,
  timeoutMs = PATIENCE_MS,
): Promise<Heard> {
  const { stdout } = await host.run(process.execPath, [RAW_CLIENT], {
    input: JSON.stringify(conversation),
    timeoutMs,
  });
  return JSON.parse(stdout) as Heard;
}

export interface WrkResult {
  requests: number;
  seconds: number;
  perSecond: number;
  /** connect, read, write, status (not 2xx or 3xx), timeout. */
  errors: { connect: number; read: number; write: number; status: number; timeout: number };
  /** Of all kinds. */
  failed: number;
  /** Of the requests' durations, in ms: the median, and what 1 % of them exceed. */
  p50: number;
  p99: number;
}

export interface WrkOptions {
  connections: number;
  /** How long it goes on, if nothing ends it before. */
  seconds: number;
  threads?: number;
  /** A connection for each request. */
  close?: boolean;
  timeoutSeconds?: number;
  /** Lua, as wrk's -s takes it, in a file. */
  script?: string;
}

function wrkArguments(url: string, options: WrkOptions): string[] {
  const threads = Math.min(options.threads ?? 1, options.connections);
  const args = [
    '-t',
    String(threads),
    '-c',
    String(options.connections),
    '-d',
    `${options.seconds}s`,
  ];
  args.push('--latency', '--timeout', `${options.timeoutSeconds ?? 10}s`);
  if (options.close === true) args.push('-H', 'Connection: close');
  if (options.script !== undefined) args.push('-s', options.script);
  return [...args, url];
}

/** Loads a URL with wrk. */
export async function wrk(host: Host, url: string, options: WrkOptions): Promise<WrkResult> {
  const timeoutMs = options.seconds * 1000 + PATIENCE_MS;
  const { stdout } = await host.run('wrk', wrkArguments(url, options), { timeoutMs });
  return parseWrk(stdout);
}

/** wrk, under way until it is told to end. */
export class Wrk {
  private static count = 0;
  private readonly program: Program;

  constructor(host: Host, url: string, options: WrkOptions) {
    this.program = host.start(`wrk${Wrk.count++}`, ['wrk', ...wrkArguments(url, options)]);
  }

  get running(): boolean {
    return this.program.running;
  }

  /** Ends it, as Ctrl-C does, and tells what it saw. */
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

/** What wrk prints with --latency. Throws when that is not a report of wrk. */
export function parseWrk(text: string): WrkResult {
  const total = /(\d+) requests in ([\d.]+)(ms|s|m)/.exec(text);
  if (total === null) {
    throw new Error(`wrk said: ${text}`);
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

/**
 * Arguments: address, path, client port, count. The server closes first, so that the port is free
 * again as soon as the client's own FIN is acknowledged.
 */
const IN_A_ROW = `
import socket, sys, time
address, path, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def connect():
    while True:
        try:
            return socket.create_connection((address, 80), 20, ("", port))
        except OSError as error:
            if error.strerror is None or "ddress" not in error.strerror: raise
            time.sleep(0.005)
for _ in range(count):
    with connect() as s:
        s.sendall(f"GET {path} HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n".encode())
        answer = b"".join(iter(lambda: s.recv(65536), b""))
    print(answer[9:12].decode())
`;

/**
 * The different statuses of so many connections from one client port, one right after the other.
 */
export async function statusesInARow(
  host: Host,
  address: string,
  requestPath: string,
  port: number,
  count: number,
): Promise<string[]> {
  const args = ['-c', IN_A_ROW, address, requestPath, String(port), String(count)];
  const { stdout } = await host.run('/usr/bin/python3', args);
  return [...new Set(stdout.split('\n').filter(Boolean))];
}
