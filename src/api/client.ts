/** A client of the control socket of a running balancer. */
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import type { Static, TSchema } from '@sinclair/typebox';
import { Ajv } from 'ajv';
import { BatonError, reasonOf } from '../base/errors.js';
import { printable } from '../base/text.js';
import type { TapWish } from '../datapath/frame-tap.js';
import {
  ErrorDocument,
  LeaveDocument,
  MOST_ROWS,
  SERVER_HEADER,
  SessionPage,
  type SessionRow,
  StatsDocument,
} from './documents.js';

const ANSWER_TIMEOUT_MS = 5_000;
const STREAM_TYPE = 'application/octet-stream';
/** A page of sessions is much shorter. */
const MOST_ANSWER_BYTES = 16 * 1024 * 1024;

/** Errors when the socket belongs to something other than an HTTP server. */
const STRANGE: ReadonlySet<string> = new Set(['ENOTSOCK', 'EPROTOTYPE', 'ECONNRESET', 'EPIPE']);

/** Errors when no process listens on the socket. */
const ABSENT: ReadonlySet<string> = new Set(['ENOENT', 'ECONNREFUSED', 'ENOTDIR']);

const OTHER_VERSION = 'the balancer may be of another version than this command';

const ajv = new Ajv({ strict: false });

/** The rows of several pages. */
export interface SessionList {
  sessions: SessionRow[];
  /** Sessions in the balancer's table. */
  total: number;
}

/** A stream of records, until one side closes it. */
export interface RecordStream {
  /** Resolves when either side has closed the stream. */
  readonly ended: Promise<void>;
  close(): void;
}

export class ControlClient {
  private readonly path: string;
  private readonly where: string;

  constructor(path: string) {
    this.path = path;
    this.where = `control socket ${printable(path)}`;
  }

  /** @throws BatonError BATON_CONTROL when no balancer answers, or the response is not valid */
  stats(): Promise<StatsDocument> {
    return this.ask('/v1/stats', StatsDocument);
  }

  /** The first `limit` sessions. Throws as `stats` does. */
  async sessions(limit: number): Promise<SessionList> {
    const sessions: SessionRow[] = [];
    let after = 0;
    for (;;) {
      const wanted = Math.min(limit - sessions.length, MOST_ROWS);
      const page: SessionPage = await this.ask(
        `/v1/sessions?limit=${wanted}&after=${after}`,
        SessionPage,
      );
      sessions.push(...page.sessions);
      if (page.next === null || page.next <= after || sessions.length >= limit) {
        return { sessions, total: page.total };
      }
      after = page.next;
    }
  }

  /**
   * Asks the balancer to end and to leave everything in place. False when no balancer is running.
   * Throws as `stats` does.
   */
  async leave(): Promise<boolean> {
    try {
      await this.ask('/v1/leave', LeaveDocument, 'POST');
      return true;
    } catch (error) {
      if (
        error instanceof BatonError &&
        ABSENT.has((error.cause as NodeJS.ErrnoException | undefined)?.code ?? '')
      )
        return false;
      throw error;
    }
  }

