/**
 * The one definition of both config files. Types, defaults, checks, the text of error messages and
 * docs/configuration.md all come from it.
 *
 * schema-objects.ts has the objects that can come and go at run time, schema-parts.ts the forms of
 * keys. After the checks, a key with a default always has a value, so its type here is not
 * optional.
 */
import { type Static, Type } from '@sinclair/typebox';
import { LOG_LEVELS } from '../base/log.js';
import { MAX_WORKERS, MAX_XDP_NODES, MOST_VIRTUAL_SERVERS } from '../datapath/xdp-layout.js';
import { MAX_HEAD_BYTES } from '../request/http/scan.js';
import { Node, Resource, VirtualServer } from './schema-objects.js';
import {
  address,
  choice,
  closed,
  count,
  duration,
  filePath,
  interfaceName,
  listener,
  virtualAddress,
} from './schema-parts.js';

/** The values of the key `datapath`. */
export const DATAPATHS = ['auto', 'xdp', 'packet'] as const;

export type Datapath = (typeof DATAPATHS)[number];

/** The default path of the control socket. */
export const DEFAULT_CONTROL_SOCKET = '/run/baton/baton.sock';

/** The values of the key `accessLog.format`. */
export const ACCESS_LOG_FORMATS = ['json', 'combined'] as const;

export type AccessLogFormat = (typeof ACCESS_LOG_FORMATS)[number];

/** Checking this many takes several seconds. */
const MOST_RESOURCES = 1_048_576;
const MOST_ADDRESSES = 64;

const Log = Type.Object(
  { level: choice(LOG_LEVELS, 'The lowest level of messages that are written.', 'info') },
  {
    ...closed,
    default: {},
    description: 'Messages on standard error.',
    expected: 'a map with the key level',
  },
);

const LimitKeys = Type.Object(
  {
    sessions: count('Most sessions at one time.', 1_000_000, 1_024, 16_000_000),
    halfOpen: count(
      'Most sessions at one time with an incomplete handshake. Beyond this limit SYNs are answered with stateless cookies, which use no memory. At most `sessions`.',
      65_536,
      64,
      16_000_000,
    ),
    headBytes: count(
      'Most bytes of a request head. A longer head gets the answer 431.',
      16_384,
      1_024,
      MAX_HEAD_BYTES,
    ),
    heads: count(
      'Most sessions at one time whose request head is being collected or handed over. At most `sessions`.',
      65_536,
      64,
      1_000_000,
    ),
    handoffTries: count(
      'How many times a handoff is sent to one node before the next holder is tried.',
      2,
      1,
      10,
    ),
    synAckTries: count(
      'How many times a SYN/ACK is sent before the handshake is given up.',
      5,
      1,
      10,
    ),
  },
  {
    ...closed,
    default: {},
    description: 'Limits of tables, and of repeated messages.',
    expected: 'a map of limits',
  },
);

const TimeoutKeys = Type.Object(
  {
    head: duration(
      'From the end of the handshake until the request head must be complete. Later the client gets the answer 408.',
      '10s',
    ),
    handoff: duration(
      'How long a node may take to confirm a handoff. Then the handoff is sent again.',
      '300ms',
    ),
    answer: duration(
      'How long a node that has confirmed a handoff may take to answer. Then it is asked whether its web server has read the request. If not, another holder gets the request.',
      '1s',
    ),
    idle: duration(
      'A session without packets of the client and notices of the node is removed after this time (counted as `closed_idle`). This applies while neither side has sent FIN. After a FIN of the client, the node is asked whether it still has the session. If it does not answer, the session is removed after 3 minutes, or after `closing` if that is longer, but never later than `idle`. After a FIN of the node, `closing` applies.',
      '15m',
    ),
    linger: duration(
      'After the second FIN or an RST, a session without packets is removed after this time.',
      '5s',
    ),
    closing: duration(
      "After the node's FIN, a session without packets is removed after this time.",
      '60s',
    ),
    synAck: duration(
      'Until a SYN/ACK is sent again for the first time. The time doubles with each repetition.',
      '1s',
    ),
  },
  {
    ...closed,
    default: {},
    description: 'Durations with their unit: ms, s, m or h.',
    expected: 'a map of timeouts',
  },
);

const Api = Type.Object(
  {
    listen: listener(
      'The address:port on which the API listens. No wildcard address: clients would reach the API at the virtual addresses.',
      'an address of this machine and a port such as 10.99.0.2:8443',
    ),
    certificate: filePath(
      'File with the certificate of the API, and any intermediate certificates, in PEM form. A relative path starts at the directory of the config file.',
    ),
    key: filePath(
      'File with the private key of the certificate in PEM form, readable by its owner only. A relative path starts at the directory of the config file.',
    ),
    tokens: filePath(
      'File with the tokens of those who may use the API, readable by its owner only. A relative path starts at the directory of the config file.',
    ),
  },
  {
    ...closed,
    description:
      'The API over TLS, for other machines. Without this key, only the control socket gives the API.',
    expected: 'a map with the keys listen, certificate, key and tokens',
  },
);

