/**
 * A WebSocket client that keeps sending: a program of its own, for the namespace of a farm's
 * client.
 *
 *     node websocket-client.js URL PROGRESS STOP
 *
 * It sends a numbered message, waits for the echo, writes the number of echoes into the file
 * PROGRESS, and goes on until the file STOP exists. Then it closes and prints a Talk.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Talk {
  /** Messages that came back unchanged. */
  echoed: number;
  /** The longest time from a message to its echo, in ms. */
  longestMs: number;
  /** Code of the close frame: 1000 is an orderly end (RFC 6455 section 7.4.1). */
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
