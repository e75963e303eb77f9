/**
 * New clients at a steady rate, each with one connection. The file is a program that runs in the
 * namespace of a farm's client; the class Arrivals starts it and returns the outcome.
 */
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { VIRTUAL_ADDRESS } from '../farm/addresses.js';
import type { Farm } from '../farm/farm.js';
import type { Program } from '../farm/process.js';

/**
 * How long a client waits for its answer, in ms. Linux retransmits after 0.2, 0.6, 1.4, 3, 6.2 and
 * 12.6 s.
 */
const PATIENCE_MS = 40_000;
/** Time between two clients, in ms. */
const EVERY_MS = 20;

/** The outcome. */
export interface Arrived {
  /** All clients. */
  count: number;
  /** Clients without an answer: when each came (ms since 1970), and why. */
  lost: { at: number; why: string }[];
  /** The longest time from SYN to answer, in ms. */
  slowestMs: number;
}

export class Arrivals {
  private constructor(private readonly program: Program) {}

  /** Clients ask for `path`, until `stop`. */
  static start(farm: Farm, path: string): Arrivals {
    const script = fileURLToPath(import.meta.url);
    const args = [VIRTUAL_ADDRESS, path, String(EVERY_MS), String(PATIENCE_MS)];
    return new Arrivals(farm.client.start('arrivals', [process.execPath, script, ...args]));
  }

  /** No new client comes. Waits until the last one has its answer or gives up. */
  async stop(): Promise<Arrived> {
    const { program } = this;
    program.signal('SIGTERM');
    return (await program.document()) as Arrived;
  }
}

/** One client. Resolves with '' when it got its answer, else with the reason. */
function visit(address: string, path: string, patienceMs: number): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect({ host: address, port: 80 });
    const finish = (why: string): void => {
      socket.destroy();
      resolve(why);
    };
    socket.setTimeout(patienceMs, () => finish(`no answer, local port ${socket.localPort}`));
    socket.once('connect', () => {
      socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    });
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
    });
    socket.once('end', () =>
      finish(text.startsWith('HTTP/1.1 200') ? '' : `answer ${text.slice(0, 20)}`),
    );
    socket.once('error', (error: NodeJS.ErrnoException) => finish(error.code ?? 'error'));
  });
}

async function arrive([
  address = '',
  path = '/',
  every,
  patience,
]: readonly string[]): Promise<Arrived> {
  const arrived: Arrived = { count: 0, lost: [], slowestMs: 0 };
  const visits: Promise<void>[] = [];
  const timer = setInterval(() => {
    const at = Date.now();
    arrived.count += 1;
    visits.push(
      visit(address, path, Number(patience)).then((why) => {
        if (why !== '') arrived.lost.push({ at, why });
        else arrived.slowestMs = Math.max(arrived.slowestMs, Date.now() - at);
      }),
    );
  }, Number(every));
  await new Promise((resolve) => process.once('SIGTERM', resolve));
  clearInterval(timer);
  await Promise.all(visits);
  return arrived;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const arrived = await arrive(process.argv.slice(2));
  process.stdout.write(`${JSON.stringify(arrived)}\n`, () => process.exit(0));
}
