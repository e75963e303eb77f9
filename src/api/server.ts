/**
 * The server of the control socket: a small HTTP service on a Unix socket. `baton stats`, `baton
 * sessions` and scripts use it.
 */
import { accessSync, chmodSync, constants, lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { createConnection } from 'node:net';
import { dirname } from 'node:path';
import type { Readable } from 'node:stream';
import Fastify, { type FastifyInstance } from 'fastify';
import { BatonError, reasonOf } from '../base/errors.js';
import { printable } from '../base/text.js';
import type { TapWish } from '../datapath/frame-tap.js';
import {
  CaptureQuery,
  ErrorDocument,
  LeaveDocument,
  METRICS_TYPE,
  SERVER_HEADER,
  SessionPage,
  SessionQuery,
  StatsDocument,
} from './documents.js';

/** The source of the answers: the balancer. */
export interface StatsSource {
  stats(): Promise<StatsDocument>;
  /** At most `limit` sessions, in slots from `after` on. */
  sessions(after: number, limit: number): Promise<SessionPage>;
  /** The text of `/metrics`, for Prometheus. */
  metrics?(): Promise<string>;
}

/** The source of a capture's frames: the engine threads. */
export interface FrameSource {
  /**
   * A stream of records (wire/tap-record.ts), until it is destroyed. Undefined while another one is
   * open.
   */
  open(wish: TapWish): Promise<Readable | undefined>;
}

/** Generous, because clients are local and trusted. It ends the connection of one that hangs. */
const REQUEST_TIMEOUT_MS = 10_000;
const MOST_BODY_BYTES = 64 * 1024;
/** How long to wait for an answer on a socket that exists already, in ms. */
const PROBE_MS = 1_000;
/** A umask: only the owner may open the socket. */
const OWNER_ONLY = 0o077;

export class ControlApi {
  private readonly app: FastifyInstance;
  /** Streams of captures, whose responses have no end. */
  private readonly streams = new Set<Readable>();

  /**
   * @param leave makes the balancer end and leave everything in place
   * @param feed the engine's part of captures
   */
  constructor(source: StatsSource, leave?: () => void, feed?: FrameSource) {
    this.app = Fastify({
      logger: false,
      bodyLimit: MOST_BODY_BYTES,
      requestTimeout: REQUEST_TIMEOUT_MS,
      forceCloseConnections: true,
      // By default, ajv removes unknown query keys silently.
      ajv: { customOptions: { removeAdditional: false, coerceTypes: true } },
    });
    const { app } = this;
    app.addHook('onRequest', async (_request, reply) => {
      reply.header('server', SERVER_HEADER).header('cache-control', 'no-store');
    });
    app.get(
      '/v1/stats',
      { schema: { response: { 200: StatsDocument, '4xx': ErrorDocument } } },
      () => source.stats(),
    );
    app.get<{ Querystring: SessionQuery }>(
      '/v1/sessions',
      {
        schema: { querystring: SessionQuery, response: { 200: SessionPage, '4xx': ErrorDocument } },
      },
      (request) => source.sessions(request.query.after, request.query.limit),
    );
    // Without a version in the path: scrapers expect it so.
    if (source.metrics !== undefined) {
      const { metrics } = source;
      app.get('/metrics', async (_request, reply) =>
        reply.type(METRICS_TYPE).send(await metrics.call(source)),
      );
    }
    if (feed !== undefined) {
      app.get<{ Querystring: CaptureQuery }>(
        '/v1/capture',
        { schema: { querystring: CaptureQuery, response: { '4xx': ErrorDocument } } },
        async (request, reply) => {
          const frames = await feed.open(request.query);
          if (frames === undefined) {
            const error = { code: 'BATON_IN_USE', message: 'another capture is running' };
            return reply.code(409).send({ error });
          }
          this.streams.add(frames.once('close', () => this.streams.delete(frames)));
          // The client may have gone meanwhile.
          if (request.socket.destroyed) frames.destroy();
          return reply.type('application/octet-stream').send(frames);
        },
      );
    }
    if (leave !== undefined) {
      const schema = { response: { 200: LeaveDocument, '4xx': ErrorDocument } };
      // Only after the response has been sent: leaving closes this socket.
      app.post('/v1/leave', { schema, onResponse: async () => leave() }, () => ({ leaving: true }));
    }
    app.setNotFoundHandler((request, reply) => {
      const message = `nothing at ${request.method} ${printable(request.url)}`;
      reply.code(404).send({ error: { code: 'BATON_UNKNOWN', message } });
    });
    app.setErrorHandler(
      (error: Error & { statusCode?: number; code?: string }, _request, reply) => {
        const status =
          error.statusCode !== undefined && error.statusCode >= 400 ? error.statusCode : 500;
        const code = status < 500 ? 'BATON_REQUEST' : 'BATON_SYSTEM';
        reply.code(status).send({ error: { code, message: printable(error.message) } });
      },
    );
  }

  /**
   * Listens on `path`, which only its owner can open. Replaces the socket of a dead process.
   * @throws BatonError BATON_IN_USE when a process listens there, or the path is not a socket;
   *   BATON_CONTROL when the socket cannot be created
   */
  async start(path: string): Promise<void> {
    const where = `control socket ${printable(path)}`;
    await this.app.ready();
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      await makeWay(path, where);
      // The socket is bound within this call, so the mask does not affect other files.
      const mask = process.umask(OWNER_ONLY);
      let listening: Promise<void>;
      try {
        listening = new Promise((resolve, reject) => {
          this.app.server.once('error', reject);
          this.app.server.listen(path, () => {
            this.app.server.off('error', reject);
            resolve();
          });
        });
      } finally {
        process.umask(mask);
      }
      await listening;
      chmodSync(path, 0o600);
    } catch (error) {
      if (error instanceof BatonError) throw error;
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'EADDRINUSE') throw inUse(where);
      throw new BatonError('BATON_CONTROL', `cannot be created: ${reasonOf(error)}`, {
        where,
        cause: error,
      });
    }
  }

  /** Stops the server and removes the socket. */
  async stop(): Promise<void> {
    // close() would wait for them.
    for (const stream of this.streams) stream.destroy();
    await this.app.close();
  }
}

