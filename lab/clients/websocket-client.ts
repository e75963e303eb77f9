/**
 * A WebSocket client that keeps talking: a program of its own, for the namespace of a farm's
 * client.
 *
 *     node websocket-client.js URL PROGRESS STOP
 *
 * Sends a numbered message, waits for its echo, writes how many came back into the file PROGRESS,
 * and goes on, until there is a file STOP. Then it closes, and prints a Talk.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Talk {
  /** Messages that came back as they were sent. */
  echoed: number;
  /** The longest time from a message to its echo, in ms. */
  longestMs: number;
  /** Of the close frame: 1000 is an orderly end (RFC 6455 section 7.4.1). */
  closeCode: number;
}

const PAUSE_MS = 20;
const NORMAL_CLOSURE = 1000;

const [url = '', progress = '', stop = ''] = process.argv.slice(2);
const socket = new WebSocket(url);
const talk: Talk = { echoed: 0, longestMs: 0, closeCode: 0 };
const closed = new Promise<void>((resolve) => {
  socket.addEventListener('close', (event) => {
    talk.closeCode = event.code;
    resolve();
  });
});
let heard: (text: string) => void = () => {};
socket.addEventListener('message', (event) => heard(String(event.data)));

async function converse(): Promise<void> {
  while (!existsSync(stop)) {
    const sent = `message ${talk.echoed}`;
    const began = performance.now();
    const echo = new Promise<string>((resolve) => {
      heard = resolve;
    });
    socket.send(sent);
    if ((await echo) !== sent) throw new Error(`sent ${sent}, heard ${await echo}`);
    talk.longestMs = Math.max(talk.longestMs, performance.now() - began);
    talk.echoed += 1;
    writeFileSync(progress, String(talk.echoed));
    await sleep(PAUSE_MS);
  }
  socket.close(NORMAL_CLOSURE);
}

socket.addEventListener('open', () => {
  converse().catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
});
await closed;
process.stdout.write(`${JSON.stringify(talk)}\n`);
