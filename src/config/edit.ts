/**
 * The changes that an operator makes to a config at run time, one at a time, on plain data. Each
 * returns new data and leaves the given data as it is. They find what a change to one object can
 * get wrong: names that do not exist, objects that exist already, objects that are in use. The
 * values themselves, such as addresses, are checked with the whole config (check-data.ts).
 */
import { BatonError } from '../base/errors.js';
import { quoted } from '../base/text.js';
import { hostProblem, pathProblem, patternKey } from '../directory/pattern.js';
import {
  allResources,
  type BalancerData,
  type NodeData,
  type OwnedResource,
  type ResourceData,
  type VirtualServerData,
} from './data.js';
import { formatListener } from './ports.js';
import { type ServerPlaces, takenBy } from './rules-servers.js';
import { MOST_WEIGHT, SERVER_DEFAULTS } from './schema-objects.js';
import { nearest } from './values.js';
import { portsOf } from './virtual-server.js';

/**
 * Names a resource. Without a host it is the resource for any host, without `alpn` that for every
 * protocol.
 */
export interface ResourceName {
  readonly host?: string | undefined;
  readonly path: string;
  readonly alpn?: readonly string[] | undefined;
  /** The virtual server whose own it is. Without: a common one. */
  readonly virtualServer?: string | undefined;
}

/** Resources that a message names. */
const MOST_NAMED = 3;
/** Resources whose names are compared with a name that does not exist. */
const MOST_COMPARED = 4_096;

/** "www.example.org/a/", "/a/" for any host, "/ (alpn h2)", or "/a/ of films". */
export function resourceName({ host, path, alpn, virtualServer }: ResourceName): string {
  const protocols = alpn === undefined ? '' : ` (alpn ${alpn.join(', ')})`;
  const owner = virtualServer === undefined ? '' : ` of ${virtualServer}`;
  return `${host ?? ''}${path}${protocols}${owner}`;
}

/** @throws BatonError BATON_IN_USE when the name or the address is taken */
export function addNode(data: BalancerData, node: NodeData): BalancerData {
  const same = data.nodes.find(({ name }) => name === node.name);
  if (same !== undefined) {
    throw inUse(`node ${quoted(node.name)} exists already, with the address ${same.address}`);
  }
  const other = data.nodes.find(({ address }) => address === node.address);
  if (other !== undefined)
    throw inUse(`${quoted(node.address)} is the address of node ${quoted(other.name)}`);
  return { ...data, nodes: [...data.nodes, node] };
}

/** @throws BatonError BATON_IN_USE when the name, or address and port, are taken */
export function addVirtualServer(data: BalancerData, server: VirtualServerData): BalancerData {
  const { name, address } = server;
  const same = data.virtualServers.find((other) => other.name === name);
  if (same !== undefined) {
    const { transport, ports } = placeOf(same);
    const at = formatListener(same.address, ports, transport);
    throw inUse(`virtual server ${quoted(name)} exists already, at ${at}`);
  }
  const taken = takenBy(data.virtualServers.map(placeOf), placeOf(server));
  if (taken !== undefined)
    throw inUse(`${address}:${taken.port} is used by virtual server ${quoted(taken.name)}`);
  return { ...data, virtualServers: [...data.virtualServers, server] };
}

/**
 * Adds a resource. If it exists already, the nodes become further holders.
 * @throws BatonError BATON_UNKNOWN for a node that does not exist, BATON_IN_USE when all nodes
 *   hold the resource already or it has another rewrite, BATON_ARGUMENT for an invalid host or path
 */
export function addResource(
  data: BalancerData,
  { virtualServer, ...resource }: OwnedResource,
): BalancerData {
  const list = listOf(data, virtualServer);
  const at = indexOf(list, resource);
  for (const node of resource.nodes) requireNode(data, node);
  const existing = list[at];
  if (existing === undefined) return withList(data, virtualServer, [...list, resource]);
  const name = quoted(resourceName({ ...existing, virtualServer }));
  const { rewrite } = resource;
  if (rewrite !== undefined && rewrite !== existing.rewrite) {
    const present =
      existing.rewrite === undefined ? 'no rewrite' : `the rewrite ${existing.rewrite}`;
    throw inUse(
      `resource ${name} exists already, with ${present}`,
      'remove it first, and add it with the other rewrite',
    );
  }
  const added = resource.nodes.filter((node) => !existing.nodes.includes(node));
  if (added.length === 0) {
    const nodes = resource.nodes.map((node) => quoted(node)).join(', ');
    throw inUse(`resource ${name} has the holder ${nodes} already`);
  }
  const nodes = [...existing.nodes, ...added];
  return withList(data, virtualServer, list.with(at, { ...existing, nodes }));
}

