/** Virtual servers and resources as objects of the API, and the bodies that add objects. */
import { type Static, Type } from '@sinclair/typebox';
import {
  Node,
  Resource,
  SERVER_MODES,
  SERVER_PROTOCOLS,
  TRANSPORTS,
  VirtualServer,
} from '../../config/schema-objects.js';
import { Choice, Count, closed } from './common.js';
import { MOST_ROWS } from './sessions.js';

/** The bodies that add an object are entries of the config file. */
export const NodeBody = Node;
export type NodeBody = Static<typeof NodeBody>;
export const VirtualServerBody = VirtualServer;
export type VirtualServerBody = Static<typeof VirtualServerBody>;
export const ResourceBody = Type.Object(
  {
    ...Resource.properties,
    virtualServer: Type.Optional(
      Type.String({ description: 'The virtual server whose own it is. Absent: a common one' }),
    ),
  },
  closed,
);
export type ResourceBody = Static<typeof ResourceBody>;

const PortRange = Type.Object({
  from: Type.Integer(),
  to: Type.Integer({ description: 'The last port of the range' }),
});

/** What a virtual server does. Optional: a balancer that was started earlier does not send it. */
export const ServerKeys = {
  ports: Type.Optional(
    Type.Array(PortRange, { description: 'All ports, in ascending order and without overlap' }),
  ),
  transport: Type.Optional(Choice(TRANSPORTS, 'The transport protocol')),
  mode: Type.Optional(Choice(SERVER_MODES, 'How a node gets a connection')),
  protocol: Type.Optional(
    Choice(SERVER_PROTOCOLS, 'With mode handoff: what is read before the handoff'),
  ),
} as const;

/** `removed`: it is no longer in the config, but still has sessions. */
export const SERVER_STATES = ['up', 'removed'] as const;

export const VirtualServerDocument = Type.Object(
  {
    name: Type.String(),
    address: Type.String({ description: 'The virtual IPv4 address' }),
    port: Type.Integer({ description: 'The port; of several, the lowest' }),
    ...ServerKeys,
    predictor: Type.String({ description: 'How one of the holders is picked' }),
    state: Choice(
      SERVER_STATES,
      'up: it takes connections. removed: it is no longer in the config, and its sessions go on.',
    ),
    active: Count('Sessions that have not ended'),
    held: Count('Sessions with those that are kept for late packets'),
  },
  { description: 'A virtual server' },
);
export type VirtualServerDocument = Static<typeof VirtualServerDocument>;

export const VirtualServersDocument = Type.Object({
  virtualServers: Type.Array(VirtualServerDocument),
});
export type VirtualServersDocument = Static<typeof VirtualServersDocument>;

export const RemoveServerQuery = Type.Object(
  {
    sessions: Type.Optional(
      Choice(['end'], 'end: its sessions end now. Absent: they go on until they end.'),
    ),
  },
  closed,
);
export type RemoveServerQuery = Static<typeof RemoveServerQuery>;

/** `degraded`: some holders are not up. `down`: no holder is up. */
export const RESOURCE_STATES = ['up', 'degraded', 'down'] as const;

export const ResourceDocument = Type.Object(
  {
    host: Type.Union([Type.String(), Type.Null()], {
      description: 'A host name, or `*.` and a name; null: any host',
    }),
    path: Type.String(),
    alpn: Type.Optional(
      Type.Array(Type.String(), {
        description: 'It matches only TLS connections that offer one of these protocols',
      }),
    ),
    rewrite: Type.Optional(
      Type.String({ description: 'The path that nodes get, as in the config' }),
    ),
    virtualServer: Type.Optional(
      Type.String({ description: 'The virtual server whose own it is. Absent: a common one' }),
    ),
    nodes: Type.Array(Type.String(), { description: 'Names of the holders' }),
    state: Choice(
      RESOURCE_STATES,
      'up: all holders are up. degraded: some are not. down: none is.',
    ),
    up: Count('Holders whose state is up'),
    requests: Count('Requests for it since the balancer was ready'),
  },
  { description: 'A resource: content, and the nodes that hold it' },
);
export type ResourceDocument = Static<typeof ResourceDocument>;

export const ResourcePage = Type.Object({
  resources: Type.Array(ResourceDocument),
  total: Count('Resources on all pages'),
  next: Type.Union([Type.Integer({ minimum: 1 }), Type.Null()], {
    description: 'Value of `after` for the next page; null on the last page',
  }),
});
export type ResourcePage = Static<typeof ResourcePage>;

export const ResourcesQuery = Type.Object(
  {
    limit: Type.Integer({ minimum: 1, maximum: MOST_ROWS, default: 100 }),
    after: Type.Integer({ minimum: 0, maximum: 0xffff_ffff, default: 0 }),
  },
  closed,
);
export type ResourcesQuery = Static<typeof ResourcesQuery>;

/** Names a resource, or with `node` one of its holders. */
export const ResourceKey = Type.Object(
  {
    host: Type.Optional(Type.String({ description: 'Absent: the resource for any host' })),
    path: Type.String({ description: 'The path, as in the config' }),
    alpn: Type.Optional(
      Type.String({ description: 'The protocols of its key alpn, with commas between them' }),
    ),
    virtualServer: Type.Optional(
      Type.String({ description: 'The virtual server whose own it is. Absent: a common one' }),
    ),
    node: Type.Optional(
      Type.String({ description: 'Only this node no longer holds it. Absent: all of it goes' }),
    ),
  },
  closed,
);
export type ResourceKey = Static<typeof ResourceKey>;
