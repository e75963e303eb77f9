/**
 * Random changes of a balancer that always leave each resource a holder that can be used. A model
 * of what runs decides which changes are possible.
 */

import type { Change } from '../../src/api/control.js';
import type { AdminState } from '../../src/api/documents.js';
import { PREDICTOR_NAMES, type PredictorName } from '../../src/directory/predictors/index.js';
import type { Random } from '../sim/random.js';

export interface ModelNode {
  name: string;
  address: string;
  weight: number;
  /** Unknown: the node was removed in another state, and may have kept it. */
  state: AdminState | 'unknown';
}

export interface ModelServer {
  name: string;
  address: string;
  port: number;
  predictor: PredictorName;
}

/** What can run, and what may be changed. */
export interface ModelOptions {
  /** All nodes of the farm. */
  nodes: readonly { name: string; address: string }[];
  first: ModelServer;
  /** It comes and goes. */
  second: ModelServer;
  /** Paths that come and go. `/` is always there. */
  paths: readonly string[];
}

/** The keys of the file that the model decides. */
export interface ModelKeys {
  virtualServers: ModelServer[];
  nodes: { name: string; address: string; weight: number }[];
  resources: { path: string; nodes: string[] }[];
  timeouts: Record<string, string>;
  log: { level: string };
}

/** A random step: a change through the API, or one that needs the file. */
export type Step =
  | { kind: 'change'; change: Change }
  /** The file gets these keys, then the balancer reads it. */
  | { kind: 'reload' | 'signal'; keys: ModelKeys }
  | { kind: 'save' };

const LEVELS = ['debug', 'info'];
const MOST_WEIGHT = 9;
/** Changes of a config file at once. */
const MOST_AT_ONCE = 4;

export class RandomChanges {
  readonly nodes = new Map<string, ModelNode>();
  /** Holders by path. */
  readonly resources = new Map<string, Set<string>>();
  readonly servers: ModelServer[];
  private timeouts: Record<string, string>;
  private level = 'info';
  private files = 0;

  /** Everything is there: all nodes hold `/`. */
  constructor(
    private readonly random: Random,
    private readonly options: ModelOptions,
    private readonly fixedTimeouts: Record<string, string>,
  ) {
    for (const { name, address } of options.nodes)
      this.nodes.set(name, { name, address, weight: 1, state: 'up' });
    this.resources.set('/', new Set(this.nodes.keys()));
    this.servers = [{ ...options.first }];
    this.timeouts = { ...fixedTimeouts, idle: '900s' };
  }

  /** What a config file says of all this. */
  keys(): ModelKeys {
    return structuredClone({
      virtualServers: this.servers,
      nodes: [...this.nodes.values()].map(({ name, address, weight }) => ({
        name,
        address,
        weight,
      })),
      resources: [...this.resources].map(([path, holders]) => ({ path, nodes: [...holders] })),
      timeouts: this.timeouts,
      log: { level: this.level },
    });
  }

  /** Makes a random step in the model, and returns it. */
  next(): Step {
    const kind = this.random.between(1, 20);
    if (kind === 1) return { kind: 'save' };
    if (kind > 5) return { kind: 'change', change: this.possible() };
    for (let count = this.random.between(1, MOST_AT_ONCE); count > 0; ) {
      // The state of a node is not in the file.
      if (this.possible((change) => change.kind !== 'node-state') !== undefined) count -= 1;
    }
    this.files += 1;
    // Another value each time: the log tells when the balancer has taken this file.
    this.timeouts = { ...this.fixedTimeouts, idle: `${900 + this.files}s` };
    this.level = this.random.pick(LEVELS);
    const server = this.servers[0];
    if (server !== undefined) server.predictor = this.random.pick(PREDICTOR_NAMES);
    return { kind: kind === 2 ? 'signal' : 'reload', keys: this.keys() };
  }

  /** A change that the balancer must accept. It is made in the model. */
  private possible(allowed: (change: Change) => boolean = () => true): Change {
    for (;;) {
      const change = this.draw();
      if (change === undefined || !allowed(change)) continue;
      const before = structuredClone({ nodes: this.nodes, resources: this.resources });
      this.make(change);
      if (this.usable()) return change;
      this.restore(before);
    }
  }

  /** Whether each resource has a holder that is up. */
  private usable(): boolean {
    return [...this.resources.values()].every((holders) =>
      [...holders].some((holder) => this.nodes.get(holder)?.state === 'up'),
    );
  }

  private draw(): Change | undefined {
    const { random, nodes, resources, options, servers } = this;
    const names = [...nodes.keys()];
    const node = random.pick(names);
    const paths = [...resources.keys()];
    switch (random.between(1, 11)) {
      case 1:
      case 2:
        return { kind: 'node-state', node, state: 'draining', reason: `reason ${random.bits()}` };
      case 3:
      case 4:
        return { kind: 'node-state', node, state: 'up' };
      case 5:
        return { kind: 'weight', node, weight: random.between(1, MOST_WEIGHT) };
      case 6: {
        const path = random.pick(['/', ...options.paths]);
        const holders = random.shuffle([...names]).slice(0, random.between(1, 3));
        const known = resources.get(path);
        if (known !== undefined && holders.every((holder) => known.has(holder))) return undefined;
        return { kind: 'add-resource', resource: { path, nodes: holders } };
      }
      case 7: {
        const path = random.pick(paths);
        return path === '/' ? undefined : { kind: 'remove-resource', path };
      }
      case 8: {
        const path = random.pick(paths);
        const holders = [...(resources.get(path) ?? [])];
        if (holders.length < 2) return undefined;
        return { kind: 'remove-resource', path, node: random.pick(holders) };
      }
      case 9: {
        const held = [...resources.values()].some((holders) => holders.has(node));
        return held ? undefined : { kind: 'remove-node', node };
      }
      case 10: {
        const absent = options.nodes.filter(({ name }) => !nodes.has(name));
        if (absent.length === 0) return undefined;
        return { kind: 'add-node', node: { ...random.pick(absent), weight: 1 } };
      }
      default:
        return servers.length > 1
          ? { kind: 'remove-virtual-server', virtualServer: options.second.name }
          : { kind: 'add-virtual-server', virtualServer: { ...options.second } };
    }
  }

  private make(change: Change): void {
    const { nodes, resources, servers, options } = this;
    switch (change.kind) {
      case 'node-state': {
        const node = nodes.get(change.node);
        if (node !== undefined) node.state = change.state;
        return;
      }
      case 'weight': {
        const node = nodes.get(change.node);
        if (node !== undefined) node.weight = change.weight;
        return;
      }
      case 'add-node':
        nodes.set(change.node.name, { ...change.node, state: 'unknown' });
        return;
      case 'remove-node':
        nodes.delete(change.node);
        return;
      case 'add-resource': {
        const { path, nodes: holders } = change.resource;
        resources.set(path, new Set([...(resources.get(path) ?? []), ...holders]));
        return;
      }
      case 'remove-resource':
        if (change.node === undefined) resources.delete(change.path);
        else resources.get(change.path)?.delete(change.node);
        return;
      case 'add-virtual-server':
        servers.push({ ...options.second });
        return;
      case 'remove-virtual-server':
        servers.length = 1;
    }
  }

  private restore(before: Pick<RandomChanges, 'nodes' | 'resources'>): void {
    this.nodes.clear();
    for (const [name, node] of before.nodes) this.nodes.set(name, node);
    this.resources.clear();
    for (const [path, holders] of before.resources) this.resources.set(path, holders);
  }
}
