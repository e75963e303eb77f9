/**
 * The rules of a config that a schema cannot express. Names and addresses are unique, references
 * exist, and addresses do not contradict each other.
 *
 * The rules also read values that failed the schema, so that one run reports all problems. They
 * skip values of a wrong type, since the schema has reported those.
 */
import { resolve } from 'node:path';
import { quoted } from '../base/text.js';
import { headStoreBytes } from '../engine/head-store.js';
import { formatAddress, formatEndpoint, LOCAL_NAME } from '../wire/address.js';
import { type Entry, entries, Uses } from './rules-parts.js';
import { checkResources } from './rules-resources.js';
import { checkServers, type ServerPlaces, takenBy } from './rules-servers.js';
import type { Source } from './source.js';
import { parseListener } from './values.js';

/** Linux: sizeof(sockaddr_un.sun_path) less the terminating zero. */
const MOST_SOCKET_PATH_BYTES = 107;

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

  const virtual = new Uses(source);
  const known = new Set(
    nodes.flatMap(({ entry }) => (typeof entry.name === 'string' ? [entry.name] : [])),
  );
  const used = new Set<string>();
  const places = checkServers(source, servers, virtual, known, used, replayed);
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
  checkLocal(source, nodes);
  checkCarried(source, servers, nodes);
  checkResources(source, data.resources, servers, known, used);
  for (const { entry, at } of nodes) {
    if (typeof entry.name === 'string' && !used.has(entry.name)) {
      source.warn(
        [...at, 'name'],
        `node ${quoted(entry.name)} holds no resource, so it gets no sessions: add it to a resource or remove it`,
      );
    }
  }
  checkSocketPath(source, data.controlSocket);
  checkHeadMemory(source, data.limits);
  checkListeners(source, data, places);
  checkAccessLog(source, data);
}

/** The balancer itself is reached without a router. */
function checkLocal(source: Source, nodes: readonly Entry[]): void {
  const local = nodes.find(({ entry }) => entry.address === LOCAL_NAME);
  const via = local?.entry.via;
  if (local === undefined || via === undefined || via === 'link') return;
  const what = `is ${quoted(String(via))}, but the node is this machine itself (address: local)`;
  source.wrong([...local.at, 'via'], `${what}: leave out the key`);
}

/** Packets are carried across routers only as far as this version can. */
function checkCarried(source: Source, servers: readonly Entry[], nodes: readonly Entry[]): void {
  const carried = nodes.find(({ entry }) => entry.via === 'ixp');
  if (carried === undefined) return;
  const at = [...carried.at, 'via'];
  const { address } = carried.entry;
  if (typeof address === 'string' && address.includes(':'))
    source.wrong(at, 'is "ixp", but the node has an IPv6 address, expected "link"');
  for (const { entry } of servers) {
    const what = `is "ixp", but virtual server ${quoted(String(entry.name))}`;
    if (entry.mode === 'forward') source.wrong(at, `${what} has mode: forward, expected "link"`);
    if (typeof entry.address === 'string' && entry.address.includes(':'))
      source.wrong(at, `${what} has an IPv6 address, expected "link"`);
  }
}

/** The value of `key` in the map `map` of the file; undefined if there is no such map. */
function valueIn(map: unknown, key: string): unknown {
  return typeof map === 'object' && map !== null
    ? (map as Record<string, unknown>)[key]
    : undefined;
}

/** @param servers where clients reach the virtual servers */
function checkListeners(
  source: Source,
  data: Record<string, unknown>,
  servers: readonly ServerPlaces[],
): void {
  const uses = new Uses(source);
  for (const key of ['api', 'metrics']) {
    const listen = valueIn(data[key], 'listen');
    const parsed = typeof listen === 'string' ? parseListener(listen) : undefined;
    if (parsed === undefined) continue;
    const text = formatEndpoint(parsed);
    const at = [key, 'listen'];
    const address = formatAddress(parsed.address);
    const ports = [{ from: parsed.port, to: parsed.port }];
    const taken = takenBy(servers, { address, transport: 'tcp', ports });
    if (taken !== undefined) {
      const what = `is ${quoted(text)}, already used by virtual server ${quoted(taken.name)}`;
      source.wrong(at, `${what}, expected another address or port`);
    } else if (servers.some((server) => server.address === address)) {
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
