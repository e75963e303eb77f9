/**
 * The one definition of both config files: from it come the types, the defaults, the checks, the
 * words of every error message and docs/configuration.md.
 *
 * Every key has a `description` (with its unit) for the documentation, and an `expected` that
 * completes the sentence "... is 7, expected" of an error message. A key with a default is never
 * missing once a file has been checked, so its type here is not optional.
 */
import { type Static, Type } from '@sinclair/typebox';
import { LOG_LEVELS } from '../base/log.js';
import { MAX_WORKERS, MAX_XDP_NODES } from '../datapath/xdp-layout.js';
import { PREDICTOR_NAMES } from '../directory/predictors/index.js';

/** The names of what is there to choose from. */
export const DATAPATHS = ['auto', 'xdp', 'packet'] as const;

export type Datapath = (typeof DATAPATHS)[number];

/** Where the control socket is when nobody says otherwise. */
export const DEFAULT_CONTROL_SOCKET = '/run/baton/baton.sock';

/** Virtual servers stay far below what 16 bits of an index can tell apart. */
const MOST_VIRTUAL_SERVERS = 256;
const MOST_ADDRESSES = 64;

function choice<const Names extends readonly string[]>(
  names: Names,
  description: string,
  fallback: Names[number],
) {
  return Type.Unsafe<Names[number]>({
    type: 'string',
    enum: [...names],
    default: fallback,
    description,
    expected:
      names.length === 1 ? `${names[0]}, which is all there is` : `one of ${names.join(', ')}`,
  });
}

function count(description: string, fallback: number, minimum: number, maximum: number) {
  return Type.Integer({
    minimum,
    maximum,
    default: fallback,
    description,
    expected: `a whole number from ${minimum} to ${maximum}`,
  });
}

function duration(description: string, fallback: string) {
  return Type.String({
    format: 'duration',
    default: fallback,
    description,
    expected: 'a duration from 1ms to 24h with its unit (ms, s, m, h), such as 300ms, 10s or 15m',
  });
}

/** How an address is asked for, in the message about one that is none. */
export const EXPECTED_ADDRESS = 'an IPv4 address such as 10.99.0.3';

function address(description: string) {
  return Type.String({ format: 'ipv4-unicast', description, expected: EXPECTED_ADDRESS });
}

/**
 * A virtual server's may be a loopback address in a replay; config-rules.ts refuses it elsewhere.
 */
function virtualAddress(description: string) {
  return Type.String({ format: 'ipv4-host', description, expected: EXPECTED_ADDRESS });
}

function name(description: string) {
  return Type.String({
    pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$',
    description,
    expected: 'a name of 1 to 63 letters, digits, ".", "_" and "-"',
  });
}

function filePath(description: string, fallback?: string) {
  return Type.String({
    minLength: 1,
    pattern: '^[^\\u0000]*$',
    description,
    expected: 'a path of a file',
    ...(fallback === undefined ? {} : { default: fallback }),
  });
}

const interfaceName = (description: string) =>
  Type.String({
    pattern: '^(?!\\.{1,2}$)[^\\s/:\\u0000]{1,15}$',
    description,
    expected: 'the name of a network interface such as eth0',
  });

const closed = { additionalProperties: false } as const;

const Log = Type.Object(
  { level: choice(LOG_LEVELS, 'The least important messages that are still written.', 'info') },
  {
    ...closed,
    default: {},
    description: 'Messages on standard error.',
    expected: 'a map with the key level',
  },
);

const VirtualServer = Type.Object(
  {
    name: name('What the virtual server is called in tables and messages.'),
    address: virtualAddress(
      'The virtual address. Baton puts it on the interface itself and takes it off when it stops.',
    ),
    port: Type.Integer({
      minimum: 1,
      maximum: 65_535,
      description: 'The TCP port.',
      expected: 'a port number from 1 to 65535',
    }),
    predictor: choice(
      PREDICTOR_NAMES,
      'How one node is picked among those that hold what was asked for: in turn, or the one with the fewest sessions; both by weight.',
      'round-robin',
    ),
  },
  { ...closed, expected: 'a map with the keys name, address, port and predictor' },
);

const Node = Type.Object(
  {
    name: name('What the node is called in resources, tables and messages.'),
    address: address(
      "The node's own address, on the link of the interface that nodes are reached by.",
    ),
    weight: count('Its share of the sessions, relative to the other holders.', 1, 1, 1_000),
  },
  { ...closed, expected: 'a map with the keys name, address and weight' },
);

const Resource = Type.Object(
  {
    host: Type.Optional(
      Type.String({
        description:
          'The host that is asked for: a name, or `*.` and a name for every name below it. Absent: any host. The most specific host wins.',
        expected: 'a host name such as www.example.org or *.example.org',
      }),
    ),
    path: Type.String({
      description:
        'The path. One that ends in `/` stands for everything below it, any other for itself alone. The longest match wins. What is beyond ASCII may be written as it is or percent-encoded, and slashes in a row count as one.',
      expected: 'a path that begins with "/"',
    }),
    nodes: Type.Array(Type.String({ expected: 'the name of a node' }), {
      minItems: 1,
      description: 'Names of the nodes that hold it.',
      expected: 'a list of at least one node name',
    }),
  },
  { ...closed, expected: 'a map with the keys host, path and nodes' },
);