const Metrics = Type.Object(
  {
    listen: listener(
      'The address:port on which Prometheus can read `/metrics`, over HTTP and without a password. No wildcard address: clients would reach it at the virtual addresses.',
      'an address of this machine and a port such as 127.0.0.1:9464',
    ),
  },
  {
    ...closed,
    description: 'Metrics for Prometheus. Without this key there are none.',
    expected: 'a map with the key listen',
  },
);

const AccessLog = Type.Object(
  {
    file: filePath(
      'The file to which the lines are appended. A relative path starts at the directory of the config file.',
    ),
    format: choice(
      ACCESS_LOG_FORMATS,
      'The form of the lines. `json`: a JSON object with everything that is known of the session. `combined`: the Combined Log Format of Apache.',
      'json',
    ),
  },
  {
    ...closed,
    description: 'A log with one line for each session that has ended. Without this key, no log.',
    expected: 'a map with the keys file and format',
  },
);

export const BalancerFile = Type.Object(
  {
    interface: interfaceName(
      'The network interface by which clients are reached, and also nodes unless there is a `nodeInterface`.',
    ),
    nodeInterface: Type.Optional(
      interfaceName(
        'Another network interface, by which nodes are reached. Nodes list its address in their `balancers`. Default: `interface`.',
      ),
    ),
    datapath: choice(
      DATAPATHS,
      'How frames reach the engine and leave it. `xdp`: a program in the kernel forwards sessions that were handed over, and gives other frames to the engine through AF_XDP. `packet`: the engine receives all frames through an AF_PACKET ring. `auto`: `xdp` if the interface supports it, else `packet`; the log names the choice and its reason.',
      'auto',
    ),
    workers: count(
      'Number of engine threads. Sessions are shared among them by a hash of client and virtual server, and so are the limits. Use at most one for each CPU.',
      1,
      1,
      MAX_WORKERS,
    ),
    address: Type.Optional(
      address(
        "The balancer's own address on the interface by which nodes are reached. Default: the first address of that interface.",
      ),
    ),
    keyFile: filePath(
      'File with the key that balancer and nodes share: 32 hex digits, readable by its owner only. `baton key` makes such a file. A relative path starts at the directory of the config file.',
    ),
    controlSocket: filePath(
      'Unix socket for `baton stats`, `baton sessions` and other commands. A relative path starts at the directory of the config file.',
      DEFAULT_CONTROL_SOCKET,
    ),
    virtualServers: Type.Array(VirtualServer, {
      minItems: 1,
      maxItems: MOST_VIRTUAL_SERVERS,
      description: 'The addresses and ports to which clients connect.',
      expected: `a list of 1 to ${MOST_VIRTUAL_SERVERS} virtual servers`,
    }),
    nodes: Type.Array(Node, {
      minItems: 1,
      maxItems: MAX_XDP_NODES,
      description: 'The machines that hold the content.',
      expected: `a list of 1 to ${MAX_XDP_NODES} nodes`,
    }),
    resources: Type.Array(Resource, {
      maxItems: MOST_RESOURCES,
      default: [],
      description:
        'Which nodes hold which content. Needed by virtual servers that read requests: those of `mode: handoff` with the protocol `http` or `tls`.',
      expected: `a list of up to ${MOST_RESOURCES} resources`,
    }),
    limits: LimitKeys,
    timeouts: TimeoutKeys,
    log: Log,
    api: Type.Optional(Api),
    metrics: Type.Optional(Metrics),
    accessLog: Type.Optional(AccessLog),
  },
  { ...closed, expected: 'a map of keys such as interface, virtualServers, nodes and resources' },
);
export type BalancerFile = Static<typeof BalancerFile>;

export const NodeFile = Type.Object(
  {
    interface: interfaceName('The network interface by which the balancer is reached.'),
    address: Type.Optional(
      address(
        "The node's own address on the interface. Default: the first address of the interface.",
      ),
    ),
    keyFile: filePath(
      'File with the key that balancer and nodes share: 32 hex digits, readable by its owner only. A relative path starts at the directory of the config file.',
    ),
    virtualAddresses: Type.Array(virtualAddress('A virtual address.'), {
      minItems: 1,
      maxItems: MOST_ADDRESSES,
      description:
        'The virtual addresses from which the web server of this node answers. Baton adds them to lo.',
      expected: `a list of 1 to ${MOST_ADDRESSES} IP addresses`,
    }),
    balancers: Type.Array(address('A balancer.'), {
      minItems: 1,
      maxItems: MOST_ADDRESSES,
      description: 'The own addresses of the balancers that may hand sessions over to this node.',
      expected: `a list of 1 to ${MOST_ADDRESSES} IP addresses`,
    }),
    listen: Type.Optional(
      listener(
        'The address:port on which the web server listens. Needed only if that is neither a wildcard address nor a virtual address, or if its port is not that of the virtual server.',
        'an address and a port such as 127.0.0.1:8080',
      ),
    ),
    maxSessions: count(
      'Most sessions that the shim remembers at one time. Beyond this limit it forgets the oldest.',
      131_072,
      1_024,
      4_194_304,
    ),
    log: Log,
  },
  { ...closed, expected: 'a map of keys such as interface, virtualAddresses and balancers' },
);
export type NodeFile = Static<typeof NodeFile>;
