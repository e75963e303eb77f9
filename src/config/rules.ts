/**
 * The rules of a config that a schema cannot express. Names and addresses are unique, references
 * exist, and addresses do not contradict each other.
 *
 * The rules also read values that failed the schema, so that one run reports all problems. They
 * skip values of a wrong type, since the schema has reported those.
 */
import { resolve } from 'node:path';
import { BatonError } from '../base/errors.js';
import { quoted } from '../base/text.js';
import { hostProblem, pathProblem, patternKey } from '../directory/pattern.js';
import { headStoreBytes } from '../engine/head-store.js';
import { formatAddress, formatEndpoint } from '../wire/address.js';
import { EXPECTED_ADDRESS } from './schema.js';
import type { KeyPath, Source } from './source.js';
import { isLoopbackText, nearest, parseListener } from './values.js';

/** Linux: sizeof(sockaddr_un.sun_path) less the terminating zero. */
const MOST_SOCKET_PATH_BYTES = 107;

/** The entries of a list in the file, each with its path. Empty if the value is not a list. */
function entries(value: unknown, path: KeyPath): { entry: Record<string, unknown>; at: KeyPath }[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((entry: unknown, index) =>
    typeof entry === 'object' && entry !== null
      ? [{ entry: entry as Record<string, unknown>, at: [...path, index] }]
      : [],
  );
}

/** Remembers the first use of each value, and reports each other use. */
class Uses {
  private readonly first = new Map<string, string>();
  constructor(private readonly source: Source) {}

  /** @param what describes this use in the message about the next one */
  claim(value: unknown, at: KeyPath, what: string): void {
    if (typeof value !== 'string') return;
    const holder = this.first.get(value);
    if (holder === undefined) this.first.set(value, what);
    else this.source.wrong(at, `is ${quoted(value)}, already ${holder}, expected another value`);
  }
}

/**
 * @param data the config with its defaults
 * @param replayed the config is for a capture: its virtual addresses need not be on a link
 */
export function checkBalancerRules(
  source: Source,
  data: Record<string, unknown>,
  replayed: boolean,
): void {
  const servers = entries(data.virtualServers, ['virtualServers']);
  const nodes = entries(data.nodes, ['nodes']);

  const names = new Uses(source);
  const listeners = new Map<string, string>();
  const virtual = new Uses(source);
  const seen = new Set<unknown>();
  for (const { entry, at } of servers) {
    names.claim(entry.name, [...at, 'name'], 'the name of a virtual server');
    const listener = `${entry.address}:${entry.port}`;
    const holder = listeners.get(listener);
    const complete = typeof entry.address === 'string' && typeof entry.port === 'number';
    if (holder === undefined) listeners.set(listener, String(entry.name));
    else if (complete)
      source.wrong(
        at,
        `is ${listener}, already used by virtual server ${quoted(holder)}, expected another address or port`,
      );
    if (!replayed && typeof entry.address === 'string' && isLoopbackText(entry.address)) {
      const what = `is ${quoted(entry.address)}, a loopback address`;
      source.wrong([...at, 'address'], `${what}, expected ${EXPECTED_ADDRESS}`);
    }
    // Virtual servers may share an address, so it is claimed once.
    if (!seen.has(entry.address))
      virtual.claim(entry.address, [...at, 'address'], 'a virtual address');
    seen.add(entry.address);
  }
  virtual.claim(data.address, ['address'], "the balancer's own address");

  const nodeNames = new Uses(source);
  for (const { entry, at } of nodes) {
    nodeNames.claim(entry.name, [...at, 'name'], 'the name of a node');
    virtual.claim(
      entry.address,
      [...at, 'address'],
      `the address of node ${quoted(String(entry.name))}`,
    );
  }

  if (typeof data.nodeInterface === 'string' && data.nodeInterface === data.interface) {
    const what = `is ${quoted(data.nodeInterface)}, the same as interface`;
    source.wrong(['nodeInterface'], `${what}, expected another interface, or leave out the key`);
  }
  checkResources(source, data.resources, nodes);
  checkSocketPath(source, data.controlSocket);
  checkHeadMemory(source, data.limits);
  checkListeners(source, data, listeners, seen);
  checkAccessLog(source, data);
}