const LimitKeys = Type.Object(
  {
    sessions: count('Sessions at one time.', 1_000_000, 1_024, 16_000_000),
    halfOpen: count(
      'Sessions at one time whose handshake is not complete. Beyond it SYNs are answered by stateless cookies, which take no room. Never more than `sessions`.',
      65_536,
      64,
      16_000_000,
    ),
    headBytes: count(
      'Length of a request head, in bytes. A longer one gets 431.',
      16_384,
      1_024,
      65_535,
    ),
    heads: count(
      'Sessions at one time whose request is being collected, or handed over. Never more than `sessions`.',
      65_536,
      64,
      1_000_000,
    ),
    handoffTries: count(
      'Times a handoff is sent to one node before the next holder is tried.',
      2,
      1,
      10,
    ),
    synAckTries: count('Times a SYN/ACK is sent before the handshake is given up.', 5, 1, 10),
  },
  { ...closed, default: {}, description: 'Bounds of every table.', expected: 'a map of limits' },
);

const TimeoutKeys = Type.Object(
  {
    head: duration(
      'For a request head to be complete, from the end of the handshake. Then 408.',
      '10s',
    ),
    handoff: duration('For a node to confirm a handoff before it is sent again.', '300ms'),
    answer: duration(
      'For a node that has confirmed to answer. Then it is asked whether its web server has read the request; if not, another holder gets it.',
      '1s',
    ),
    idle: duration(
      'Without a packet of the client or a notice of the node, until removal (counted as `closed_idle`). It holds while neither side has sent FIN. When the client has, the node is asked whether it has the session still. If it does not answer, the wait is 3 minutes, or `closing` if that is longer, but never more than `idle`. When the node has, it is `closing`.',
      '15m',
    ),
    linger: duration('After the second FIN, or an RST, without a packet, until removal.', '5s'),
    closing: duration("After the node's FIN, without a packet, until removal.", '60s'),
    synAck: duration('To the first retransmission of a SYN/ACK; doubles each time.', '1s'),
  },
  {
    ...closed,
    default: {},
    description: 'Durations with their unit: ms, s, m or h.',
    expected: 'a map of timeouts',
  },
);

export const BalancerFile = Type.Object(
  {
    interface: interfaceName(
      'The network interface that clients are reached by; and nodes, unless there is a `nodeInterface`.',
    ),
    nodeInterface: Type.Optional(
      interfaceName(
        'Another network interface, by which nodes are reached. Nodes name its address as their balancer. Absent: `interface`.',
      ),
    ),
    datapath: choice(
      DATAPATHS,
      'How frames get in and out. `xdp`: a program in the kernel forwards what was handed over, and gives the engine the rest by AF_XDP. `packet`: the engine takes everything, by an AF_PACKET ring. `auto`: `xdp` where the interface can do it, else `packet`; the log says which, and why not better.',
      'auto',
    ),
    workers: count(
      'Threads of the engine, each with its share of the sessions, by a hash of client and server, and of the limits. One for each CPU at most.',
      1,
      1,
      MAX_WORKERS,
    ),
    address: Type.Optional(
      address(
        "The balancer's own address on the interface that nodes are reached by. Absent: the first one that it has.",
      ),
    ),
    keyFile: filePath(
      'File with the key shared with the nodes: 32 hex digits, readable by its owner alone. `baton key` makes one. Relative to the config file.',
    ),
    controlSocket: filePath(
      'Unix socket that `baton stats` and `baton sessions` ask. Relative to the config file.',
      DEFAULT_CONTROL_SOCKET,
    ),
    virtualServers: Type.Array(VirtualServer, {
      minItems: 1,
      maxItems: MOST_VIRTUAL_SERVERS,
      description: 'What clients connect to.',
      expected: `a list of 1 to ${MOST_VIRTUAL_SERVERS} virtual servers`,
    }),
    nodes: Type.Array(Node, {
      minItems: 1,
      maxItems: MAX_XDP_NODES,
      description: 'The machines that hold the content.',
      expected: `a list of 1 to ${MAX_XDP_NODES} nodes`,
    }),
    resources: Type.Array(Resource, {
      minItems: 1,
      description: 'Which nodes hold what.',
      expected: 'a list of at least one resource',
    }),
    limits: LimitKeys,
    timeouts: TimeoutKeys,
    log: Log,
  },
  { ...closed, expected: 'a map of keys such as interface, virtualServers, nodes and resources' },
);
export type BalancerFile = Static<typeof BalancerFile>;

export const NodeFile = Type.Object(
  {
    interface: interfaceName('The network interface that the balancer is reached by.'),
    address: Type.Optional(
      address("The node's own address on the interface. Absent: the first one that it has."),
    ),
    keyFile: filePath(
      'File with the key shared with the balancer: 32 hex digits, readable by its owner alone. Relative to the config file.',
    ),
    virtualAddresses: Type.Array(address('A virtual address.'), {
      minItems: 1,
      maxItems: MOST_ADDRESSES,
      description:
        'The virtual addresses that the web server here answers from. Baton puts them on lo.',
      expected: `a list of 1 to ${MOST_ADDRESSES} IPv4 addresses`,
    }),
    balancers: Type.Array(address('A balancer.'), {
      minItems: 1,
      maxItems: MOST_ADDRESSES,
      description: 'The balancers that may hand sessions over, by their own addresses.',
      expected: `a list of 1 to ${MOST_ADDRESSES} IPv4 addresses`,
    }),
    listen: Type.Optional(
      Type.String({
        format: 'listener',
        description:
          "Where the web server listens, as address:port, when that is neither a wildcard nor the virtual address on the virtual server's port.",
        expected: 'an address and a port such as 127.0.0.1:8080',
      }),
    ),
    maxSessions: count(
      'Sessions that the shim keeps in mind at one time; beyond it the oldest go.',
      131_072,
      1_024,
      4_194_304,
    ),
    log: Log,
  },
  { ...closed, expected: 'a map of keys such as interface, virtualAddresses and balancers' },
);
export type NodeFile = Static<typeof NodeFile>;
