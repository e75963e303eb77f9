/**
 * The objects of the balancer's config that can come and go at run time: virtual servers, nodes and
 * resources. Calls of the API that add one have the same keys.
 */
import { Type } from '@sinclair/typebox';
import { PREDICTOR_NAMES } from '../directory/predictors/index.js';
import { VIAS, type Via } from '../engine/farm.js';
import { MOST_PORT } from '../wire/address.js';
import {
  choice,
  closed,
  count,
  duration,
  EXPECTED_ADDRESS,
  EXPECTED_VIRTUAL,
  name,
  whereItApplies,
} from './schema-parts.js';

export const SERVER_MODES = ['handoff', 'forward'] as const;
export type ServerMode = (typeof SERVER_MODES)[number];

export const SERVER_PROTOCOLS = ['http', 'tls', 'tcp'] as const;
export type ServerProtocol = (typeof SERVER_PROTOCOLS)[number];

export const KEEP_ALIVES = ['sticky', 'migrate'] as const;
export type KeepAlive = (typeof KEEP_ALIVES)[number];

export const RETRIES = ['safe', 'all'] as const;
export type Retry = (typeof RETRIES)[number];

export const TRANSPORTS = ['tcp', 'udp'] as const;
export type Transport = (typeof TRANSPORTS)[number];

export const NODE_WAYS = ['auto', 'adopt', 'replay'] as const;
/** How a node takes sessions; `Way` has their codes (directory/node-memory.ts). */
export type NodeWay = (typeof NODE_WAYS)[number];

/** How packets get to a node: the key `via`. */
export const NODE_VIAS = VIAS;
export type NodeVia = Via;

/** What a node has without the key. */
export const NODE_DEFAULTS = { handoff: 'auto', via: 'link' } as const;

/** What a virtual server has without the key. */
export const SERVER_DEFAULTS = {
  mode: 'handoff',
  protocol: 'http',
  keepAlive: 'sticky',
  retry: 'safe',
  firstBytes: '50ms',
  transport: 'tcp',
  stickyPrefix: 32,
  bucketIdle: '1m',
} as const;

/** The largest weight of a node. */
export const MOST_WEIGHT = 1_000;
/** Ports and ranges of one virtual server. */
export const MOST_PORT_RANGES = 64;
const FEWEST_BUCKETS = 16;
const MOST_BUCKETS = 1_048_576;
/** RFC 7301 section 3.1: the length of a protocol name is one byte, and not 0. */
const MOST_ALPN_BYTES = 255;
const MOST_ALPN_NAMES = 16;
/** Of one virtual server. They are copied between threads in one piece. */
const MOST_OWN_RESOURCES = 10_000;
/** The head that goes to a node grows by at most this much. */
const MOST_REWRITE_BYTES = 1_024;

const port = {
  minimum: 1,
  maximum: MOST_PORT,
  expected: `a port number from 1 to ${MOST_PORT}`,
} as const;

/** Describes an entry of `ports` in error messages. */
export const EXPECTED_PORTS = `a port from 1 to ${MOST_PORT}, a range such as "9000-9100", "any", or a list of up to ${MOST_PORT_RANGES} of these`;

const portForms = [
  Type.Integer({ ...port, expected: EXPECTED_PORTS }),
  Type.String({ expected: EXPECTED_PORTS }),
];

