/** A virtual server as a value: made from its entry of the config, compared, and put into words. */
import type { Static } from '@sinclair/typebox';
import { Protocol } from '../directory/dispatcher.js';
import type { PredictorName } from '../directory/predictors/index.js';
import {
  KeepAlive as KeepAliveNumber,
  Mode,
  Retry as RetryNumber,
  type ServerAt,
} from '../engine/farm.js';
import { type Endpoint, formatAddress, requireAddress } from '../wire/address.js';
import { Protocol as IpProtocol } from '../wire/ipv4.js';
import {
  commonPort,
  formatListener,
  inOrder,
  type PortForms,
  type PortRange,
  parsePorts,
  portForms,
} from './ports.js';
import {
  type KeepAlive,
  type Retry,
  SERVER_DEFAULTS,
  type ServerMode,
  type ServerProtocol,
  type Transport,
  type VirtualServer as VirtualServerSchema,
} from './schema-objects.js';
import { formatConfigDuration, parseDuration } from './values.js';

/** The text of a key that is not there. */
export const NOT_SET = 'not set';
const ALL_NODES = 'all';
/** Where a virtual server finds its resources. */
const OWN = 'own';
const COMMON = 'common';

/** A virtual server, as every part of the balancer takes it. */
export interface VirtualServer extends Endpoint {
  readonly name: string;
  /** The lowest of `ports`. */
  readonly port: number;
  /** In ascending order, without overlap. With mode handoff: one port. */
  readonly ports: readonly PortRange[];
  readonly transport: Transport;
  readonly mode: ServerMode;
  /** What is read before the handoff. Without meaning for the mode forward. */
  readonly protocol: ServerProtocol;
  readonly predictor: PredictorName;
  readonly keepAlive: KeepAlive;
  readonly retry: Retry;
  /** With protocol tcp: how long to wait for the client's first bytes, in ms. */
  readonly firstBytes: number;
  /** Indices of the nodes of the config that get connections. Undefined: all nodes. */
  readonly nodes: readonly number[] | undefined;
  /** How long a client address is remembered, in ms; 0: not at all. */
  readonly sticky: number;
  /** Bits of the client address that are remembered. */
  readonly stickyPrefix: number;
  /** Size of the table of buckets, a power of two; 0: each connection has a session. */
  readonly buckets: number;
  /** In ms. */
  readonly bucketIdle: number;
  /** Its requests are looked up among resources of its own. Default: among the common ones. */
  readonly ownResources?: boolean;
}

/** What identifies a virtual server beside its name. */
export type ServerPlace = Pick<VirtualServer, 'address' | 'ports' | 'transport'>;

/**
 * The value of an entry that has passed all checks.
 * @param nodes the index of each node of the config, by name
 */
export function virtualServer(
  entry: Static<typeof VirtualServerSchema>,
  nodes: ReadonlyMap<string, number>,
): VirtualServer {
  const defaults = SERVER_DEFAULTS;
  const ports = portsOf(entry);
  return {
    name: entry.name,
    address: requireAddress(entry.address),
    port: ports[0]!.from,
    ports,
    transport: entry.transport ?? defaults.transport,
    mode: entry.mode ?? defaults.mode,
    protocol: entry.protocol ?? defaults.protocol,
    predictor: entry.predictor,
    keepAlive: entry.keepAlive ?? defaults.keepAlive,
    retry: entry.retry ?? defaults.retry,
    firstBytes: ms(entry.firstBytes ?? defaults.firstBytes),
    nodes: entry.nodes?.map((name) => nodes.get(name)!),
    sticky: entry.sticky === undefined ? 0 : ms(entry.sticky),
    stickyPrefix: entry.stickyPrefix ?? defaults.stickyPrefix,
    buckets: entry.buckets ?? 0,
    bucketIdle: ms(entry.bucketIdle ?? defaults.bucketIdle),
    ...(entry.resources === undefined ? {} : { ownResources: true }),
  };
}