  /**
   * Begins a capture of the engine's frames, and resolves when it has begun. `take` gets the stream
   * in pieces.
   * @throws BatonError as `stats` does; BATON_IN_USE while another capture runs
   */
  capture(query: TapWish, take: (bytes: Uint8Array) => void): Promise<RecordStream> {
    const parameters = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) parameters.set(name, String(value));
    }
    return new Promise((resolve, reject) => {
      const call = this.request(`/v1/capture?${parameters}`, 'GET', reject);
      call.once('response', (response) => {
        if (response.statusCode !== 200 || response.headers.server !== SERVER_HEADER) {
          call.destroy();
          reject(this.noCapture(response));
          return;
        }
        const ended = new Promise<void>((end) => response.once('close', end));
        response.on('error', () => {});
        response.on('data', take);
        resolve({ ended, close: () => call.destroy() });
      });
      call.end();
    });
  }

  private noCapture({ statusCode, headers }: IncomingMessage): BatonError {
    const { where } = this;
    if (headers.server !== SERVER_HEADER) return this.notBaton();
    if (statusCode === 409) {
      return new BatonError('BATON_IN_USE', 'another capture is running there', {
        where,
        hint: 'end it first',
      });
    }
    return new BatonError('BATON_CONTROL', `the balancer answered ${statusCode}`, {
      where,
      hint: OTHER_VERSION,
    });
  }

  private async ask<Schema extends TSchema>(
    target: string,
    schema: Schema,
    method = 'GET',
  ): Promise<Static<Schema>> {
    const answer = await this.call(target, method);
    let document: unknown;
    try {
      document = JSON.parse(answer.body);
    } catch {
      throw this.notBaton();
    }
    if (answer.server !== SERVER_HEADER) throw this.notBaton();
    if (answer.status !== 200) {
      const said = ajv.validate<ErrorDocument>(ErrorDocument, document)
        ? printable(document.error.message)
        : '';
      throw new BatonError(
        'BATON_CONTROL',
        `the balancer answered ${answer.status} ${said}`.trim(),
        {
          where: this.where,
        },
      );
    }
    if (!ajv.validate<Static<Schema>>(schema, document)) {
      throw new BatonError('BATON_CONTROL', `the response is not valid: ${ajv.errorsText()}`, {
        where: this.where,
        hint: OTHER_VERSION,
      });
    }
    return document;
  }

  private notBaton(): BatonError {
    return new BatonError('BATON_CONTROL', 'the process that answers is not Baton', {
      where: this.where,
    });
  }

  private call(
    target: string,
    method: string,
  ): Promise<{ status: number; server: string; body: string }> {
    return new Promise((resolve, reject) => {
      const call = this.request(target, method, reject);
      const fail = (error: unknown): void => reject(this.explain(error));
      call.once('response', (response) => {
        const chunks: Buffer[] = [];
        let length = 0;
        response.on('data', (chunk: Buffer) => {
          length += chunk.length;
          if (length > MOST_ANSWER_BYTES) call.destroy(new Error('the response is too long'));
          else chunks.push(chunk);
        });
        response.once('error', fail);
        response.once('end', () => {
          const body = Buffer.concat(chunks).toString('utf8');
          resolve({
            status: response.statusCode ?? 0,
            server: String(response.headers.server),
            body,
          });
        });
      });
      call.end();
    });
  }

  /**
   * Makes a call. `reject` gets its failure, and also a timeout: the whole response must arrive in
   * time, except for the stream of a capture.
   */
  private request(
    target: string,
    method: string,
    reject: (error: BatonError) => void,
  ): ClientRequest {
    const call = request({ socketPath: this.path, path: target, method, agent: false });
    const deadline = setTimeout(() => {
      call.destroy(
        Object.assign(new Error(`no answer within ${ANSWER_TIMEOUT_MS / 1000} s`), {
          code: 'SILENT',
        }),
      );
    }, ANSWER_TIMEOUT_MS);
    call.once('response', (response) => {
      if (response.headers['content-type'] === STREAM_TYPE) clearTimeout(deadline);
      else response.once('end', () => clearTimeout(deadline));
    });
    call.once('close', () => clearTimeout(deadline));
    call.on('error', (error) => reject(this.explain(error)));
    return call;
  }

  private explain(error: unknown): BatonError {
    const { where } = this;
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (ABSENT.has(code)) {
      return new BatonError('BATON_CONTROL', 'no balancer is running there', {
        where,
        hint: 'name its config with -c, or its socket with --socket',
        cause: error,
      });
    }
    if (code === 'EACCES' || code === 'EPERM') {
      return new BatonError('BATON_PRIVILEGE', 'permission denied', {
        where,
        hint: 'run this command as the user of the balancer, usually root',
        cause: error,
      });
    }
    if (code.startsWith('HPE_') || STRANGE.has(code)) return this.notBaton();
    return new BatonError('BATON_CONTROL', printable(reasonOf(error)), { where, cause: error });
  }
}
