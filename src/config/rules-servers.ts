/**
 * The rules of virtual servers: which keys go together, and that no two get the same packets. They
 * skip values of a wrong type, since the schema has reported those.
 */
import { isIPv6 } from 'node:net';
import { quoted } from '../base/text.js';
import { MOST_FORWARD_RANGES } from '../engine/forward/layout.js';
import { commonPort, formatPorts, type PortForms, type PortRange, parsePorts } from './ports.js';
import { checkHolders, type Entry, Uses } from './rules-parts.js';
import { EXPECTED_PORTS, SERVER_DEFAULTS, VirtualServer } from './schema-objects.js';
import { EXPECTED_VIRTUAL } from './schema-parts.js';
import type { KeyPath, Source } from './source.js';
import { isLoopbackText } from './values.js';
import { portsOf } from './virtual-server.js';

/** Where clients reach a virtual server. */
export interface ServerPlaces {
  readonly name: string;
  readonly address: string;
  readonly transport: string;
  readonly ports: readonly PortRange[];
}

/** A rule for a key that not every virtual server may have. */
interface KeyRule {
  readonly key: string;
  /** Whether an entry may have the key. */
  readonly applies: (server: Kind) => boolean;
  /** Why it may not, after "is set, but ". */
  readonly why: (server: Kind) => string;
  readonly remedy: string;
}

/** The values that decide which other keys make sense, with their defaults. */
interface Kind {
  readonly mode: unknown;
  readonly protocol: unknown;
  readonly hasSticky: boolean;
  readonly hasBuckets: boolean;
}

const isHandoff = ({ mode }: Kind): boolean => mode === 'handoff';
const isForward = ({ mode }: Kind): boolean => mode === 'forward';
/** Whether nodes are found by resources. */
const readsNames = (server: Kind): boolean => isHandoff(server) && server.protocol !== 'tcp';
const modeIs = ({ mode }: Kind): string => `mode is ${mode}`;
/** The protocol of a handoff decides; of another mode it is not worth a word. */
const modeOrProtocolIs = (server: Kind): string =>
  isHandoff(server) ? `protocol is ${server.protocol}` : modeIs(server);

const KEY_RULES: readonly KeyRule[] = [
  {
    key: 'protocol',
    applies: isHandoff,
    why: modeIs,
    remedy: 'remove it: the mode forward reads nothing of a connection',
  },
  {
    key: 'keepAlive',
    applies: (server) => isHandoff(server) && server.protocol === 'http',
    why: modeOrProtocolIs,
    remedy: 'remove it, or use mode: handoff with protocol: http',
  },
  { key: 'retry', applies: isHandoff, why: modeIs, remedy: 'remove it, or use mode: handoff' },
  {
    key: 'firstBytes',
    applies: (server) => isHandoff(server) && server.protocol === 'tcp',
    why: modeOrProtocolIs,
    remedy: 'remove it, or use mode: handoff with protocol: tcp',
  },
  {
    key: 'nodes',
    applies: (server) => isForward(server) || server.protocol === 'tcp',
    why: modeOrProtocolIs,
    remedy: 'remove it and name the nodes in resources, or use mode: forward or protocol: tcp',
  },
  {
    key: 'resources',
    applies: readsNames,
    why: modeOrProtocolIs,
    remedy: 'remove it, or use mode: handoff with protocol: http or tls',
  },
  { key: 'ports', applies: isForward, why: modeIs, remedy: 'expected port, or use mode: forward' },
  { key: 'sticky', applies: isForward, why: modeIs, remedy: 'remove it, or use mode: forward' },
  {
    key: 'stickyPrefix',
    applies: ({ hasSticky }) => hasSticky,
    why: () => 'sticky is not',
    remedy: 'add sticky, or remove it',
  },
  { key: 'buckets', applies: isForward, why: modeIs, remedy: 'remove it, or use mode: forward' },
  {
    key: 'bucketIdle',
    applies: ({ hasBuckets }) => hasBuckets,
    why: () => 'buckets is not',
    remedy: 'add buckets, or remove it',
  },
];