/** The value of `key` in the map `map` of the file; undefined if there is no such map. */
function valueIn(map: unknown, key: string): unknown {
  return typeof map === 'object' && map !== null
    ? (map as Record<string, unknown>)[key]
    : undefined;
}

/**
 * @param servers the name of the virtual server at each `address:port`
 * @param virtual the virtual addresses
 */
function checkListeners(
  source: Source,
  data: Record<string, unknown>,
  servers: ReadonlyMap<string, string>,
  virtual: ReadonlySet<unknown>,
): void {
  const uses = new Uses(source);
  for (const key of ['api', 'metrics']) {
    const listen = valueIn(data[key], 'listen');
    const parsed = typeof listen === 'string' ? parseListener(listen) : undefined;
    if (parsed === undefined) continue;
    const text = formatEndpoint(parsed);
    const at = [key, 'listen'];
    const server = servers.get(text);
    if (server !== undefined) {
      const what = `is ${quoted(text)}, already used by virtual server ${quoted(server)}`;
      source.wrong(at, `${what}, expected another address or port`);
    } else if (virtual.has(formatAddress(parsed.address))) {
      source.warn(at, 'is at a virtual address, so every client can reach it');
    }
    uses.claim(text, at, `the value of ${key}.listen`);
  }
}

/** A log that is appended to another file of the config would destroy it. */
function checkAccessLog(source: Source, data: Record<string, unknown>): void {
  const file = valueIn(data.accessLog, 'file');
  if (typeof file !== 'string') return;
  const others: [string, unknown][] = [
    ['keyFile', data.keyFile],
    ['controlSocket', data.controlSocket],
    ...['certificate', 'key', 'tokens'].map((key): [string, unknown] => [
      `api.${key}`,
      valueIn(data.api, key),
    ]),
  ];
  const path = source.resolve(file);
  const same = others.find(
    ([, other]) => typeof other === 'string' && source.resolve(other) === path,
  );
  const what = path === resolve(source.file) ? 'this config file' : same?.[0];
  if (what === undefined) return;
  source.wrong(
    ['accessLog', 'file'],
    `is ${quoted(file)}, the same file as ${what}, expected another`,
  );
}

function checkResources(
  source: Source,
  resources: unknown,
  nodes: ReturnType<typeof entries>,
): void {
  const known = new Set(
    nodes.map(({ entry }) => entry.name).filter((name) => typeof name === 'string'),
  );
  const used = new Set<string>();
  const places = new Map<string, number>();
  for (const [index, { entry, at }] of entries(resources, ['resources']).entries()) {
    checkPattern(source, entry.host, entry.path, at, index, places);
    checkHolders(source, entry.nodes, [...at, 'nodes'], known, used);
  }
  if (!Array.isArray(resources)) return;
  for (const { entry, at } of nodes) {
    if (typeof entry.name === 'string' && !used.has(entry.name)) {
      source.warn(
        [...at, 'name'],
        `node ${quoted(entry.name)} holds no resource, so it gets no sessions: add it to a resource or remove it`,
      );
    }
  }
}

