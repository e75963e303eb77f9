/**
 * The HTTP listener for Prometheus, at `metrics.listen` of the config: `GET /metrics` and nothing
 * else. Everyone who reaches the address may read; the listener has no rights. Each connection
 * carries one request and ends after it, at the latest after CONNECTION_MS.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { METRICS_TYPE, SERVER_HEADER } from '../../api/documents.js';
import { listen } from '../../api/listen.js';
import { reasonOf } from '../../base/errors.js';
import type { Endpoint } from '../../wire/address.js';

/** Longest life of a connection, in ms. Prometheus gives a scrape 10 s as well. */
const CONNECTION_MS = 10_000;
/** Connections at one time; more are closed at once. */
const MOST_CONNECTIONS = 8;
const PATH = '/metrics';

export class MetricsServer {
  private readonly server: Server;
  private readonly text: () => Promise<string>;
  private readonly sockets = new Set<Socket>();

  private constructor(text: () => Promise<string>, connectionMs: number) {
    this.text = text;
    this.server = createServer((request, response) => void this.answer(request, response));
    this.server.maxConnections = MOST_CONNECTIONS;
    this.server.on('connection', (socket) => this.bound(socket, connectionMs));
  }

  /**
   * @param text makes the text of `/metrics`
   * @param connectionMs longest life of a connection; tests may set it
   * @throws BatonError as `listen`
   */
  static async start(
    endpoint: Endpoint,
    text: () => Promise<string>,
    connectionMs = CONNECTION_MS,
  ): Promise<MetricsServer> {
    const metrics = new MetricsServer(text, connectionMs);
    await listen(metrics.server, endpoint, 'metrics.listen');
    return metrics;
  }

  /** The port where it listens; for a config that leaves the choice to the kernel. */
  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  /** Stops listening and ends every connection. */
  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    for (const socket of this.sockets) socket.destroy();
    await closed;
  }

  /** Ends the connection of a client that is slow or silent. */
  private bound(socket: Socket, ms: number): void {
    const timer = setTimeout(() => socket.destroy(), ms);
    this.sockets.add(socket);
    socket.once('close', () => {
      clearTimeout(timer);
      this.sockets.delete(socket);
    });
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setHeader('server', SERVER_HEADER);
    response.setHeader('connection', 'close');
    const path = (request.url ?? '').split('?', 1)[0];
    if (path !== PATH) {
      end(response, 404, `there is only ${PATH} here\n`);
    } else if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      end(response, 405, 'only GET and HEAD are allowed\n');
    } else {
      try {
        end(response, 200, await this.text(), METRICS_TYPE);
      } catch (error) {
        end(response, 503, `no metrics at the moment: ${reasonOf(error)}\n`);
      }
    }
  }
}

function end(response: ServerResponse, status: number, text: string, type = 'text/plain'): void {
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(text) });
  response.end(text);
}