/**
 * @param servers the entries of `virtualServers`
 * @param virtual addresses that are in use
 * @param known names of the nodes
 * @param used gets the names of nodes that get connections from these virtual servers
 * @returns where clients reach them, as far as that is valid
 */
export function checkServers(
  source: Source,
  servers: readonly Entry[],
  virtual: Uses,
  known: ReadonlySet<string>,
  used: Set<string>,
  replayed: boolean,
): readonly ServerPlaces[] {
  const names = new Uses(source);
  const places: ServerPlaces[] = [];
  const seen = new Set<unknown>();
  let ranges = 0;
  for (const { entry, at } of servers) {
    names.claim(entry.name, [...at, 'name'], 'the name of a virtual server');
    if (!replayed && typeof entry.address === 'string' && isLoopbackText(entry.address)) {
      const what = `is ${quoted(entry.address)}, a loopback address`;
      source.wrong([...at, 'address'], `${what}, expected ${EXPECTED_VIRTUAL}`);
    }
    if (typeof entry.address === 'string' && isIPv6(entry.address))
      checkIpv6(source, entry, at, replayed);
    // Virtual servers may share an address, so it is claimed once.
    if (!seen.has(entry.address))
      virtual.claim(entry.address, [...at, 'address'], 'a virtual address');
    seen.add(entry.address);
    checkKeys(source, entry, at);
    const before = ranges;
    if (checkPlace(source, entry, at, places) && entry.mode === 'forward')
      ranges += places.at(-1)?.ports.length ?? 0;
    if (before <= MOST_FORWARD_RANGES && ranges > MOST_FORWARD_RANGES) {
      const what = `has range ${MOST_FORWARD_RANGES + 1} of the ports`;
      source.wrong(
        at,
        `${what} of virtual servers with mode forward, expected at most ${MOST_FORWARD_RANGES}: use ranges instead of single ports`,
      );
    }
    checkNodes(source, entry, at, known, used);
  }
  return places;
}

function checkKeys(source: Source, entry: Entry['entry'], at: KeyPath): void {
  const server: Kind = {
    mode: entry.mode ?? SERVER_DEFAULTS.mode,
    protocol: entry.protocol ?? SERVER_DEFAULTS.protocol,
    hasSticky: entry.sticky !== undefined,
    hasBuckets: entry.buckets !== undefined,
  };
  const { buckets, transport } = entry;
  for (const { key, applies, why, remedy } of KEY_RULES) {
    if (entry[key] !== undefined && !applies(server))
      source.wrong([...at, key], `is set, but ${why(server)}: ${remedy}`, 'key');
  }
  if (transport === 'udp' && isHandoff(server)) {
    const what = 'is "udp", but mode is handoff, which is for tcp';
    source.wrong([...at, 'transport'], `${what}: use mode: forward, or remove it`);
  }
  if (typeof buckets === 'number' && !isPowerOfTwo(buckets)) {
    const below = 2 ** Math.floor(Math.log2(buckets));
    source.wrong(
      [...at, 'buckets'],
      `is ${buckets}, not a power of two, expected one such as ${below} or ${below * 2}`,
    );
  }
  if (server.hasBuckets && entry.predictor === 'least-connections') {
    const what = 'is "least-connections", but buckets go by the weights of the nodes alone';
    source.warn([...at, 'predictor'], `${what}: remove it, or remove buckets`);
  }
  if (server.hasSticky && server.hasBuckets) {
    source.wrong(
      [...at, 'sticky'],
      'is set beside buckets, which choose a node by address and port: remove one of both',
      'key',
    );
  }
}

/** The other rules see numbers that the schema has refused; it has said so. */
function isPowerOfTwo(number: number): boolean {
  return !Number.isInteger(number) || number < 1 || (number & (number - 1)) === 0;
}

/**
 * Checks the ports, and that they are no other virtual server's. Adds them to `places` if they are
 * valid, and returns whether they are.
 */
