/**
 * A client that makes requests in a row on one connection: a program of its own, for a client of a
 * farm.
 *
 *     node kept-alive.js ADDRESS < REQUESTS        a JSON array of KeptAliveRequest
 *
 * It prints KeptAliveResult as JSON. It uses Node's own HTTP client, so a request is sent when the
 * answer before it has ended.
 */
import { createHash } from 'node:crypto';
import { Agent, request as httpRequest } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Host } from '../farm/host.js';

export interface KeptAliveRequest {
  path: string;
  /** Default: GET. */
  method?: string;
  headers?: Record<string, string>;
  /** Bytes of a body that consists of the letter "b". */
  body?: number;
  /** Wait this long before the request, in ms. */
  wait?: number;
}

export interface KeptAliveAnswer {
  status: number;
  bytes: number;
  /** Of the body, in hexadecimal. */
  sha256: string;
  /** Set in place of all others when there was no answer. */
  error?: string;
}

export interface KeptAliveResult {
  /** Connections that were used, in all. */
  connections: number;
  answers: KeptAliveAnswer[];
}

/** Runs the program on a client of a farm. */
export async function keptAlive(
  client: Host,
  address: string,
  requests: readonly KeptAliveRequest[],
  timeoutMs?: number,
): Promise<KeptAliveResult> {
  const { stdout } = await client.run(process.execPath, [fileURLToPath(import.meta.url), address], {
    input: JSON.stringify(requests),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  });
  return JSON.parse(stdout) as KeptAliveResult;
}

function ask(agent: Agent, host: string, request: KeptAliveRequest): Promise<KeptAliveAnswer> {
  const { method = 'GET', path, headers = {}, body } = request;
  const length = body === undefined ? {} : { 'content-length': String(body) };
  return new Promise((resolve) => {
    const failed = (error: Error): void =>
      resolve({ status: 0, bytes: 0, sha256: '', error: error.message });
    const outgoing = httpRequest(
      { agent, host, method, path, headers: { ...headers, ...length } },
      (incoming) => {
        const hash = createHash('sha256');
        let bytes = 0;
        incoming.on('data', (part: Buffer) => {
          bytes += part.length;
          hash.update(part);
        });
        incoming.on('error', failed);
        incoming.on('end', () =>
          resolve({ status: incoming.statusCode ?? 0, bytes, sha256: hash.digest('hex') }),
        );
      },
    );
    outgoing.on('error', failed);
    outgoing.end(body === undefined ? undefined : Buffer.alloc(body, 'b'));
  });
}

async function main(host: string): Promise<void> {
  let text = '';
  for await (const part of process.stdin.setEncoding('utf8')) text += part;
  const requests = JSON.parse(text) as KeptAliveRequest[];
  const agent = new Agent({ keepAlive: true, maxSockets: 1, maxFreeSockets: 1 });
  const sockets = new Set<Socket>();
  agent.on('free', (socket: Socket) => sockets.add(socket));
  const answers: KeptAliveAnswer[] = [];
  for (const request of requests) {
    if (request.wait !== undefined) await sleep(request.wait);
    answers.push(await ask(agent, host, request));
    // The agent takes the connection back in a later turn.
    await sleep(0);
  }
  const result: KeptAliveResult = { connections: sockets.size, answers };
  agent.destroy();
  process.stdout.write(JSON.stringify(result));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv[2] ?? '');
