/** A balancer that remembers what the API asks of it, and answers with fixed documents. */
import type { Readable } from 'node:stream';
import type { Change, Control, NumberedEvent } from '../../src/api/control.js';
import type {
  ChangeReport,
  ConfigDocument,
  ExplainDocument,
  ExplainQuery,
  NodeDocument,
  NodesDocument,
  ResourcePage,
  SaveDocument,
  SessionPage,
  StatsDocument,
  VirtualServerDocument,
  VirtualServersDocument,
} from '../../src/api/documents.js';
import { unknownName } from '../../src/api/errors.js';
import { statsAt } from './even-stats.js';

export const NODE: NodeDocument = {
  name: 'n1',
  address: '10.99.0.3',
  mac: '02:00:00:00:00:01',
  weight: 2,
  state: 'draining',
  by: 'alice',
  why: 'new disk',
  since: 1_700_000_000_000,
  condition: 'up',
  sources: [
    { source: 'operator', state: 'draining', by: 'alice', why: 'new disk', since: 1_000 },
    { source: 'balancer', state: 'up', by: 'balancer', why: '', since: 0 },
  ],
  active: 2,
  held: 3,
  adopted: 7,
  lastReportMs: 400,
};

export const SERVER: VirtualServerDocument = {
  name: 'www',
  address: '10.99.0.100',
  port: 80,
  predictor: 'round-robin',
  state: 'up',
  active: 2,
  held: 3,
};

export const EXPLANATION: ExplainDocument = {
  virtualServer: 'www',
  predictor: 'round-robin',
  lookedUp: { host: 'www.example.org', path: '/', protocols: null },
  resource: { host: null, path: '/', alpn: null, hostMatch: 'any', pathMatch: 'prefix', nodes: [] },
  next: [],
  rewritten: null,
  thread: { number: 0, of: 1, known: true },
  candidates: [],
  chosen: null,
  answer: 503,
  alert: null,
  why: 'no holder takes sessions',
};

export class FakeControl implements Control {
  /** The changes with their actors, in order. */
  changes: { change: Change; actor: string }[] = [];
  saves: { force?: boolean }[] = [];
  queries: ExplainQuery[] = [];
  report: ChangeReport = { changed: ['node n1: weight 2, was 1'], generation: 2 };
  left = 0;
  configDocument: ConfigDocument = { text: 'nodes: []\n', file: '/etc/b.yaml', saved: true };
  /** Set it to make every call fail. */
  error: Error | undefined;
  readonly listeners = new Set<(event: NumberedEvent) => void>();
  /** What listeners said that they have seen. */
  readonly seen: (string | undefined)[] = [];

  private answer<Document>(document: Document): Promise<Document> {
    return this.error === undefined ? Promise.resolve(document) : Promise.reject(this.error);
  }

  stats(): Promise<StatsDocument> {
    return this.answer(statsAt(10));
  }

  metrics(): Promise<string> {
    return this.answer('baton_up 1\n');
  }

  sessions(): Promise<SessionPage> {
    return this.answer({ sessions: [], total: 0, next: null });
  }

  capture(): Promise<Readable | undefined> {
    return this.answer(undefined);
  }

  leave(): void {
    this.left += 1;
  }

  nodes(): Promise<NodesDocument> {
    return this.answer({ nodes: [NODE] });
  }

  node(name: string): Promise<NodeDocument> {
    if (name !== NODE.name) throw unknownName('node', name, [NODE.name]);
    return this.answer(NODE);
  }

  virtualServers(): Promise<VirtualServersDocument> {
    return this.answer({ virtualServers: [SERVER] });
  }

  virtualServer(name: string): Promise<VirtualServerDocument> {
    if (name !== SERVER.name) throw unknownName('virtual server', name, [SERVER.name]);
    return this.answer(SERVER);
  }

  resources(after: number, limit: number): Promise<ResourcePage> {
    const path = `/${after}/${limit}`;
    const resources = [
      { host: null, path, nodes: ['n1'], state: 'down' as const, up: 0, requests: 7 },
    ];
    return this.answer({ resources, total: 2, next: after === 0 ? 1 : null });
  }

  change(change: Change, actor: string): Promise<ChangeReport> {
    this.changes.push({ change, actor });
    return this.answer(this.report);
  }

  config(): Promise<ConfigDocument> {
    return this.answer(this.configDocument);
  }

  saveConfig(options: { force?: boolean }): Promise<SaveDocument> {
    this.saves.push(options);
    return this.answer({ file: '/etc/b.yaml', written: true });
  }

  explain(query: ExplainQuery): Promise<ExplainDocument> {
    this.queries.push(query);
    return this.answer(EXPLANATION);
  }

  subscribe(listener: (event: NumberedEvent) => void, after?: string): () => void {
    this.seen.push(after);
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Tells every listener. */
  publish(event: NumberedEvent): void {
    for (const listener of this.listeners) listener(event);
  }
}
