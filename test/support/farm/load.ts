/**
 * Clients of every sort at once, for a test that does something to the balancer meanwhile: long downloads,
 * many requests on kept connections, conversations that are silent in between.
 */
import type { Test } from 'tap';
import type { Farm } from '../farm.js';
import { VIRTUAL_ADDRESS } from '../farm.js';
import { Download } from './download.js';
import { type Interval, PacketRate } from './rate.js';
import type { Heard, Step } from './raw-client.js';
import { converse, type WrkResult, wrk } from './requests.js';

export interface LoadOptions {
  /** What downloads fetch, its SHA-256, how many at once, and how fast each may be (as curl's --limit-rate takes it). */
  download: { path: string; sha256: string; count: number; rate: string };
  /** What everybody else fetches. */
  path: string;
  /** How long wrk goes on. */
  seconds: number;
  /** When conversations go on that were silent, and when those end that end early; in ms from the start. */
  againMs: number;
  earlyMs: number;
}

const CONNECTIONS = 8;
const CONVERSATION_MS = 60_000;

export class Load {
  private constructor(
    private readonly options: LoadOptions,
    private readonly began: number,
    private readonly downloads: readonly Download[],
    private readonly kept: Promise<WrkResult>,
    private readonly silent: Promise<Heard>,
    private readonly early: Promise<Heard>,
    private readonly rates: readonly PacketRate[],
  ) {}

  /** How many sessions it has while nothing of it has ended. */
  static sessions({ download }: LoadOptions): number {
    return download.count + CONNECTIONS + 2;
  }

  static async start(farm: Farm, options: LoadOptions): Promise<Load> {
    const { download, path, seconds, againMs, earlyMs } = options;
    const base = `http://${VIRTUAL_ADDRESS}`;
    const ask = { send: `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n` };
    const talk = (steps: Step[]): Promise<Heard> =>
      converse(farm.client, { address: VIRTUAL_ADDRESS, port: 80, steps, timeoutMs: CONVERSATION_MS });
    const answer = 'HTTP/1.1 200';
    const end: Step[] = [{ finish: true }, { untilClosed: true }];
    const load = new Load(
      options,
      Date.now(),
      Array.from({ length: download.count }, () => new Download(farm, base + download.path, download.rate)),
      wrk(farm.client, base + path, { connections: CONNECTIONS, seconds }),
      talk([ask, { hear: answer }, { waitMs: againMs }, ask, { hear: answer, times: 2 }, ...end]),
      talk([ask, { hear: answer }, { waitMs: earlyMs }, ...end]),
      await Promise.all(farm.nodes.map((node) => PacketRate.of(node))),
    );
    // Whoever fails early is asked at the end.
    for (const promise of [load.kept, load.silent, load.early]) promise.catch(() => {});
    return load;
  }

  /** Waits for the end of all of it, and asserts that nobody noticed anything. */
  async check(t: Test): Promise<void> {
    const { options, began } = this;
    const kept = await this.kept;
    const until = began + options.seconds * 1000;
    const rates = await Promise.all(this.rates.map((rate) => rate.stop(began + 1000, until - 500)));
    t.equal(
      kept.failed,
      0,
      `of ${kept.requests} requests on kept connections: ${JSON.stringify(kept.errors)}`,
    );
    for (const download of this.downloads) {
      const finished = await download.finish();
      t.equal(finished.exit, 0, `a download: ${finished.error}`);
      t.equal(finished.sha256, options.download.sha256, 'what it got');
    }
    const silent = await this.silent;
    t.equal(silent.ending, 'end', 'a connection that was silent');
    t.equal(silent.text.split('HTTP/1.1 200').length - 1, 2, 'its answers');
    t.equal((await this.early).ending, 'end', 'a connection that ended meanwhile');
    neverPaused(t, rates);
  }
}

/** Nodes hear of clients by way of the balancer alone. */
function neverPaused(t: Test, rates: readonly (readonly Interval[])[]): void {
  const [first = [], ...others] = rates;
  const sums = first.map((interval, index) =>
    others.reduce((sum, other) => sum + (other[index]?.packets ?? 0), interval.packets),
  );
  const least = Math.min(...sums);
  const middle = [...sums].sort((a, b) => a - b)[sums.length >> 1];
  const longest = Math.max(...first.map((interval) => interval.ms));
  t.ok(sums.length > 20, `${sums.length} intervals of 100 ms, none longer than ${longest} ms`);
  t.ok(least > 0, `packets to the nodes in each: at least ${least}, half of them more than ${middle}`);
}