/** @throws BatonError BATON_UNKNOWN, or BATON_IN_USE while a resource or virtual server names it */
export function removeNode(data: BalancerData, name: string): BalancerData {
  requireNode(data, name);
  const server = data.virtualServers.find(({ nodes }) => nodes?.includes(name) === true);
  if (server !== undefined) {
    throw inUse(
      `node ${quoted(name)} gets the connections of virtual server ${quoted(server.name)}`,
      'take it out of the nodes of this virtual server first: in the config file, with a reload',
    );
  }
  const held = allResources(data).filter(({ nodes }) => nodes.includes(name));
  if (held.length > 0) {
    const named = held.slice(0, MOST_NAMED).map((resource) => quoted(resourceName(resource)));
    const more = held.length - named.length;
    const list = more > 0 ? `${named.join(', ')} and ${more} more` : named.join(' and ');
    const what = held.length === 1 ? 'the resource' : 'the resources';
    throw inUse(
      `node ${quoted(name)} holds ${what} ${list}`,
      'take it out of the holders first, or remove these resources',
    );
  }
  return { ...data, nodes: data.nodes.filter((node) => node.name !== name) };
}

/** @throws BatonError BATON_UNKNOWN, or BATON_IN_USE for the only virtual server */
export function removeVirtualServer(data: BalancerData, name: string): BalancerData {
  const rest = data.virtualServers.filter((server) => server.name !== name);
  if (rest.length === data.virtualServers.length) {
    const names = data.virtualServers.map((server) => server.name);
    throw notFound('virtual server', name, nearest(name, names));
  }
  if (rest.length === 0) {
    throw inUse(
      `virtual server ${quoted(name)} is the only one`,
      'a balancer needs a virtual server: add another first, or stop the balancer',
    );
  }
  return { ...data, virtualServers: rest };
}

/**
 * Removes a resource, or one of its holders.
 * @param node the holder to take away; undefined: the whole resource is removed
 * @throws BatonError BATON_UNKNOWN for a resource or holder that does not exist, BATON_IN_USE for
 *   the last holder and the last resource, BATON_ARGUMENT for an invalid host or path
 */
export function removeResource(
  data: BalancerData,
  name: ResourceName,
  node?: string,
): BalancerData {
  const { virtualServer } = name;
  const list = listOf(data, virtualServer);
  const at = indexOf(list, name);
  const existing = list[at];
  if (existing === undefined) {
    const named = (one: ResourceName): string => resourceName({ ...one, virtualServer });
    const samePath = list.find(({ path }) => path === name.path);
    const known = list.slice(0, MOST_COMPARED);
    const meant = samePath === undefined ? nearest(named(name), known.map(named)) : named(samePath);
    throw notFound('resource', named(name), meant);
  }
  const text = quoted(resourceName({ ...existing, virtualServer }));
  if (node === undefined) {
    if (list.length === 1 && virtualServer !== undefined) {
      throw inUse(
        `resource ${text} is the only one of this virtual server`,
        'add another first, or remove the virtual server',
      );
    }
    if (list.length === 1 && data.virtualServers.some(needsResources)) {
      throw inUse(
        `resource ${text} is the only one`,
        'a balancer needs a resource: add another first',
      );
    }
    return withList(
      data,
      virtualServer,
      list.filter((_, index) => index !== at),
    );
  }
  if (!existing.nodes.includes(node)) {
    requireNode(data, node);
    throw new BatonError('BATON_UNKNOWN', `node ${quoted(node)} is no holder of ${text}`, {
      hint: `its holders are ${existing.nodes.slice(0, MOST_NAMED).join(', ')}${existing.nodes.length > MOST_NAMED ? ', ...' : ''}`,
    });
  }
  if (existing.nodes.length === 1) {
    throw inUse(
      `node ${quoted(node)} is the only holder of ${text}`,
      'add another holder first, or remove the resource',
    );
  }
  const nodes = existing.nodes.filter((holder) => holder !== node);
  return withList(data, virtualServer, list.with(at, { ...existing, nodes }));
}

