/**
 * What no schema can say about a config: that names and addresses are not there twice, that what is
 * referred to exists, that addresses do not contradict each other.
 *
 * The rules read values that may have failed the schema (so that one run tells of every problem)
 * and pass over what is not of the right type: the schema has already said so.
 */
import { BatonError } from '../base/errors.js';
import { quoted } from '../base/text.js';
import { hostProblem, pathProblem, patternKey } from '../directory/pattern.js';
import { headStoreBytes } from '../engine/head-store.js';
import { formatAddress } from '../wire/address.js';
import { EXPECTED_ADDRESS } from './schema.js';
import type { ConfigSource, KeyPath } from './source.js';
import { isLoopbackText, nearest, parseListener } from './values.js';

/** Linux: sizeof(sockaddr_un.sun_path) less the terminating zero. */
const MOST_SOCKET_PATH_BYTES = 107;

/** The entries of a list in the file, each with its path. Of something that is no list: none. */
function entries(value: unknown, path: KeyPath): { entry: Record<string, unknown>; at: KeyPath }[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((entry: unknown, index) =>
    typeof entry === 'object' && entry !== null
      ? [{ entry: entry as Record<string, unknown>, at: [...path, index] }]
      : [],
  );
}

/** Remembers who used a value first, and tells of everyone who uses it again. */
class Uses {
  private readonly first = new Map<string, string>();
  constructor(private readonly source: ConfigSource) {}

  /** `what` is how the user of the value is called in the message of the next one. */
  claim(value: unknown, at: KeyPath, what: string): void {
    if (typeof value !== 'string') return;
    const holder = this.first.get(value);
    if (holder === undefined) this.first.set(value, what);
    else this.source.wrong(at, `is ${quoted(value)}, which is ${holder} already, expected another`);
  }
}

/** @param replayed the config is for a capture, whose addresses need not be on any link */
export function checkBalancerRules(source: ConfigSource, replayed: boolean): void {
  const data = source.data as Record<string, unknown>;
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
        `is ${listener}, which is virtual server ${quoted(holder)} already, expected another address or port`,
      );
    if (!replayed && typeof entry.address === 'string' && isLoopbackText(entry.address)) {
      const what = `is ${quoted(entry.address)}, a loopback address`;
      source.wrong([...at, 'address'], `${what}, expected ${EXPECTED_ADDRESS}`);
    }
    // Several virtual servers may share an address: it is claimed once.
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
    const what = `is ${quoted(data.nodeInterface)}, which is the interface already`;
    source.wrong(['nodeInterface'], `${what}, expected another, or no such key`);
  }
  checkResources(source, data.resources, nodes);
  checkSocketPath(source, data.controlSocket);
  checkHeadMemory(source, data.limits);
}

function checkResources(
  source: ConfigSource,
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
        `node ${quoted(entry.name)} holds no resource and will get no session`,
      );
    }
  }
}

function checkPattern(
  source: ConfigSource,
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
      'has a "*", which stands for itself; a path that ends in "/" stands for everything below it',
    );
  }
  if (host !== undefined && typeof host !== 'string') return;
  let key: string;
  try {
    key = patternKey({ host, path });
  } catch (error) {
    if (!(error instanceof BatonError)) throw error;
    source.wrong([...at, 'path'], `is ${quoted(path)}, which has no normal form`);
    return;
  }
  const earlier = places.get(key);
  if (earlier === undefined) places.set(key, index);
  else {
    source.wrong(
      [...at, 'path'],
      `is the same host and path as resources[${earlier}], expected each only once`,
    );
  }
}

function checkHolders(
  source: ConfigSource,
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
      source.wrong([...at, index], `is ${quoted(holder)} once more, expected each node only once`);
    } else if (!known.has(holder)) {
      const meant = nearest(holder, known);
      const expected =
        meant === undefined ? 'expected the name of a node' : `did you mean ${meant}?`;
      source.wrong([...at, index], `is ${quoted(holder)}, and there is no such node, ${expected}`);
    }
    here.add(holder);
    used.add(holder);
  }
}

/** Rooms for heads lie in one memory, which can not be larger than this. */
const MOST_HEAD_MEMORY_BYTES = 2 ** 32;

function checkHeadMemory(source: ConfigSource, limits: unknown): void {
  const { heads, headBytes } = (limits ?? {}) as Record<string, unknown>;
  if (typeof heads !== 'number' || typeof headBytes !== 'number') return;
  const bytes = headStoreBytes(heads, headBytes);
  if (bytes <= MOST_HEAD_MEMORY_BYTES) return;
  const gib = (bytes / 2 ** 30).toFixed(1);
  source.wrong(
    ['limits', 'heads'],
    `is ${heads}, which with heads of ${headBytes} bytes takes ${gib} GiB, expected at most 4 GiB in all`,
  );
}

function checkSocketPath(source: ConfigSource, path: unknown): void {
  if (typeof path !== 'string') return;
  const bytes = Buffer.byteLength(source.resolve(path));
  if (bytes > MOST_SOCKET_PATH_BYTES) {
    source.wrong(
      ['controlSocket'],
      `is a path of ${bytes} bytes in all, expected at most ${MOST_SOCKET_PATH_BYTES}, the most for a Unix socket`,
    );
  }
}

export function checkNodeRules(source: ConfigSource): void {
  const data = source.data as Record<string, unknown>;
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
      'is a virtual address: needed only when its port is not that of the virtual server',
    );
  }
}
