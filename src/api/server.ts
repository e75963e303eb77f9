/**
 * The API of a running balancer: an HTTP service on a unix socket, and over TLS if the config wants
 * it. The command line and scripts use it. The calls are in routes/.
 */
import type { Server } from 'node:https';
import type { FastifyInstance } from 'fastify';
import type { PlainLog } from '../base/log.js';
import type { ApiConfig } from '../config/load.js';
import { LOCAL_ACCESS } from './access.js';
import { buildApp } from './app.js';
import type { Control } from './control.js';
import { ApiCounters } from './counters.js';
import { type Prepared, RemoteApi } from './remote.js';
import { allRoutes } from './routes/index.js';
import { OpenStreams } from './streams.js';
import { listenOnSocket } from './unix-socket.js';

export interface ApiOptions {
  /** For calls that are refused. Default: none. */
  log?: PlainLog;
  /** Counts what callers do. Default: nobody reads it. */
  counters?: ApiCounters;
  /** Interval of the comments in event streams, ms. */
  heartbeat?: number;
}

const SILENT: PlainLog = { warn: () => {}, info: () => {} };

export class ControlApi {
  private readonly streams = new OpenStreams();
  private readonly local: FastifyInstance<Server>;
  private readonly remote: RemoteApi;

  /** @param control what it can do: a call exists if its function does */
  constructor(
    control: Partial<Control>,
    { log = SILENT, counters = new ApiCounters(), heartbeat }: ApiOptions = {},
  ) {
    const { streams } = this;
    const routes = allRoutes({
      control,
      streams,
      counters,
      ...(heartbeat === undefined ? {} : { heartbeat }),
    });
    this.local = buildApp(routes, LOCAL_ACCESS);
    this.remote = new RemoteApi({ routes, streams, counters, log });
  }

  /** Listens on the unix socket `path`. Throws as `listenOnSocket` does. */
  async start(path: string): Promise<void> {
    await this.local.ready();
    await listenOnSocket(this.local.server, path);
  }

  /** Gets ready to listen over TLS with these options, or not at all. See `RemoteApi.prepare`. */
  prepareRemote(options: ApiConfig | undefined): Promise<Prepared> {
    return this.remote.prepare(options);
  }

  /** Stops both servers and removes the socket. */
  async stop(): Promise<void> {
    // close() would wait for them.
    this.streams.close();
    await this.remote.stop();
    await this.local.close();
  }
}
