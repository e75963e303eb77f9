/**
 * Loads config files: checks YAML, schema and rules, and returns the values in the form that the
 * program wants: addresses as values, durations in ms, nodes by index, paths made absolute.
 */

import { BatonError } from '../base/errors.js';
import type { LogLevel } from '../base/log.js';
import type { PredictorName } from '../directory/predictors/index.js';
import type { Limits, Timeouts } from '../engine/options.js';
import { type Address, type Endpoint, requireAddress } from '../wire/address.js';
import { checkBalancerRules, checkNodeRules } from './rules.js';
import { BalancerFile, type Datapath, NodeFile } from './schema.js';
import { ConfigSource } from './source.js';
import { validate } from './validate.js';
import { parseDuration, parseListener } from './values.js';

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

/** A virtual server, as every part of the balancer takes it. */
export interface VirtualServer extends Endpoint {
  readonly name: string;
  readonly predictor: PredictorName;
}

/** A node, as every part of the balancer takes it. */
export interface NodeEntry {
  readonly name: string;
  readonly address: Address;
  /** 0: it takes no new session. */
  readonly weight: number;
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
  readonly resources: readonly {
    readonly host: string | undefined;
    readonly path: string;
    /** Indices into `nodes`. */
    readonly nodes: readonly number[];
  }[];
  readonly limits: Limits;
  readonly timeouts: Timeouts;
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
  const source = new ConfigSource(file);
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

function open(file: string, wanted: Config['kind']): ConfigSource {
  const source = new ConfigSource(file);
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

function isMap(data: unknown): boolean {
  return typeof data === 'object' && data !== null && !Array.isArray(data);
}

function balancerConfig(source: ConfigSource, replayed = false): BalancerConfig {
  validate(BalancerFile, source);
  if (isMap(source.data)) checkBalancerRules(source, replayed);
  source.throwIfWrong();
  const data = source.data as BalancerFile;
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
    virtualServers: data.virtualServers.map(withAddress),
    nodes: data.nodes.map(withAddress),
    resources: data.resources.map((resource) => ({
      host: resource.host,
      path: resource.path,
      nodes: resource.nodes.map((name) => indices.get(name)!),
    })),
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
    log: data.log,
    warnings: source.warningLines(),
  };
}

function nodeConfig(source: ConfigSource): NodeConfig {
  validate(NodeFile, source);
  if (isMap(source.data)) checkNodeRules(source);
  source.throwIfWrong();
  const data = source.data as NodeFile;
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

/** The same entry of the file, with its address as a value. */
function withAddress<Entry extends { address: string }>(
  entry: Entry,
): Omit<Entry, 'address'> & { address: Address } {
  return { ...entry, address: requireAddress(entry.address) };
}

/** The schema has checked that it is a duration. */
function ms(text: string): number {
  return parseDuration(text)!;
}