/** A resource in the config file, and in calls of the API that add one. */
export const Resource = Type.Object(
  {
    host: Type.Optional(
      Type.String({
        description:
          'The host of the request: a name, or `*.` and a name, which matches each name below it. Without this key, any host matches. The most specific host wins.',
        expected: 'a host name such as www.example.org or *.example.org',
      }),
    ),
    path: Type.String({
      description:
        'The path. A path that ends in `/` matches all paths below it. Another path matches only itself. The longest match wins. Characters outside ASCII may be written as they are or percent-encoded. Several slashes in a row count as one.',
      expected: 'a path that begins with "/"',
    }),
    alpn: Type.Optional(
      Type.Array(
        Type.String({
          pattern: `^[!-~]{1,${MOST_ALPN_BYTES}}$`,
          expected: 'the name of a protocol such as h2 or http/1.1',
        }),
        {
          minItems: 1,
          maxItems: MOST_ALPN_NAMES,
          description:
            'For virtual servers with `protocol: tls`: the resource matches only connections whose client offers one of these application protocols (ALPN, RFC 7301). It wins over a resource of the same host without this key. The path is `/`.',
          expected: `a list of 1 to ${MOST_ALPN_NAMES} names of protocols such as h2`,
        },
      ),
    ),
    rewrite: Type.Optional(
      Type.String({
        maxLength: MOST_REWRITE_BYTES,
        description:
          'For virtual servers with `protocol: http`: the node gets the request with this path. `%p` stands for what follows the matched path. The query stays as it is. With `keepAlive: sticky` this applies only to the first request of a connection, because the balancer reads no other.',
        expected: `a path that begins with "/", of at most ${MOST_REWRITE_BYTES} characters`,
      }),
    ),
    nodes: Type.Array(Type.String({ expected: 'the name of a node' }), {
      minItems: 1,
      description: 'Names of the nodes that hold this content.',
      expected: 'a list of at least one node name',
    }),
  },
  { ...closed, expected: 'a map with keys such as host, path and nodes' },
);

/** A virtual server in the config file, and in calls of the API that add one. */
export const VirtualServer = Type.Object(
  {
    name: name('The name of the virtual server in tables and messages.'),
    // In a replay a virtual server may have a loopback address. Elsewhere rules.ts refuses it.
    address: Type.String({
      format: 'ip-host',
      description:
        'The virtual address. Baton adds it to the interface, and removes it when it stops.',
      expected: EXPECTED_VIRTUAL,
    }),
    port: Type.Optional(
      Type.Integer({
        ...port,
        description: 'The port. With `mode: forward` there may be `ports` instead.',
      }),
    ),
    ports: Type.Optional(
      Type.Union(
        [
          ...portForms,
          Type.Array(Type.Union(portForms, { expected: EXPECTED_PORTS }), {
            maxItems: MOST_PORT_RANGES,
          }),
        ],
        {
          description:
            'With `mode: forward`, the ports: a port, a range such as `"9000-9100"`, `any`, or a list of ports and ranges.',
          expected: EXPECTED_PORTS,
        },
      ),
    ),
    mode: whereItApplies(
      choice(
        SERVER_MODES,
        'How a node gets a connection. `handoff`: Baton completes the handshake, reads what the client asks for, and hands the connection over. `forward`: the first packet chooses a node, and every packet is forwarded to it. A virtual server that runs cannot get another mode.',
        SERVER_DEFAULTS.mode,
      ),
    ),
    protocol: whereItApplies(
      choice(
        SERVER_PROTOCOLS,
        'With `mode: handoff`, what Baton reads before it hands over. `http`: the head of the request. `tls`: the ClientHello, with the name of the host. `tcp`: nothing. The connection is handed over with the first bytes of the client.',
        SERVER_DEFAULTS.protocol,
      ),
    ),
    transport: whereItApplies(
      choice(
        TRANSPORTS,
        'The transport protocol. `udp` needs `mode: forward`. A virtual server that runs cannot get another transport protocol.',
        SERVER_DEFAULTS.transport,
      ),
    ),
    predictor: choice(
      PREDICTOR_NAMES,
      'How one of the holders is picked: in turn, or the one with the fewest sessions. Both take weights into account.',
      'round-robin',
    ),
    keepAlive: whereItApplies(
      choice(
        KEEP_ALIVES,
        'With `protocol: http`, where the later requests of a connection go. `sticky`: to the node that got the first one. `migrate`: each to a holder of what it asks for; the connection moves there.',
        SERVER_DEFAULTS.keepAlive,
      ),
    ),
    retry: whereItApplies(
      choice(
        RETRIES,
        'With `mode: handoff`, which requests get another node when theirs fails before the client has a byte of the answer. `safe`: those with the method GET, HEAD, OPTIONS or TRACE, which change nothing (RFC 9110 section 9.2.1), and TLS connections without early data. `all`: also others, such as POST. A node may have begun to carry them out.',
        SERVER_DEFAULTS.retry,
      ),
    ),
    firstBytes: whereItApplies(
      duration(
        'With `protocol: tcp`, how long Baton waits for the first bytes of the client. Then it hands the connection over without any, for protocols in which the server speaks first.',
        SERVER_DEFAULTS.firstBytes,
      ),
    ),
    nodes: Type.Optional(
      Type.Array(Type.String({ expected: 'the name of a node' }), {
        minItems: 1,
        description:
          'With `mode: forward` or `protocol: tcp`, names of the nodes that get connections. Default: all nodes.',
        expected: 'a list of at least one node name',
      }),
    ),
    sticky: Type.Optional(
      Type.String({
        format: 'duration',
        description:
          'With `mode: forward`, how long after its last packet a client address is remembered: its new connections go to the same node. Without this key, no address is remembered.',
        expected:
          'a duration from 1ms to 24h with its unit (ms, s, m, h), such as 300ms, 10s or 15m',
      }),
    ),
    stickyPrefix: whereItApplies(
      count(
        'With `sticky`, bits of the client address that are remembered: with 24, all clients of a network of 256 addresses go to the same node.',
        SERVER_DEFAULTS.stickyPrefix,
        1,
        32,
      ),
    ),
    buckets: Type.Optional(
      Type.Integer({
        minimum: FEWEST_BUCKETS,
        maximum: MOST_BUCKETS,
        description: `With \`mode: forward\`, the size of a fixed table: a hash of client address and port says which bucket has the node. It needs no memory for single connections. The weights say how many buckets each node has; the predictor says nothing. A power of two from ${FEWEST_BUCKETS} to ${MOST_BUCKETS}. Without this key, each connection has a session.`,
        expected: `a power of two from ${FEWEST_BUCKETS} to ${MOST_BUCKETS}`,
      }),
    ),
    bucketIdle: whereItApplies(
      duration(
        'With `buckets`, how long a bucket must be without packets before it may go to another node. While its node is down, it may go at once.',
        SERVER_DEFAULTS.bucketIdle,
      ),
    ),
    resources: Type.Optional(
      Type.Array(Resource, {
        minItems: 1,
        maxItems: MOST_OWN_RESOURCES,
        description:
          'With `mode: handoff` and the protocol `http` or `tls`, resources of its own. Their keys are those of `resources` below. The common ones apply only to virtual servers without this key.',
        expected: `a list of 1 to ${MOST_OWN_RESOURCES} resources`,
      }),
    ),
  },
  { ...closed, expected: 'a map with keys such as name, address, port and predictor' },
);

