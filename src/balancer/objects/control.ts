/** What the API can ask of this balancer: joins the parts that answer. */
import type { Readable } from 'node:stream';
import type { Change, Control, NumberedEvent } from '../../api/control.js';
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
} from '../../api/documents.js';
import { unknownName } from '../../api/errors.js';
import { allResources } from '../../config/data.js';
import type { TapWish } from '../../datapath/frame-tap.js';
import type { CaptureFeed } from '../capture-feed.js';
import type { EventSource } from '../event-source.js';
import type { BalancerStats } from '../stats.js';
import type { EnginePool } from '../threads/engine-pool.js';
import type { Changes } from './changes.js';
import type { Explainer } from './explain.js';
import type { FarmChanger } from './farm-changer.js';
import type { NodeObjects } from './node-objects.js';
import type { ResourceCounts } from './resource-counts.js';
import { serverDocument } from './server-document.js';

export interface ControlParts {
  readonly stats: BalancerStats;
  readonly engine: EnginePool;
  readonly capture: CaptureFeed;
  readonly farm: FarmChanger;
  readonly nodes: NodeObjects;
  readonly changes: Changes;
  readonly resourceCounts: ResourceCounts;
  readonly events: EventSource;
  readonly explainer: Explainer;
  /** Ends the sessions, flows and buckets of the removed virtual server in a slot. */
  endServer(slot: number): void;
  leave(): void;
}

export class BalancerControl implements Control {
  private readonly parts: ControlParts;

  constructor(parts: ControlParts) {
    this.parts = parts;
  }

  stats(): Promise<StatsDocument> {
    return this.parts.stats.stats();
  }

  sessions(after: number, limit: number): Promise<SessionPage> {
    return this.parts.engine.sessions(after, limit);
  }

  explain(query: ExplainQuery): Promise<ExplainDocument> {
    return this.parts.explainer.explain(query);
  }

  metrics(): Promise<string> {
    return this.parts.stats.metrics();
  }

  capture(wish: TapWish): Promise<Readable | undefined> {
    return this.parts.capture.open(wish);
  }

  leave(): void {
    this.parts.leave();
  }

  async nodes(): Promise<NodesDocument> {
    const { nodes } = await this.parts.stats.stats();
    return { nodes };
  }

  async node(name: string): Promise<NodeDocument> {
    const { nodes } = await this.nodes();
    return named(nodes, 'node', name, ({ condition }) => condition === 'removed');
  }

  async virtualServers(): Promise<VirtualServersDocument> {
    const { engine, farm } = this.parts;
    const { perServer, heldByServer } = await engine.snapshot();
    return {
      virtualServers: farm.farm.servers.map((server) => ({
        ...serverDocument(server),
        active: perServer[server.slot] ?? 0,
        held: heldByServer[server.slot] ?? 0,
      })),
    };
  }

  async virtualServer(name: string): Promise<VirtualServerDocument> {
    const { virtualServers } = await this.virtualServers();
    return named(virtualServers, 'virtual server', name, ({ state }) => state === 'removed');
  }

  async resources(after: number, limit: number): Promise<ResourcePage> {
    const resources = allResources(this.parts.changes.running.data);
    const { nodes } = await this.parts.stats.stats();
    const up = new Set(nodes.filter(({ state }) => state === 'up').map(({ name }) => name));
    const end = after + limit;
    return {
      resources: resources.slice(after, end).map((resource, index) => {
        const { host = null, path, alpn, rewrite, virtualServer, nodes: holders } = resource;
        const count = holders.filter((holder) => up.has(holder)).length;
        return {
          host,
          path,
          ...(alpn === undefined ? {} : { alpn: [...alpn] }),
          ...(rewrite === undefined ? {} : { rewrite }),
          ...(virtualServer === undefined ? {} : { virtualServer }),
          nodes: [...holders],
          state: count === 0 ? 'down' : count < holders.length ? 'degraded' : 'up',
          up: count,
          requests: this.parts.resourceCounts.of(after + index),
        };
      }),
      total: resources.length,
      next: end < resources.length ? end : null,
    };
  }

  async change(change: Change, actor: string): Promise<ChangeReport> {
    const { nodes, changes, farm, events } = this.parts;
    if (change.kind === 'remove-virtual-server') return this.removeServer(change, actor);
    if (change.kind !== 'node-state') return changes.change(change, actor);
    const changed = nodes.setState(change.node, change.state, actor, change.reason);
    const report = { changed, generation: farm.farm.generation };
    if (changed.length > 0) events.changed(report, actor);
    return report;
  }

  private async removeServer(
    change: Extract<Change, { kind: 'remove-virtual-server' }>,
    actor: string,
  ): Promise<ChangeReport> {
    const { changes, farm } = this.parts;
    const { virtualServer, endSessions = false } = change;
    const server = farm.farm.servers.find(
      ({ name, retired }) => name === virtualServer && !retired,
    );
    const report = await changes.change(change, actor);
    if (endSessions && server !== undefined) this.parts.endServer(server.slot);
    return report;
  }

  config(): Promise<ConfigDocument> {
    return this.parts.changes.config();
  }

  saveConfig(options: { force?: boolean }): Promise<SaveDocument> {
    return this.parts.changes.save(options);
  }

  subscribe(listener: (event: NumberedEvent) => void, after?: string): () => void {
    return this.parts.events.subscribe(listener, after);
  }
}

/** The object of this name that is in use, else a removed one: a new object may have its name. */
function named<Named extends { name: string }>(
  all: readonly Named[],
  kind: string,
  name: string,
  isRemoved: (one: Named) => boolean,
): Named {
  const same = all.filter((one) => one.name === name);
  const found = same.find((one) => !isRemoved(one)) ?? same[0];
  if (found !== undefined) return found;
  throw unknownName(
    kind,
    name,
    all.map((one) => one.name),
  );
}
