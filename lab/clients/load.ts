/**
 * Clients of every sort at once, for a test that does something to the balancer meanwhile: long
 * downloads, many requests on kept connections, conversations that are silent in between. All of it
 * lasts until it is released.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Test } from 'tap';
import { VIRTUAL_ADDRESS } from '../farm/addresses.js';
import type { Farm } from '../farm/farm.js';
import { FILE_TIMEOUT_MS } from '../patience.js';
import { longestPause, PacketRate } from '../probes/rate.js';
import { Download } from './download.js';
import { converse, type Heard, type Step } from './raw-client.js';
import { Wrk } from './wrk.js';

export interface LoadOptions {
  /** What downloads fetch, its SHA-256, and how many at once. */
  download: { path: string; sha256: string; count: number };
  /** What everybody else fetches. */
  path: string;
}

const CONNECTIONS = 8;
/**
 * Of each of them, between two requests: what they are for is that they go on, not that there are
 * many.
 */
const BETWEEN_REQUESTS = 'function delay() return 20 end -- ms\n';
/** Nobody's patience is to end before the test. */
const CONVERSATION_MS = FILE_TIMEOUT_MS;
/** Packets may be this long on their way, on a machine that has other things to do. */
const LONGEST_PAUSE_MS = 1000;

export class Load {
  private static count = 0;
  /** When all of it was under way, in ms. */
  private began = 0;

  private constructor(
    private readonly options: LoadOptions,
    private readonly downloads: readonly Download[],
    private readonly kept: Wrk,
    private readonly silent: Promise<Heard>,
    private readonly early: Promise<Heard>,
    private readonly rates: readonly PacketRate[],
    private readonly go: { early: string; silent: string },
  ) {}

  /** How many sessions it has. */
  static sessions({ download }: LoadOptions): number {
    return download.count + CONNECTIONS + 2;
  }

  /** Begins all of it, and waits until each of its sessions is the node's. */
  static async start(farm: Farm, options: LoadOptions): Promise<Load> {
    const { download, path: target } = options;
    const base = `http://${VIRTUAL_ADDRESS}`;
    const file = (name: string): string => path.join(farm.directory, `load${Load.count}-${name}`);
    const go = { early: file('early'), silent: file('silent') };
    const script = file('wrk.lua');
    writeFileSync(script, BETWEEN_REQUESTS);
    Load.count += 1;
    const ask = { send: `GET ${target} HTTP/1.1\r\nHost: x\r\n\r\n` };
    const talk = (steps: Step[]): Promise<Heard> =>
      converse(
        farm.client,
        { address: VIRTUAL_ADDRESS, port: 80, steps, timeoutMs: CONVERSATION_MS },
        CONVERSATION_MS,
      );
    const answer = 'HTTP/1.1 200';
    const end: Step[] = [{ finish: true }, { untilClosed: true }];
    const rates = await Promise.all(farm.nodes.map((node) => PacketRate.of(node)));
    const passing = async (): Promise<number> => (await farm.stats()).sessions.passing ?? 0;
    const all = (await passing()) + Load.sessions(options);
    const load = new Load(
      options,
      Array.from({ length: download.count }, () => new Download(farm, base + download.path)),
      new Wrk(farm.client, base + target, {
        connections: CONNECTIONS,
        seconds: CONVERSATION_MS / 1000,
        script,
      }),
      talk([
        ask,
        { hear: answer },
        { untilFile: go.silent },
        ask,
        { hear: answer, times: 2 },
        ...end,
      ]),
      talk([ask, { hear: answer }, { untilFile: go.early }, ...end]),
      rates,
      go,
    );
    // Whoever fails early is asked at the end.
    for (const promise of [load.silent, load.early]) promise.catch(() => {});
    await farm.waitFor(async () => (await passing()) >= all, `${all} sessions that pass`);
    load.began = Date.now();
    return load;
  }

  /** One of the conversations ends now. */
  endOne(): void {
    writeFileSync(this.go.early, '');
  }

  /** Releases all of it, waits for its end, and asserts that nobody noticed anything. */
  async check(t: Test): Promise<void> {
    const { options, began, go } = this;
    const rates = await Promise.all(this.rates.map((rate) => rate.stop(began, Date.now())));
    t.ok(this.kept.running, 'requests went on to the end');
    const kept = await this.kept.stop();
    t.equal(
      kept.failed,
      0,
      `of ${kept.requests} requests on kept connections: ${JSON.stringify(kept.errors)}`,
    );
    for (const download of this.downloads) t.ok(download.running, 'a download went on to the end');
    for (const finished of await Promise.all(this.downloads.map((download) => download.finish()))) {
      t.equal(finished.error, '', 'a download');
      t.equal(finished.sha256, options.download.sha256, 'what it got');
    }
    for (const file of Object.values(go)) writeFileSync(file, '');
    const silent = await this.silent;
    t.equal(silent.ending, 'end', 'a connection that was silent');
    t.equal(silent.text.split('HTTP/1.1 200').length - 1, 2, 'its answers');
    t.equal((await this.early).ending, 'end', 'a connection that ended meanwhile');
    // Nodes hear of clients by way of the balancer alone.
    const pause = longestPause(rates);
    t.ok(pause < LONGEST_PAUSE_MS, `the longest time without a packet to a node: ${pause} ms`);
    for (const rate of rates) {
      const total = rate.reduce((sum, { packets }) => sum + packets, 0);
      t.ok(total > 0, `${total} packets to a node in ${rate.length} intervals`);
    }
  }
}
