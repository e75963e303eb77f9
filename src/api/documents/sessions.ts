/** The documents of `baton sessions`. */
import { type Static, Type } from '@sinclair/typebox';
import { REQUEST_BYTES, SESSION_STATE_NAMES } from '../../engine/table/session-table.js';
import { Count, Ms } from './common.js';

export const SessionRow = Type.Object({
  client: Type.String({ description: 'address:port' }),
  virtualServer: Type.String({ description: 'Name of the virtual server' }),
  state: Type.String({
    description: `One of ${SESSION_STATE_NAMES.filter((name) => name !== '').join(', ')}`,
  }),
  node: Type.String({
    description: 'Name of the node; empty before one is chosen, and if the balancer answers itself',
  }),
  status: Type.Optional(
    Type.Integer({ description: "HTTP status of the balancer's own answer, if it gives one" }),
  ),
  request: Type.String({
    description: `The first ${REQUEST_BYTES} bytes of method and target, escaped; empty before they have arrived`,
  }),
  requestCut: Type.Optional(
    Type.Boolean({
      description:
        'Whether the request is longer than the kept bytes; `request` then ends in "..."',
    }),
  ),
  ageMs: Ms('Time since the SYN'),
  idleMs: Ms('Time since the last packet or notice'),
  packets: Count('Packets of the client'),
  moves: Count('Moves to another node between two requests, with `keepAlive: migrate`'),
  parked: Type.Optional(
    Type.Array(Type.String(), {
      description:
        'Names of the nodes that keep a socket of the connection, to which it may return',
    }),
  ),
});
export type SessionRow = Static<typeof SessionRow>;

export const SessionPage = Type.Object({
  sessions: Type.Array(SessionRow),
  total: Count('Sessions in the table, on all pages'),
  next: Type.Union([Type.Integer({ minimum: 1 }), Type.Null()], {
    description: 'Value of `after` for the next page; null on the last page',
  }),
});
export type SessionPage = Static<typeof SessionPage>;

/** Most rows of a page: more would delay the packets of the thread that answers. */
export const MOST_ROWS = 1_000;

export const SessionQuery = Type.Object(
  {
    limit: Type.Integer({ minimum: 1, maximum: MOST_ROWS, default: 100 }),
    after: Type.Integer({ minimum: 0, maximum: 0xffff_ffff, default: 0 }),
  },
  { additionalProperties: false },
);
export type SessionQuery = Static<typeof SessionQuery>;
