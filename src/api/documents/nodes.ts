/** Nodes as objects of the API. */
import { type Static, Type } from '@sinclair/typebox';
import { MOST_WEIGHT } from '../../config/schema-objects.js';
import { Choice, Count, closed, ForwardedCounts, Time } from './common.js';

/** The states that an operator may set. */
export const ADMIN_STATES = ['up', 'draining', 'maintenance'] as const;
export type AdminState = (typeof ADMIN_STATES)[number];

/**
 * States of a node:
 * - `up`: it takes handoffs.
 * - `draining`: it keeps its sessions and gets no new ones.
 * - `maintenance`: it gets nothing.
 * - `down`: the balancer has found that it cannot take handoffs; `condition` and `why` say why.
 */
export const NODE_STATES = [...ADMIN_STATES, 'down'] as const;
export type NodeState = (typeof NODE_STATES)[number];

/** The words behind "node n1 is". */
export function stateWords(state: NodeState): string {
  return state === 'maintenance' ? 'in maintenance' : state;
}

/**
 * What the balancer has found out about a node:
 * - `up`: it takes handoffs.
 * - `unresolved`: its MAC address is not known.
 * - `unable`: its reports say that it cannot adopt.
 * - `leaving`: its agent is stopping.
 * - `suspended`: it did not answer recently.
 * - `refusing`: it refused the last handoff, and adopts for no other virtual server.
 * - `unheard`: its agent has never reported, and it has adopted nothing.
 * - `removed`: it is no longer in the config, but still has sessions.
 */
export const NODE_CONDITIONS = [
  'up',
  'unresolved',
  'unable',
  'leaving',
  'suspended',
  'refusing',
  'unheard',
  'removed',
] as const;
export type NodeCondition = (typeof NODE_CONDITIONS)[number];

/** One of those who have something to say about a node: operators, the balancer, the config. */
const NodeSource = Type.Object({
  source: Type.String({ description: 'operator, balancer or config' }),
  state: Choice(NODE_STATES, 'The state that this source gives the node'),
  by: Type.String({ description: 'Who it was, as in the node' }),
  why: Type.String({ description: 'Its reason, in words; or empty' }),
  since: Time('When this source came to that state'),
});
export type NodeSource = Static<typeof NodeSource>;

export const NodeDocument = Type.Object(
  {
    name: Type.String(),
    address: Type.String({ description: "The node's own IPv4 address" }),
    mac: Type.Union([Type.String(), Type.Null()], {
      description: 'As 02:00:00:00:00:01; null while it is not known',
    }),
    weight: Type.Integer({ minimum: 0, description: 'Share of sessions; 0 once it is removed' }),
    state: Choice(
      NODE_STATES,
      'up: it takes handoffs. draining: it keeps its sessions and gets no new ones. maintenance: it gets nothing. down: it cannot take handoffs.',
    ),
    by: Type.String({
      description:
        'Who has set the state: config, balancer, local (the unix socket) or the name of a token',
    }),
    why: Type.String({
      description:
        'The reason for the state, or another problem of a node that is up, in words; or empty',
    }),
    since: Time('When the node came into this state'),
    condition: Choice(NODE_CONDITIONS, 'What the balancer has found out about the node'),
    sources: Type.Array(NodeSource, {
      description:
        'What each source says. The worst is the state: maintenance, down, draining, up.',
    }),
    active: Count('Sessions that were handed to the node and have not ended'),
    held: Count('Sessions that name the node, with those that are kept for late packets'),
    adopted: Count('Handoffs that the node has confirmed'),
    forwarded: Type.Optional(ForwardedCounts),
    lastReportMs: Type.Union([Type.Number(), Type.Null()], {
      description: "Time since the agent's last report, in ms; null without a report",
    }),
  },
  { description: 'A node' },
);
export type NodeDocument = Static<typeof NodeDocument>;

export const NodesDocument = Type.Object({ nodes: Type.Array(NodeDocument) });
export type NodesDocument = Static<typeof NodesDocument>;

/** The longest reason that an operator may give, in characters. */
export const MOST_REASON = 200;

/** What PATCH changes of a node. The keys that are absent stay as they are. */
export const NodePatch = Type.Object(
  {
    state: Type.Optional(Choice(ADMIN_STATES, 'The new state')),
    weight: Type.Optional(
      Type.Integer({ minimum: 1, maximum: MOST_WEIGHT, description: 'The new weight' }),
    ),
    reason: Type.Optional(
      Type.String({
        maxLength: MOST_REASON,
        description: 'Why the state changes; it is shown with the state',
      }),
    ),
  },
  { ...closed, minProperties: 1, description: 'A change of a node' },
);
export type NodePatch = Static<typeof NodePatch>;
