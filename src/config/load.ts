/**
 * Loads config files: checks YAML, schema and rules, and returns the values in the form that the
 * program wants: addresses as values, durations in ms, nodes by index, paths made absolute.
 */

import { BatonError } from '../base/errors.js';
import type { LogLevel } from '../base/log.js';
import type { Via } from '../engine/farm.js';
import type { Limits, Timeouts } from '../engine/options.js';
import { type Address, type Endpoint, nodeAddress, requireAddress } from '../wire/address.js';
import { allResources, type BalancerData, type OwnedResource } from './data.js';
import { FileSource } from './file-source.js';
import { checkBalancerRules, checkNodeRules } from './rules.js';
import { type AccessLogFormat, BalancerFile, type Datapath, NodeFile } from './schema.js';
import type { NodeWay } from './schema-objects.js';
import type { Source } from './source.js';
import { validate } from './validate.js';
import { parseDuration, parseListener } from './values.js';
import { type VirtualServer, virtualServer } from './virtual-server.js';

export type { VirtualServer } from './virtual-server.js';

interface Common {
  /** As given to the loader. */
  readonly file: string;
  readonly interface: string;
  /** Our own address; undefined: the first address of the interface. */
  readonly address: Address | undefined;
  /** Absolute. */
  readonly keyFile: string;
  readonly log: { readonly level: LogLevel };
  /** Warnings for the operator: `file:line:column: key: text`. */
  readonly warnings: readonly string[];
}

/** The name of an interface, and its place in the config: `file:line:column: key`. */
export interface NamedInterface {
  readonly name: string;
  readonly where: string;
}

/** A node, as every part of the balancer takes it. */
export interface NodeEntry {
  readonly name: string;
  readonly address: Address;
  /** 0: it takes no new session. */
  readonly weight: number;
  /** How it takes sessions. Absent: `NODE_DEFAULTS`. */
  readonly handoff?: NodeWay;
  /** How packets get there. Absent: `NODE_DEFAULTS`. */
  readonly via?: Via;
}

export interface ResourceEntry {
  readonly host: string | undefined;
  readonly path: string;
  /** It matches only TLS connections that offer one of these application protocols. */
  readonly alpn?: readonly string[];
  /** The path that nodes get; "%p" stands for what follows the matched path. */
  readonly rewrite?: string;
  /** Indices into `nodes`. */
  readonly nodes: readonly number[];
  /** The virtual server that it is for. Absent: all that have none of their own. */
  readonly virtualServer?: string;
}

/** The API over TLS. Paths are absolute. */
export interface ApiConfig {
  readonly listen: Endpoint;
  readonly certificate: string;
  readonly key: string;
  readonly tokens: string;
}

/** The metrics for Prometheus. */
export interface MetricsConfig {
  readonly listen: Endpoint;
}

export interface AccessLogConfig {
  /** Absolute. */
  readonly file: string;
  readonly format: AccessLogFormat;
}

export interface BalancerConfig extends Common {
  readonly kind: 'balancer';
  /** The interface by which nodes are reached; undefined: `interface`. */
  readonly nodeInterface: NamedInterface | undefined;
  readonly datapath: Datapath;
  /** Number of engine threads. */
  readonly workers: number;
  /** Absolute. */
  readonly controlSocket: string;
  readonly virtualServers: readonly VirtualServer[];
  readonly nodes: readonly NodeEntry[];
  /** The common ones, then those of each virtual server. */
  readonly resources: readonly ResourceEntry[];
  readonly limits: Limits;
  readonly timeouts: Timeouts;
  /** Undefined: the control socket is the only way to the API. */
  readonly api: ApiConfig | undefined;
  /** Undefined: none. */
  readonly metrics: MetricsConfig | undefined;
  /** Undefined: none. */
  readonly accessLog: AccessLogConfig | undefined;
}

export interface NodeConfig extends Common {
  readonly kind: 'node';
  readonly virtualAddresses: readonly Address[];
  readonly balancers: readonly Address[];
  /**
   * Where the web server listens. Undefined: on the address and port of the virtual server, or on a
   * wildcard address.
   */
  readonly listen: Endpoint | undefined;
  readonly maxSessions: number;
}

export type Config = BalancerConfig | NodeConfig;

const ONLY_BALANCER = [
  'virtualServers',
  'nodes',
  'resources',
  'datapath',
  'workers',
  'controlSocket',
  'api',
  'metrics',
  'accessLog',
];
const ONLY_NODE = ['virtualAddresses', 'balancers', 'listen', 'maxSessions'];

/**
 * Loads a balancer's config.
 * @throws BatonError BATON_CONFIG whose message has one line for each problem:
 *   `file:line:column: key.path: problem, expected value`
 */
export function loadBalancerConfig(file: string): BalancerConfig {
  return balancerConfig(open(file, 'balancer'));
}

/** A balancer's config with what it was made from. */
export interface LoadedFile {
  readonly config: BalancerConfig;
  /** The file's own keys, without defaults. */
  readonly data: BalancerData;
  readonly text: string;
}

/** Loads a balancer's config as a basis for changes. Throws as `loadBalancerConfig` does. */
export function loadBalancerFile(file: string): LoadedFile {
  const source = open(file, 'balancer');
  const config = balancerConfig(source);
  // The check has shown that it has this form, except that it need not have resources.
  const data = source.data as BalancerData;
  const resources = (data.resources as BalancerData['resources'] | undefined) ?? [];
  return { config, data: { ...data, resources }, text: source.text };
}

/**
 * Loads a balancer's config for a capture, in which virtual servers may have loopback addresses.
 * Throws as `loadBalancerConfig` does.
 */
export function loadReplayConfig(file: string): BalancerConfig {
  return balancerConfig(open(file, 'balancer'), true);
}

