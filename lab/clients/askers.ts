/**
 * Clients that ask for one path after the other on kept-alive connections, and note when each
 * request began and ended and what the answer was. The file is a program that runs in the namespace
 * of a farm's client; the class Askers starts it and returns the notes.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { Agent, get } from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { monotonicClock } from '../../src/base/clock.js';
import type { Farm } from '../farm/farm.js';
import type { RunResult } from '../farm/process.js';
import { FILE_TIMEOUT_MS } from '../patience.js';

export interface AskersOptions {
  address: string;
  connections: number;
  /** Each connection takes them in turn, and begins at another one. */
  paths: readonly string[];
}

/** One request. Times are ms of CLOCK_MONOTONIC. */
export interface Asked {
  path: string;
  began: number;
  ended: number;
  /** 0: there was no answer. */
  status: number;
  /** The beginning of the body, or what went wrong. */
  text: string;
}

const MOST_TEXT = 100;

export class Askers {
  private static count = 0;

  private constructor(
    private readonly stopFile: string,
    private readonly outcome: Promise<RunResult>,
  ) {}

  static start(farm: Farm, options: AskersOptions): Askers {
    const stop = path.join(farm.directory, `askers${Askers.count++}`);
    const args = [fileURLToPath(import.meta.url), JSON.stringify(options), stop];
    const outcome = farm.client.run(process.execPath, args, { timeoutMs: FILE_TIMEOUT_MS });
    // `finish` reports a program that fails early.
    outcome.catch(() => {});
    return new Askers(stop, outcome);
  }

  /** Ends the clients after their present requests. */
  async finish(): Promise<Asked[]> {
    writeFileSync(this.stopFile, '');
    return JSON.parse((await this.outcome).stdout) as Asked[];
  }
}

const now = monotonicClock();

function ask(agent: Agent, host: string, target: string): Promise<Asked> {
  const began = now();
  return new Promise((resolve) => {
    let text = '';
    const end = (status: number): void =>
      resolve({ path: target, began, ended: now(), status, text: text.slice(0, MOST_TEXT) });
    const failed = (error: Error): void => {
      text = error.message;
      end(0);
    };
    const outgoing = get({ agent, host, path: target }, (incoming) => {
      incoming.setEncoding('latin1').on('data', (part: string) => {
        text += part;
      });
      incoming.on('error', failed);
      incoming.on('end', () => end(incoming.statusCode ?? 0));
    });
    outgoing.on('error', failed);
  });
}

async function main(options: AskersOptions, stop: string): Promise<void> {
  const { address, connections, paths } = options;
  const asked: Asked[] = [];
  const connection = async (index: number): Promise<void> => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (let n = index; !existsSync(stop); n++)
      asked.push(await ask(agent, address, paths[n % paths.length] ?? '/'));
    agent.destroy();
  };
  await Promise.all(Array.from({ length: connections }, (_, index) => connection(index)));
  process.stdout.write(JSON.stringify(asked));
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await main(JSON.parse(process.argv[2] ?? '') as AskersOptions, process.argv[3] ?? '');