function checkPattern(
  source: Source,
  host: unknown,
  path: unknown,
  at: KeyPath,
  index: number,
  places: Map<string, number>,
): void {
  const hostIsWrong = typeof host === 'string' ? hostProblem(host) : undefined;
  const pathIsWrong = typeof path === 'string' ? pathProblem(path) : undefined;
  if (hostIsWrong !== undefined)
    source.wrong([...at, 'host'], `is ${quoted(String(host))}: ${hostIsWrong}`);
  if (pathIsWrong !== undefined)
    source.wrong([...at, 'path'], `is ${quoted(String(path))}: ${pathIsWrong}`);
  if (hostIsWrong !== undefined || pathIsWrong !== undefined || typeof path !== 'string') return;
  if (path.includes('*')) {
    source.warn(
      [...at, 'path'],
      'contains "*", which matches only itself; to match all paths below a path, end it with "/"',
    );
  }
  if (host !== undefined && typeof host !== 'string') return;
  let key: string;
  try {
    key = patternKey({ host, path });
  } catch (error) {
    if (!(error instanceof BatonError)) throw error;
    source.wrong(
      [...at, 'path'],
      `is ${quoted(path)}, which has no normal form, expected a valid path`,
    );
    return;
  }
  const earlier = places.get(key);
  if (earlier === undefined) places.set(key, index);
  else {
    source.wrong(
      [...at, 'path'],
      `has the same host and path as resources[${earlier}], expected each pair only once`,
    );
  }
}

function checkHolders(
  source: Source,
  holders: unknown,
  at: KeyPath,
  known: ReadonlySet<string>,
  used: Set<string>,
): void {
  if (!Array.isArray(holders)) return;
  const here = new Set<string>();
  for (const [index, holder] of holders.entries()) {
    if (typeof holder !== 'string') continue;
    if (here.has(holder)) {
      source.wrong([...at, index], `is ${quoted(holder)} again, expected each node only once`);
    } else if (!known.has(holder)) {
      const meant = nearest(holder, known);
      const expected =
        meant === undefined ? 'expected the name of a node' : `did you mean ${meant}?`;
      source.wrong([...at, index], `is ${quoted(holder)}, but no node has this name, ${expected}`);
    }
    here.add(holder);
    used.add(holder);
  }
}

/** All request heads are in one block of memory, which cannot be larger than this. */
const MOST_HEAD_MEMORY_BYTES = 2 ** 32;

function checkHeadMemory(source: Source, limits: unknown): void {
  const { heads, headBytes } = (limits ?? {}) as Record<string, unknown>;
  if (typeof heads !== 'number' || typeof headBytes !== 'number') return;
  const bytes = headStoreBytes(heads, headBytes);
  if (bytes <= MOST_HEAD_MEMORY_BYTES) return;
  const gib = (bytes / 2 ** 30).toFixed(1);
  source.wrong(
    ['limits', 'heads'],
    `is ${heads}: with headBytes ${headBytes} this takes ${gib} GiB, expected at most 4 GiB`,
  );
}

function checkSocketPath(source: Source, path: unknown): void {
  if (typeof path !== 'string') return;
  const bytes = Buffer.byteLength(source.resolve(path));
  if (bytes > MOST_SOCKET_PATH_BYTES) {
    source.wrong(
      ['controlSocket'],
      `is a path of ${bytes} bytes, expected at most ${MOST_SOCKET_PATH_BYTES}, the limit for a Unix socket`,
    );
  }
}

/** @param data the config with its defaults */
export function checkNodeRules(source: Source, data: Record<string, unknown>): void {
  const addresses = new Uses(source);
  const listed = (key: string): unknown[] =>
    Array.isArray(data[key]) ? (data[key] as unknown[]) : [];
  for (const [index, address] of listed('virtualAddresses').entries()) {
    addresses.claim(address, ['virtualAddresses', index], 'a virtual address');
  }
  for (const [index, address] of listed('balancers').entries()) {
    addresses.claim(address, ['balancers', index], 'a balancer');
  }
  addresses.claim(data.address, ['address'], "the node's own address");
  const listener = typeof data.listen === 'string' ? parseListener(data.listen) : undefined;
  if (
    listener !== undefined &&
    listed('virtualAddresses').includes(formatAddress(listener.address))
  ) {
    source.warn(
      ['listen'],
      'is a virtual address, so this key is needed only if the port differs from that of the virtual server',
    );
  }
}
