/**
 * A TCP client that follows a script: each write is decided by the test. The file is a program of
 * its own, because it must run in the namespace of a farm's client. It reads a Conversation from
 * standard input and writes a Heard.
 */
import { existsSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Host } from '../farm/host.js';
import { PATIENCE_MS } from '../patience.js';

export interface Conversation {
  address: string;
  port: number;
  localPort?: number;
  /** Performed in this order. Text is sent as latin1, each piece in a segment of its own. */
  steps: Step[];
  /** Limit for all steps together, in ms. */
  timeoutMs: number;
}

export type Step =
  | {
      send: string;
      /** The text is cut into pieces of this many bytes. */
      pieces?: number;
      /** Pause after each piece, in ms. */
      pauseMs?: number;
    }
  | { waitMs: number }
  /** Waits until this file exists. */
  | { untilFile: string }
  /** Waits until this text has been received so many times since the start (default 1). */
  | { hear: string; times?: number }
  /** Sends FIN (half-close). */
  | { finish: true }
  /** Closes with RST. */
  | { reset: true }
  /** Waits until the other side has closed. */
  | { untilClosed: true };

export interface Heard {
  /** Everything received, as latin1. */
  text: string;
  /** How it ended: 'end' (FIN received), 'open', 'timeout', or an errno name. */
  ending: string;
  localPort: number;
  /** From the start to the end, in ms. */
  elapsedMs: number;
}

const PROGRAM = fileURLToPath(import.meta.url);

/** Runs a scripted TCP conversation from a host of a farm. */
export async function converse(
  host: Host,
  conversation: Conversation,
  timeoutMs = PATIENCE_MS,
): Promise<Heard> {
  const { stdout } = await host.run(process.execPath, [PROGRAM], {
    input: JSON.stringify(conversation),
    timeoutMs,
  });
  return JSON.parse(stdout) as Heard;
}

interface State {
  text: string;
  ending: string;
}

async function until(test: () => boolean): Promise<void> {
  while (!test()) {
    await sleep(5);
  }
}

async function performStep(socket: Socket, step: Step, state: State): Promise<void> {
  if ('send' in step) {
    const bytes = Buffer.from(step.send, 'latin1');
    const size = step.pieces ?? bytes.length;
    for (let at = 0; at < bytes.length && state.ending === 'open'; at += size) {
      await new Promise<void>((resolve) =>
        socket.write(bytes.subarray(at, at + size), () => resolve()),
      );
      // Without a pause the kernel could put two writes into one segment.
      await sleep(step.pauseMs ?? 2);
    }
  } else if ('waitMs' in step) {
    await sleep(step.waitMs);
  } else if ('untilFile' in step) {
    await until(() => state.ending !== 'open' || existsSync(step.untilFile));
  } else if ('hear' in step) {
    const times = step.times ?? 1;
    await until(() => state.ending !== 'open' || state.text.split(step.hear).length - 1 >= times);
  } else if ('finish' in step) {
    socket.end();
  } else if ('reset' in step) {
    socket.resetAndDestroy();
  } else {
    await until(() => state.ending !== 'open');
  }
}

async function perform(conversation: Conversation): Promise<Heard> {
  const began = Date.now();
  const state: State = { text: '', ending: 'open' };
  const socket = connect({
    host: conversation.address,
    port: conversation.port,
    allowHalfOpen: true,
    ...(conversation.localPort === undefined ? {} : { localPort: conversation.localPort }),
  });
  socket.setNoDelay(true);
  socket.on('data', (chunk) => {
    state.text += chunk.toString('latin1');
  });
  socket.on('end', () => {
    state.ending = 'end';
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    state.ending = error.code ?? 'error';
  });
  let localPort = 0;
  const script = async (): Promise<void> => {
    await until(() => !socket.connecting || state.ending !== 'open');
    localPort = socket.localPort ?? 0;
    for (const step of conversation.steps) {
      await performStep(socket, step, state);
    }
  };
  const timer = setTimeout(() => {
    state.ending = 'timeout';
  }, conversation.timeoutMs);
  await Promise.race([script(), until(() => state.ending === 'timeout')]);
  clearTimeout(timer);
  socket.destroy();
  return { text: state.text, ending: state.ending, localPort, elapsedMs: Date.now() - began };
}

if (process.argv[1] === PROGRAM) {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) {
    chunks.push(chunk as Buffer);
  }
  const heard = await perform(JSON.parse(Buffer.concat(chunks).toString()) as Conversation);
  process.stdout.write(`${JSON.stringify(heard)}\n`, () => process.exit(0));
}