function checkPlace(
  source: Source,
  entry: Entry['entry'],
  at: KeyPath,
  places: ServerPlaces[],
): boolean {
  const { port, ports } = entry;
  const isForwarding = entry.mode === 'forward';
  if (port === undefined && (!isForwarding || ports === undefined)) {
    const expected = VirtualServer.properties.port.expected as string;
    const alternative = isForwarding ? ', or ports' : '';
    source.missing([...at, 'port'], `is missing, expected ${expected}${alternative}`);
  } else if (port !== undefined && ports !== undefined) {
    source.wrong([...at, 'ports'], 'is set beside port: remove one of both', 'key');
  }
  if (!checkForms(source, ports, [...at, 'ports'])) return false;
  if (typeof entry.address !== 'string' || (port !== undefined && typeof port !== 'number'))
    return false;
  const place: ServerPlaces = {
    name: String(entry.name),
    address: entry.address,
    transport: String(entry.transport ?? SERVER_DEFAULTS.transport),
    ports: portsOf({ port, ports: ports as PortForms }),
  };
  const taken = takenBy(places, place);
  if (taken !== undefined) {
    const where = `${place.address}:${taken.port}`;
    const by = `already used by virtual server ${quoted(taken.name)}`;
    if (ports === undefined)
      source.wrong(at, `is ${where}, ${by}, expected another address or port`);
    else {
      const what = `is ${formatPorts(place.ports)}, but ${where} is ${by}`;
      source.wrong([...at, 'ports'], `${what}, expected other ports or another address`);
    }
  }
  places.push(place);
  return true;
}

/** The first of `places` with a port of `place`, and that port. */
export function takenBy(
  places: readonly ServerPlaces[],
  place: Omit<ServerPlaces, 'name'>,
): { name: string; port: number } | undefined {
  for (const { name, address, transport, ports } of places) {
    if (address !== place.address || transport !== place.transport) continue;
    const port = commonPort(ports, place.ports);
    if (port !== undefined) return { name, port };
  }
  return undefined;
}

/** Returns whether `ports` is valid, or is not there. */
function checkForms(source: Source, ports: unknown, at: KeyPath): boolean {
  if (ports === undefined) return true;
  const isList = Array.isArray(ports);
  const forms: unknown[] = isList ? ports : [ports];
  if (forms.length === 0) source.wrong(at, `is an empty list, expected ${EXPECTED_PORTS}`);
  let valid = forms.length > 0;
  for (const [index, form] of forms.entries()) {
    // Other types are a matter of the schema.
    const isForm = typeof form === 'string' || (typeof form === 'number' && form % 1 === 0);
    if (isForm && parsePorts(form) !== undefined) continue;
    valid = false;
    const shown = typeof form === 'string' ? quoted(form) : String(form);
    if (isForm)
      source.wrong(isList ? [...at, index] : at, `is ${shown}, expected ${EXPECTED_PORTS}`);
  }
  return valid;
}

function checkNodes(
  source: Source,
  entry: Entry['entry'],
  at: KeyPath,
  known: ReadonlySet<string>,
  used: Set<string>,
): void {
  const isTcp = entry.mode === 'forward' || entry.protocol === 'tcp';
  if (entry.nodes !== undefined) checkHolders(source, entry.nodes, [...at, 'nodes'], known, used);
  else if (isTcp) for (const name of known) used.add(name);
}

/** What a virtual server with an IPv6 address cannot have. */
function checkIpv6(
  source: Source,
  entry: Record<string, unknown>,
  at: KeyPath,
  replayed: boolean,
): void {
  const what = `is ${quoted(String(entry.address))}, an IPv6 address`;
  if (entry.mode === 'forward') {
    const expected = 'expected an IPv4 address, or mode: handoff';
    source.wrong([...at, 'address'], `${what}, but mode is forward, ${expected}`);
  } else if (replayed) {
    const expected = 'expected an IPv4 address';
    source.wrong([...at, 'address'], `${what}, which a replay cannot read, ${expected}`);
  }
}
