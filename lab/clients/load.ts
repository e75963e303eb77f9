/**
 * Clients of every kind at once, for a test that does something to the balancer meanwhile: long
 * downloads, many requests on persistent connections, conversations with silence in between. All go
 * on until `check` releases them.
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
  /** What the downloads fetch, its SHA-256, and the number of downloads. */
  download: { path: string; sha256: string; count: number };
  /** What all other clients fetch. */
  path: string;
}

const CONNECTIONS = 8;
/** Pause of each connection between two requests: the test needs steady requests, not many. */
const BETWEEN_REQUESTS = 'function delay() return 20 end -- ms\n';
/** No client may give up before the test ends. */
const CONVERSATION_MS = FILE_TIMEOUT_MS;
/** The longest gap between packets that a busy machine may cause. */
const LONGEST_PAUSE_MS = 1000;

export class Load {
  private static count = 0;
  /** When all sessions were passing, in ms since 1970. */
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

  /** The number of its sessions. */
  static sessions({ download }: LoadOptions): number {
    return download.count + CONNECTIONS + 2;
  }

  /** Starts all clients, and waits until each session is passing. */
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
    // A conversation that fails early is reported by `check`.
    for (const promise of [load.silent, load.early]) promise.catch(() => {});
    await farm.waitFor(async () => (await passing()) >= all, `${all} passing sessions`);
    load.began = Date.now();
    return load;
  }

  /** Ends one of the conversations now. */
  endOne(): void {
    writeFileSync(this.go.early, '');
  }

  /**
   * Releases all clients, waits for their ends, and asserts that none noticed anything.
   *
   * @param pauses whether packets may have waited for the next balancer
   */
  async check(t: Test, pauses = false): Promise<void> {
    const { options, began, go } = this;
    const rates = await Promise.all(this.rates.map((rate) => rate.stop(began, Date.now())));
    t.ok(this.kept.running, 'requests went on until the end');
    const kept = await this.kept.stop();
    t.equal(
      kept.failed,
      0,
      `no request on a persistent connection failed (${kept.requests} requests, ${JSON.stringify(kept.errors)})`,
    );
    for (const download of this.downloads)
      t.ok(download.running, 'each download went on until the end');
    for (const finished of await Promise.all(this.downloads.map((download) => download.finish()))) {
      t.equal(finished.error, '', 'the download did not fail');
      t.equal(finished.sha256, options.download.sha256, 'the download is complete');
    }
    for (const file of Object.values(go)) writeFileSync(file, '');
    const silent = await this.silent;
    t.equal(silent.ending, 'end', 'the silent connection ended in order');
    t.equal(
      silent.text.split('HTTP/1.1 200').length - 1,
      2,
      'the silent connection got both answers',
    );
    t.equal(
      (await this.early).ending,
      'end',
      'the connection that was to end meanwhile ended in order',
    );
    // Every packet of a client reaches its node through the balancer.
    const pause = longestPause(rates);
    t.ok(
      pauses || pause < LONGEST_PAUSE_MS,
      `no pause in packets to nodes was longer than ${LONGEST_PAUSE_MS} ms: ${pause} ms`,
    );
    for (const rate of rates) {
      const total = rate.reduce((sum, { packets }) => sum + packets, 0);
      t.ok(total > 0, `each node received packets: ${total} in ${rate.length} intervals`);
    }
  }
}