/** @throws BatonError BATON_UNKNOWN, or BATON_ARGUMENT for a weight that no node can have */
export function setWeight(data: BalancerData, name: string, weight: number): BalancerData {
  requireNode(data, name);
  if (!Number.isInteger(weight) || weight < 1 || weight > MOST_WEIGHT) {
    throw new BatonError(
      'BATON_ARGUMENT',
      `weight: is ${weight}, expected a whole number from 1 to ${MOST_WEIGHT}`,
    );
  }
  const changed = (node: NodeData): NodeData =>
    // A weight of 1 needs no key.
    (node.weight ?? 1) === weight ? node : { ...node, weight };
  return { ...data, nodes: data.nodes.map((node) => (node.name === name ? changed(node) : node)) };
}

/**
 * The resources of a virtual server; undefined: the common ones.
 * @throws BatonError BATON_UNKNOWN when it does not exist, BATON_IN_USE when it has none of its
 *   own: its first one would hide all common ones from it
 */
function listOf(data: BalancerData, virtualServer: string | undefined): readonly ResourceData[] {
  if (virtualServer === undefined) return data.resources;
  const server = data.virtualServers.find(({ name }) => name === virtualServer);
  if (server === undefined) {
    const names = data.virtualServers.map(({ name }) => name);
    throw notFound('virtual server', virtualServer, nearest(virtualServer, names));
  }
  if (server.resources !== undefined) return server.resources;
  throw inUse(
    `virtual server ${quoted(virtualServer)} has no resources of its own`,
    'give it the key `resources` in the config file, with a reload; then the common ones do not apply to it any more',
  );
}

function withList(
  data: BalancerData,
  virtualServer: string | undefined,
  resources: readonly ResourceData[],
): BalancerData {
  if (virtualServer === undefined) return { ...data, resources };
  const virtualServers = data.virtualServers.map((server) =>
    server.name === virtualServer ? { ...server, resources } : server,
  );
  return { ...data, virtualServers };
}

/** Whether a virtual server needs the common resources. */
function needsResources({ mode, protocol, resources }: VirtualServerData): boolean {
  return mode !== 'forward' && protocol !== 'tcp' && resources === undefined;
}

/** The index of the resource that matches the same requests, or -1. */
function indexOf(resources: readonly ResourceData[], { host, path, alpn }: ResourceName): number {
  const key = keyOf({ host, path, alpn });
  // In a long list the same spelling is found much faster.
  const spelled =
    alpn === undefined
      ? resources.findIndex(
          (one) => one.path === path && one.host === host && one.alpn === undefined,
        )
      : -1;
  if (spelled >= 0) return spelled;
  return resources.findIndex((resource) => patternKey(resource) === key);
}

/** @throws BatonError BATON_ARGUMENT */
function keyOf({ host, path, alpn }: ResourceName): string {
  const wrong = (key: string, value: string, why: string): never => {
    throw new BatonError('BATON_ARGUMENT', `${key}: is ${quoted(value)}: ${why}`);
  };
  const hostIsWrong = host === undefined ? undefined : hostProblem(host);
  if (host !== undefined && hostIsWrong !== undefined) wrong('host', host, hostIsWrong);
  const pathIsWrong = pathProblem(path);
  if (pathIsWrong !== undefined) wrong('path', path, pathIsWrong);
  try {
    return patternKey({ host, path, alpn });
  } catch (error) {
    if (!(error instanceof BatonError)) throw error;
    return wrong('path', path, 'it has no normal form');
  }
}

/** Where clients reach a virtual server. Its values may not have been checked. */
function placeOf(server: VirtualServerData): ServerPlaces {
  const { name, address, transport = SERVER_DEFAULTS.transport } = server;
  return { name, address, transport, ports: portsOf(server) };
}

function requireNode(data: BalancerData, name: string): void {
  if (data.nodes.some((node) => node.name === name)) return;
  const names = data.nodes.map((node) => node.name);
  throw notFound('node', name, nearest(name, names));
}

function notFound(kind: string, name: string, meant: string | undefined): BatonError {
  return new BatonError('BATON_UNKNOWN', `there is no ${kind} ${quoted(name)}`, {
    hint: meant === undefined ? undefined : `did you mean ${meant}?`,
  });
}

function inUse(message: string, hint?: string): BatonError {
  return new BatonError('BATON_IN_USE', message, { hint });
}