/** A node in the config file, and in calls of the API that add one. */
export const Node = Type.Object(
  {
    name: name('The name of the node in resources, tables and messages.'),
    address: Type.String({
      format: 'node',
      description:
        "The node's own address, on the link of the interface by which nodes are reached, unless there is a `via`. `local`: the balancer itself. Its own web server answers clients from the virtual addresses, and needs no agent.",
      expected: `${EXPECTED_ADDRESS}, or local`,
    }),
    weight: count(
      'The share of sessions that it gets, relative to the other holders.',
      1,
      1,
      MOST_WEIGHT,
    ),
    handoff: whereItApplies(
      choice(
        NODE_WAYS,
        'How the node takes connections. `adopt`: its kernel continues them, which needs Linux 6.9. `replay`: it repeats the handshake with its own listener, and its shim translates sequence numbers from then on; Linux 5.10 is enough. `auto`: it adopts, and replays what its kernel cannot adopt; WHY in `baton stats` says why.',
        NODE_DEFAULTS.handoff,
      ),
    ),
    via: whereItApplies(
      choice(
        NODE_VIAS,
        'How packets get to the node. `link`: it is on the link of the interface, and only MAC addresses change. `ixp`: it is behind routers, and each packet is carried in a packet to its own address, from which its shim takes it.',
        NODE_DEFAULTS.via,
      ),
    ),
  },
  { ...closed, expected: 'a map with keys such as name, address and weight' },
);
