/**
 * A Node.js application with a web server: a program of its own, for a node of a farm.
 *
 *     node app-server.js PORT ROOT ACCESS_LOG RELEASE
 *
 *     GET  any file below ROOT
 *     POST /upload         answers with the SHA-256 of the body
 *     GET  /poll           a long poll: answers when the file RELEASE exists
 *     Upgrade: websocket   sends every message back (RFC 6455; short text messages in one frame)
 */
import { createHash } from 'node:crypto';
import { appendFileSync, createReadStream, existsSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import path from 'node:path';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';

const [port = '80', root = '.', accessLog = '', release = ''] = process.argv.slice(2);

/** RFC 6455 section 1.3. */
const WEBSOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const TEXT_FRAME = 0x81;
const CLOSE_OPCODE = 0x8;
const LONGEST_SHORT_MESSAGE = 125;
const MASKED_HEADER_BYTES = 6;

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://app');
  if (url.pathname === '/upload') {
    const hash = createHash('sha256');
    for await (const chunk of request) hash.update(chunk as Buffer);
    response.end(`${hash.digest('hex')}\n`);
    return;
  }
  if (url.pathname === '/poll') {
    while (!existsSync(release) && !response.destroyed) await sleep(20);
    response.end('released\n');
    return;
  }
  const file = path.join(root, path.normalize(decodeURIComponent(url.pathname)));
  const found = statSync(file, { throwIfNoEntry: false });
  if (found?.isFile() !== true) {
    response.writeHead(404).end('not here\n');
    return;
  }
  response.writeHead(200, { 'content-length': found.size });
  await pipeline(createReadStream(file), response);
}

/** Sends each message in `bytes` back, and returns the bytes of an incomplete one. */
function echo(bytes: Buffer, socket: Duplex): Buffer {
  let rest = bytes;
  while (rest.length >= MASKED_HEADER_BYTES) {
    const length = (rest[1] ?? 0) & 0x7f;
    const frame = MASKED_HEADER_BYTES + length;
    if (length > LONGEST_SHORT_MESSAGE) {
      socket.destroy();
      return Buffer.alloc(0);
    }
    if (rest.length < frame) break;
    const mask = rest.subarray(2, MASKED_HEADER_BYTES);
    const text = Buffer.from(
      rest.subarray(MASKED_HEADER_BYTES, frame).map((byte, at) => byte ^ (mask[at % 4] ?? 0)),
    );
    const opcode = (rest[0] ?? 0) & 0x0f;
    rest = rest.subarray(frame);
    if (opcode === CLOSE_OPCODE) {
      socket.end(Buffer.concat([Buffer.from([0x80 | CLOSE_OPCODE, text.length]), text]));
      break;
    }
    socket.write(Buffer.concat([Buffer.from([TEXT_FRAME, text.length]), text]));
  }
  return rest;
}

const server = createServer((request, response) => {
  response.on('close', () => {
    appendFileSync(
      accessLog,
      `${request.socket.remoteAddress} "${request.method} ${request.url} HTTP/1.1" ${response.statusCode}\n`,
    );
  });
  answer(request, response).catch(() => response.destroy());
});

server.on('upgrade', (request, socket, head) => {
  const key = `${request.headers['sec-websocket-key']}${WEBSOCKET_GUID}`;
  const accept = createHash('sha1').update(key).digest('base64');
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  let rest: Buffer = echo(head, socket);
  socket.on('data', (chunk: Buffer) => {
    rest = echo(Buffer.concat([rest, chunk]), socket);
  });
  socket.on('error', () => socket.destroy());
});

// A long poll may last as long as its test.
server.requestTimeout = 0;
server.listen(Number(port), '0.0.0.0');