/**
 * Checks that a control socket can be created at `path`. Changes nothing there.
 * @param replace a balancer that answers there will leave
 * @throws BatonError as `ControlApi.start` does
 */
export async function requireSocketPlace(path: string, replace: boolean): Promise<void> {
  const where = `control socket ${printable(path)}`;
  try {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found !== undefined && !found.isSocket()) throw notASocket(where);
    if (found !== undefined && !replace && (await answers(path))) throw inUse(where);
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    accessSync(dirname(path), constants.W_OK | constants.X_OK);
  } catch (error) {
    if (error instanceof BatonError) throw error;
    throw new BatonError('BATON_CONTROL', `cannot be created: ${reasonOf(error)}`, {
      where,
      cause: error,
    });
  }
}

function notASocket(where: string): BatonError {
  return new BatonError('BATON_IN_USE', 'exists already, and is not a socket', { where });
}

function inUse(where: string): BatonError {
  return new BatonError('BATON_IN_USE', 'another balancer uses it', {
    where,
    hint: 'stop that balancer, or set another controlSocket for this one',
  });
}

/** Removes a socket on which no process listens. Throws for anything else. */
async function makeWay(path: string, where: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw notASocket(where);
  if (await answers(path)) throw inUse(where);
  unlinkSync(path);
}

/** Whether a process has the socket open, even if it does not respond. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path });
    const settle = (result: boolean): void => {
      socket.destroy();
      resolve(result);
    };
    socket.setTimeout(PROBE_MS, () => settle(true));
    socket.once('connect', () => settle(true));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      socket.destroy();
      // EAGAIN: the queue of connections is full, so a process listens.
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
      else if (error.code === 'EAGAIN') resolve(true);
      else reject(error);
    });
  });
}
