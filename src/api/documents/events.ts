/** The events of `GET /v1/events`. */
import { type Static, Type } from '@sinclair/typebox';
import { Count, Time } from './common.js';
import { NodeDocument } from './nodes.js';

const At = Time('When it happened');

/** A node is in another state, or there is another reason for it. */
export const NodeEvent = Type.Object({
  event: Type.Literal('node'),
  at: At,
  node: Type.String({ description: 'Name of the node' }),
  ...Type.Pick(NodeDocument, ['state', 'by', 'why', 'since', 'condition']).properties,
});
export type NodeEvent = Static<typeof NodeEvent>;

/** A change is in force. */
export const ChangeEvent = Type.Object({
  event: Type.Literal('change'),
  at: At,
  by: Type.String({ description: 'Who changed it: local (the unix socket), or a token name' }),
  changed: Type.Array(Type.String(), { description: 'What has changed, a line for people each' }),
  generation: Type.Integer({ description: 'Number of the farm that runs now' }),
});
export type ChangeEvent = Static<typeof ChangeEvent>;

/** The traffic since the last event of this kind. */
export const RatesEvent = Type.Object({
  event: Type.Literal('rates'),
  at: At,
  seconds: Type.Number({ description: 'Time that the rates are about' }),
  connections: Count('New sessions per second'),
  handoffs: Count('Handoffs that nodes have confirmed, per second'),
  packets: Count('Packets received per second'),
  bytes: Count('Bytes forwarded to nodes per second'),
  active: Count('Sessions that have not ended, at the end of that time'),
});
export type RatesEvent = Static<typeof RatesEvent>;

export const ControlEvent = Type.Union([NodeEvent, ChangeEvent, RatesEvent]);
export type ControlEvent = Static<typeof ControlEvent>;
