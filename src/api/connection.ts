/** Calls to a control socket, and what is wrong when there is no proper answer. */
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { Ajv } from 'ajv';
import { BatonError, ERROR_CODES, type ErrorCode, reasonOf } from '../base/errors.js';
import { printable } from '../base/text.js';
import { ErrorDocument, SERVER_HEADER } from './documents.js';

/** How long most answers may take, ms. */
export const ANSWER_TIMEOUT_MS = 5_000;
/** Responses of these types have no end. */
const STREAM_TYPES: readonly string[] = ['application/octet-stream', 'text/event-stream'];
/** A page of sessions is much shorter; the text of a large config is longer. */
const MOST_ANSWER_BYTES = 64 * 1024 * 1024;

/** Errors when the socket belongs to something other than an HTTP server. */
const STRANGE: ReadonlySet<string> = new Set(['ENOTSOCK', 'EPROTOTYPE', 'ECONNRESET', 'EPIPE']);

/** Errors when no process listens on the socket. */
const ABSENT: ReadonlySet<string> = new Set(['ENOENT', 'ECONNREFUSED', 'ENOTDIR']);

export const OTHER_VERSION = 'the balancer may be of another version than this command';

export const ajv = new Ajv({ strict: false });
ajv.addFormat('ip-unicast', true).addFormat('ip-host', true);

export interface CallOptions {
  method?: string;
  body?: object;
  /** Until the whole response must be there, ms. */
  timeout?: number;
  headers?: Record<string, string>;
}

/** A stream of records, until one side closes it. */
export interface RecordStream {
  /** Resolves when either side has closed the stream. */
  readonly ended: Promise<void>;
  close(): void;
}

/** Whether the error says that no balancer is running. */
export function isAbsent(error: unknown): boolean {
  const cause = error instanceof BatonError ? error.cause : undefined;
  return ABSENT.has((cause as NodeJS.ErrnoException | undefined)?.code ?? '');
}

export class ControlConnection {
  private readonly path: string;
  readonly where: string;

  /** @param path of the control socket */
  constructor(path: string) {
    this.path = path;
    this.where = `control socket ${printable(path)}`;
  }

  /**
   * The document of a response.
   * @throws BatonError the error that the balancer answered; BATON_CONTROL when no balancer
   *   answers, or nothing that can be understood
   */
  async document(target: string, options: CallOptions = {}): Promise<unknown> {
    return this.read(await this.collect(target, options));
  }

  /**
   * Opens a response without an end. `take` gets it in pieces. Throws as `document` does.
   */
  stream(
    target: string,
    take: (bytes: Uint8Array) => void,
    options: CallOptions = {},
  ): Promise<RecordStream> {
    return new Promise((resolve, reject) => {
      const call = this.request(target, options, reject);
      call.once('response', (response) => {
        const isStream = STREAM_TYPES.includes(response.headers['content-type'] ?? '');
        if (response.statusCode !== 200 || !isStream) {
          gather(response, call)
            .then((body) => this.read(body))
            .then(
              () => reject(this.notUnderstood('the response is not a stream')),
              (error) => reject(this.explain(error)),
            );
          return;
        }
        if (response.headers.server !== SERVER_HEADER) {
          call.destroy();
          reject(this.notBaton());
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

  /** For a response that is not valid. */
  notUnderstood(message: string): BatonError {
    return new BatonError('BATON_CONTROL', message, { where: this.where, hint: OTHER_VERSION });
  }

  private notBaton(): BatonError {
    return new BatonError('BATON_CONTROL', 'the process that answers is not Baton', {
      where: this.where,
    });
  }

  private read({ status, server, body }: Answer): unknown {
    let document: unknown;
    try {
      document = JSON.parse(body);
    } catch {
      throw this.notBaton();
    }
    if (server !== SERVER_HEADER) throw this.notBaton();
    if (status >= 200 && status < 300) return document;
    if (!ajv.validate<ErrorDocument>(ErrorDocument, document)) {
      throw this.notUnderstood(`the balancer answered ${status}`);
    }
    const { code, message, where, hint } = document.error;
    const known = (ERROR_CODES as readonly string[]).includes(code);
    throw new BatonError(known ? (code as ErrorCode) : 'BATON_CONTROL', message, {
      ...(where === undefined ? {} : { where }),
      ...(hint === undefined ? {} : { hint }),
    });
  }

  private collect(target: string, options: CallOptions): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const call = this.request(target, options, reject);
      call.once('response', (response) => {
        gather(response, call).then(resolve, (error) => reject(this.explain(error)));
      });
      call.end(options.body === undefined ? undefined : JSON.stringify(options.body));
    });
  }

  /**
   * Makes a call. `reject` gets its failure, and also a timeout: the whole response must arrive in
   * time, except for a stream.
   */
  private request(
    target: string,
    { method = 'GET', body, headers, timeout = ANSWER_TIMEOUT_MS }: CallOptions,
    reject: (error: BatonError) => void,
  ): ClientRequest {
    const call = request({
      socketPath: this.path,
      path: target,
      method,
      agent: false,
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
    });
    const deadline = setTimeout(() => {
      call.destroy(
        Object.assign(new Error(`no answer within ${timeout / 1000} s`), { code: 'SILENT' }),
      );
    }, timeout);
    call.once('response', (response) => {
      if (STREAM_TYPES.includes(response.headers['content-type'] ?? '')) clearTimeout(deadline);
      else response.once('end', () => clearTimeout(deadline));
    });
    call.once('close', () => clearTimeout(deadline));
    call.on('error', (error) => reject(this.explain(error)));
    return call;
  }

  private explain(error: unknown): BatonError {
    if (error instanceof BatonError) return error;
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

interface Answer {
  status: number;
  server: string;
  body: string;
}

function gather(response: IncomingMessage, call: ClientRequest): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    response.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > MOST_ANSWER_BYTES) call.destroy(new Error('the response is too long'));
      else chunks.push(chunk);
    });
    response.once('error', reject);
    response.once('end', () => {
      resolve({
        status: response.statusCode ?? 0,
        server: String(response.headers.server),
        body: Buffer.concat(chunks).toString('utf8'),
      });
    });
  });
}