/** Loads a node's config. Throws as `loadBalancerConfig` does. */
export function loadNodeConfig(file: string): NodeConfig {
  return nodeConfig(open(file, 'node'));
}

/** Loads a config of either kind. Its keys show the kind. Throws as `loadBalancerConfig` does. */
export function loadConfig(file: string): Config {
  const source = new FileSource(file);
  source.throwIfWrong();
  const kind = kindOf(source.data);
  if (kind === undefined) {
    source.wrong(
      [],
      'is neither the config of a balancer nor that of a node, expected keys such as virtualServers and resources, or virtualAddresses and balancers',
    );
    source.throwIfWrong();
  }
  return kind === 'node' ? nodeConfig(source) : balancerConfig(source);
}

function open(file: string, wanted: Config['kind']): FileSource {
  const source = new FileSource(file);
  source.throwIfWrong();
  const kind = kindOf(source.data);
  if (kind !== undefined && kind !== wanted) {
    throw new BatonError(
      'BATON_CONFIG',
      `is the config of a ${kind}, expected the config of a ${wanted}`,
      {
        where: `${source.name}:1:1`,
        hint: `run it with \`baton ${kind} -c ${source.name}\``,
      },
    );
  }
  return source;
}

/** The kind with more of its own keys in the file; undefined when both have the same number. */
function kindOf(data: unknown): Config['kind'] | undefined {
  if (typeof data !== 'object' || data === null || Array.isArray(data)) return undefined;
  const keys = Object.keys(data);
  const count = (own: readonly string[]): number => keys.filter((key) => own.includes(key)).length;
  const difference = count(ONLY_BALANCER) - count(ONLY_NODE);
  if (difference === 0) return undefined;
  return difference > 0 ? 'balancer' : 'node';
}

function isMap(data: unknown): data is Record<string, unknown> {
  return typeof data === 'object' && data !== null && !Array.isArray(data);
}

/** @throws BatonError BATON_CONFIG with all problems of the data */
export function balancerConfig(source: Source, replayed = false): BalancerConfig {
  const filled = validate(BalancerFile, source);
  if (isMap(filled)) checkBalancerRules(source, filled, replayed);
  source.throwIfWrong();
  const data = filled as BalancerFile;
  const indices = new Map(data.nodes.map((node, index) => [node.name, index]));
  return {
    kind: 'balancer',
    file: source.file,
    interface: data.interface,
    nodeInterface:
      data.nodeInterface === undefined
        ? undefined
        : { name: data.nodeInterface, where: source.placeOf(['nodeInterface']) },
    datapath: data.datapath,
    workers: data.workers,
    address: optionalAddress(data.address),
    keyFile: source.resolve(data.keyFile),
    controlSocket: source.resolve(data.controlSocket),
    virtualServers: data.virtualServers.map((entry) => virtualServer(entry, indices)),
    nodes: data.nodes.map((node) => ({ ...node, address: nodeAddress(node.address) })),
    resources: allResources(data).map((resource) => resourceEntry(resource, indices)),
    limits: {
      ...data.limits,
      halfOpen: Math.min(data.limits.halfOpen, data.limits.sessions),
      heads: Math.min(data.limits.heads, data.limits.sessions),
    },
    timeouts: {
      synAck: ms(data.timeouts.synAck),
      head: ms(data.timeouts.head),
      handoff: ms(data.timeouts.handoff),
      answer: ms(data.timeouts.answer),
      idle: ms(data.timeouts.idle),
      closing: ms(data.timeouts.closing),
      linger: ms(data.timeouts.linger),
    },
    api:
      data.api === undefined
        ? undefined
        : {
            listen: endpoint(data.api.listen),
            certificate: source.resolve(data.api.certificate),
            key: source.resolve(data.api.key),
            tokens: source.resolve(data.api.tokens),
          },
    metrics: data.metrics === undefined ? undefined : { listen: endpoint(data.metrics.listen) },
    accessLog:
      data.accessLog === undefined
        ? undefined
        : { file: source.resolve(data.accessLog.file), format: data.accessLog.format },
    log: data.log,
    warnings: source.warningLines(),
  };
}

/**
 * A resource of a checked config.
 * @param nodes the index of each node of the config, by name
 */
export function resourceEntry(
  { host, path, alpn, rewrite, virtualServer, nodes: holders }: OwnedResource,
  nodes: ReadonlyMap<string, number>,
): ResourceEntry {
  return {
    host,
    path,
    ...(alpn === undefined ? {} : { alpn }),
    ...(rewrite === undefined ? {} : { rewrite }),
    ...(virtualServer === undefined ? {} : { virtualServer }),
    nodes: holders.map((name) => nodes.get(name)!),
  };
}

function nodeConfig(source: Source): NodeConfig {
  const filled = validate(NodeFile, source);
  if (isMap(filled)) checkNodeRules(source, filled);
  source.throwIfWrong();
  const data = filled as NodeFile;
  return {
    kind: 'node',
    file: source.file,
    interface: data.interface,
    address: optionalAddress(data.address),
    keyFile: source.resolve(data.keyFile),
    virtualAddresses: data.virtualAddresses.map(requireAddress),
    balancers: data.balancers.map(requireAddress),
    listen: data.listen === undefined ? undefined : parseListener(data.listen),
    maxSessions: data.maxSessions,
    log: data.log,
    warnings: source.warningLines(),
  };
}

function optionalAddress(text: string | undefined): Address | undefined {
  return text === undefined ? undefined : requireAddress(text);
}

/** The schema has checked that it is an address and a port. */
function endpoint(text: string): Endpoint {
  return parseListener(text)!;
}

/** The schema has checked that it is a duration. */
function ms(text: string): number {
  return parseDuration(text)!;
}