/** The ports of an entry, as far as they are valid. */
export function portsOf(entry: {
  readonly port?: number | undefined;
  readonly ports?: PortForms | undefined;
}): readonly PortRange[] {
  const { port, ports } = entry;
  const forms = [...(port === undefined ? [] : [port]), ...portForms(ports ?? [])];
  return inOrder(forms.flatMap((form) => parsePorts(form) ?? []));
}

/** Whether both would get the same packets: those to one port of one address. */
export function overlap(some: ServerPlace, other: ServerPlace): boolean {
  return (
    some.address === other.address &&
    some.transport === other.transport &&
    commonPort(some.ports, other.ports) !== undefined
  );
}

/** "10.99.0.100:80", "10.99.0.101:80,8080,9000-9100" or "10.99.0.101:5353/udp". */
export function formatPlace({ address, ports, transport }: ServerPlace): string {
  return formatListener(formatAddress(address), ports, transport);
}

/**
 * Its keys that can change at run time, as text; those without meaning for its kind are left out.
 */
export function serverKeys(
  server: VirtualServer,
  nodes: readonly { readonly name: string }[],
): readonly (readonly [key: string, value: string])[] {
  const { mode, protocol, transport, predictor, keepAlive, retry, firstBytes, sticky } = server;
  const { ownResources: own = false } = server;
  const names = server.nodes?.map((index) => nodes[index]?.name ?? '').toSorted();
  const candidates = ['nodes', names === undefined ? ALL_NODES : names.join(', ')] as const;
  const first = [
    ['mode', mode],
    ['transport', transport],
    ['predictor', predictor],
  ] as const;
  if (mode === 'handoff') {
    return [
      ...first,
      ['protocol', protocol],
      ['retry', retry],
      ...(protocol === 'http' ? [['keepAlive', keepAlive] as const] : []),
      ...(protocol === 'tcp' ? [] : [['resources', own ? OWN : COMMON] as const]),
      ...(protocol === 'tcp'
        ? [['firstBytes', formatConfigDuration(firstBytes)] as const, candidates]
        : []),
    ];
  }
  const { stickyPrefix, buckets, bucketIdle } = server;
  return [
    ...first,
    candidates,
    ['sticky', sticky === 0 ? NOT_SET : formatConfigDuration(sticky)],
    ...(sticky === 0 ? [] : [['stickyPrefix', String(stickyPrefix)] as const]),
    ['buckets', buckets === 0 ? NOT_SET : String(buckets)],
    ...(buckets === 0 ? [] : [['bucketIdle', formatConfigDuration(bucketIdle)] as const]),
  ];
}

const USUAL: Readonly<Record<string, unknown>> = {
  ...SERVER_DEFAULTS,
  nodes: ALL_NODES,
  resources: COMMON,
};

/** The text of a key of a virtual server that does not have it. */
export function usualValue(key: string): string {
  return String(USUAL[key] ?? NOT_SET);
}

/** "round-robin, mode forward, sticky 30m": the predictor, and what is not as usual. */
export function serverSummary(
  server: VirtualServer,
  nodes: readonly { readonly name: string }[],
): string {
  const values = serverKeys(server, nodes).filter(
    ([key, value]) => key !== 'predictor' && value !== usualValue(key),
  );
  return [server.predictor, ...values.map(([key, value]) => `${key} ${value}`)].join(', ');
}

/** A virtual server as an engine takes it. */
export function serverAt(
  server: Omit<VirtualServer, 'nodes'> & { readonly slot: number; readonly retired: boolean },
): ServerAt {
  const { slot, address, port, retired, firstBytes } = server;
  return {
    slot,
    address,
    port,
    retired,
    mode: Mode[server.mode],
    protocol: Protocol[server.protocol],
    keepAlive: KeepAliveNumber[server.keepAlive],
    retry: RetryNumber[server.retry],
    firstBytes,
    transport: server.transport === 'udp' ? IpProtocol.udp : IpProtocol.tcp,
    ports: server.ports,
  };
}

/** The schema has checked that it is a duration. */
function ms(text: string): number {
  return parseDuration(text)!;
}
