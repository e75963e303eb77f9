/** Requests by curl from a host of a farm. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { Host } from '../farm/host.js';
import { PATIENCE_MS } from '../patience.js';

export interface CurlAnswer {
  /** curl's own exit code: 0 when the whole answer arrived. */
  exit: number;
  status: number;
  body: Buffer;
  headers: string;
  /** The server's address of the connection. */
  remoteAddress: string;
  localPort: number;
  /** New connections for this request: 0 when an earlier one was used again. */
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

/** Fetches several URLs with one curl, in order, over as few connections as possible. */
export async function curlAll(
  host: Host,
  urls: readonly string[],
  args: readonly string[] = [],
  timeoutMs = PATIENCE_MS,
): Promise<CurlAnswer[]> {
  const directory = mkdtempSync('/tmp/baton-curl-');
  try {
    const parts = urls.flatMap((url, index) => {
      const fixed = ['-s', '-g', '--path-as-is', '--noproxy', '*', '-w', '%{json}\n'];
      const limit = ['-m', String(timeoutMs / 1000)];
      const body = ['-o', path.join(directory, `body${index}`)];
      const head = ['-D', path.join(directory, `head${index}`)];
      return [
        ...(index === 0 ? [] : ['--next']),
        ...fixed,
        ...limit,
        ...args,
        ...body,
        ...head,
        url,
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

/** Fetches one URL. */
export async function curl(
  host: Host,
  url: string,
  args: readonly string[] = [],
  timeoutMs = PATIENCE_MS,
): Promise<CurlAnswer> {
  const [answer] = await curlAll(host, [url], args, timeoutMs);
  if (answer === undefined) {
    throw new Error(`curl reported nothing about ${url}`);
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
