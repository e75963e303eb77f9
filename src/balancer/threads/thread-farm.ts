/**
 * The farm of one engine thread, and its change in two steps. `prepare` makes every object that the
 * next farm needs, and may fail. `commit` only puts these objects in place, between two batches.
 *
 * A predictor makes its turns at its first pick, and the arrays of the directory are shared memory.
 * So neither step takes long, whatever the number of resources.
 */
import { serverAt } from '../../config/virtual-server.js';
import { Directory } from '../../directory/directory.js';
import { COMMON_SCOPE, scopeOf } from '../../directory/directory-image.js';
import { Protocol } from '../../directory/dispatcher.js';
import type { RequestDispatcher, Routes } from '../../directory/request-dispatcher.js';
import type { Engine, EngineChange } from '../../engine/engine.js';
import type { Farm } from '../objects/farm.js';
import type { NodeEvents } from './node-events.js';
import type { Names } from './session-page.js';

interface Prepared {
  change: EngineChange;
  routes: Routes;
  names: Names;
  generation: number;
}

/** The parts of a thread that know the farm. */
export interface FarmUsers {
  engine: Pick<Engine, 'prepare' | 'commit'>;
  dispatcher: Pick<RequestDispatcher, 'use'>;
  events: Pick<NodeEvents, 'forget'>;
}

/** The routes of a farm. */
export function routesOf(farm: Pick<Farm, 'directory' | 'servers'>): Routes {
  const predictors: Routes['predictors'][number][] = [];
  const protocols: number[] = [];
  const pools: (readonly number[])[] = [];
  const scopes: number[] = [];
  for (const server of farm.servers) {
    const { slot, predictor, protocol, nodes } = server;
    scopes[slot] = scopeOf(farm.directory, server);
    predictors[slot] = predictor;
    protocols[slot] = Protocol[protocol];
    pools[slot] = protocol === 'tcp' ? nodes : [];
  }
  return {
    directory: new Directory(farm.directory),
    // Without holes: these arrays are read for each handoff.
    predictors: Array.from(predictors),
    protocols: Array.from(protocols, (protocol) => protocol ?? Protocol.http),
    scopes: Array.from(scopes, (scope) => scope ?? COMMON_SCOPE),
    pools: Array.from(pools, (nodes) => nodes ?? []),
  };
}

/** The names of a farm's objects, by slot. */
export function namesOf({ nodes, servers }: Pick<Farm, 'nodes' | 'servers'>): Names {
  return {
    nodes: new Map(nodes.map(({ slot, name }) => [slot, name])),
    virtualServers: new Map(servers.map(({ slot, name }) => [slot, name])),
  };
}

export class ThreadFarm {
  private readonly users: FarmUsers;
  private prepared: Prepared | undefined;
  /** Number of the farm that is in place. */
  generation: number;
  /** Of the farm that is in place. */
  names: Names;

  /** @param farm that the users have been made with */
  constructor(users: FarmUsers, farm: Farm) {
    this.users = users;
    this.generation = farm.generation;
    this.names = namesOf(farm);
    // When a field changes for the first time, the JIT compiler discards the code that took it for
    // a constant. That happens here, before there is such code.
    this.prepare(farm);
    this.commit();
  }

  /** @throws BatonError what `Engine.prepare` throws; nothing is prepared then */
  prepare(farm: Farm): void {
    this.prepared = undefined;
    this.prepared = {
      change: this.users.engine.prepare({ ...farm, servers: farm.servers.map(serverAt) }),
      routes: routesOf(farm),
      names: namesOf(farm),
      generation: farm.generation,
    };
  }

  /** Puts the prepared farm in place. */
  commit(): void {
    const { prepared, users } = this;
    if (prepared === undefined) return;
    users.engine.commit(prepared.change);
    users.dispatcher.use(prepared.routes);
    this.names = prepared.names;
    this.generation = prepared.generation;
    for (const node of prepared.change.nodes.changed) users.events.forget(node);
    this.prepared = undefined;
  }

  /** Forgets the prepared farm. */
  discard(): void {
    this.prepared = undefined;
  }
}
