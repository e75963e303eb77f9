/** The API over TLS: its listener, certificate and tokens, which can be replaced while it runs. */
import type { Server } from 'node:https';
import type { FastifyInstance } from 'fastify';
import type { PlainLog } from '../base/log.js';
import type { ApiConfig } from '../config/load.js';
import { type Endpoint, formatEndpoint } from '../wire/address.js';
import { TokenAccess } from './access.js';
import { buildApp } from './app.js';
import { type Certificate, OLDEST_TLS } from './certificate.js';
import type { ApiCounters } from './counters.js';
import { listen } from './listen.js';
import type { Route } from './routes/route.js';
import { readSecrets, type Secrets } from './secrets.js';
import type { OpenStreams } from './streams.js';

/** A change that is ready: everything that can fail has been done. */
export interface Prepared {
  /** About the certificate, a line each. They are in the log already. */
  readonly warnings: readonly string[];
  commit(): Promise<void>;
  abandon(): Promise<void>;
}

export interface RemoteParts {
  routes: readonly Route[];
  streams: OpenStreams;
  counters: ApiCounters;
  log: PlainLog;
}

const MOST_CONNECTIONS = 256;
const HANDSHAKE_TIMEOUT_MS = 5_000;
/** How long calls may go on after their listener was closed, ms. */
const GRACE_MS = 2_000;

/** A listener that works. */
interface Door {
  options: ApiConfig;
  app: FastifyInstance<Server>;
  access: TokenAccess;
}

export class RemoteApi {
  private readonly parts: RemoteParts;
  private door: Door | undefined;
  /** Doors that listen no longer, and close after GRACE_MS. */
  private readonly retired = new Map<Door, NodeJS.Timeout>();

  constructor(parts: RemoteParts) {
    this.parts = parts;
  }

  /**
   * Gets ready for new options: reads the files, and listens if the address is a new one. What runs
   * stays as it is until `commit`.
   * @param options undefined: no API over TLS
   * @throws BatonError BATON_CERTIFICATE, BATON_TOKEN; BATON_IN_USE when the port is taken;
   *   BATON_SYSTEM when it is not possible to listen there
   */
  async prepare(options: ApiConfig | undefined): Promise<Prepared> {
    const old = this.door;
    if (options === undefined) {
      return { warnings: [], commit: () => this.replace(undefined), abandon: async () => {} };
    }
    const secrets = readSecrets(options);
    const { warnings } = secrets.certificate;
    for (const warning of warnings) this.parts.log.warn(warning);
    if (old !== undefined && sameEndpoint(old.options.listen, options.listen)) {
      return {
        warnings,
        commit: async () => {
          old.options = options;
          this.renew(old, secrets);
        },
        abandon: async () => {},
      };
    }
    const door = await this.open(options, secrets);
    return { warnings, commit: () => this.replace(door), abandon: () => door.app.close() };
  }

  async stop(): Promise<void> {
    const doors = [...this.retired.keys(), ...(this.door === undefined ? [] : [this.door])];
    for (const timer of this.retired.values()) clearTimeout(timer);
    this.retired.clear();
    this.door = undefined;
    for (const { app } of doors) await app.close();
  }

  /** New connections get the new certificate. A stream ends when its token is gone. */
  private renew(door: Door, { certificate, tokens }: Secrets): void {
    door.app.server.setSecureContext(contextOf(certificate));
    door.access.tokens = tokens;
    this.parts.streams.close(({ token }) => token !== undefined && !tokens.has(token));
  }

  private async replace(door: Door | undefined): Promise<void> {
    const old = this.door;
    this.door = door;
    // close() would wait for streams.
    this.parts.streams.close(({ token }) => token !== undefined);
    if (old !== undefined) this.retire(old);
  }

  /** Listens no longer. A call that is under way gets its answer: it may have asked for this. */
  private retire(door: Door): void {
    door.app.server.close();
    const timer = setTimeout(() => {
      this.retired.delete(door);
      void door.app.close();
    }, GRACE_MS);
    this.retired.set(door, timer);
  }

  private async open(options: ApiConfig, secrets: Secrets): Promise<Door> {
    const { routes, counters, log } = this.parts;
    const access = new TokenAccess(secrets.tokens, counters, log);
    const app = buildApp(routes, access, {
      ...contextOf(secrets.certificate),
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    });
    await app.ready();
    app.server.maxConnections = MOST_CONNECTIONS;
    app.server.on('drop', () => counters.add('api_connection_refused'));
    await listen(app.server, options.listen, 'api.listen');
    log.info(`API at https://${formatEndpoint(options.listen)}`);
    return { options, app, access };
  }
}

function contextOf({ cert, key }: Certificate) {
  return { cert, key, minVersion: OLDEST_TLS } as const;
}

function sameEndpoint(one: Endpoint, other: Endpoint): boolean {
  return one.address === other.address && one.port === other.port;
}
