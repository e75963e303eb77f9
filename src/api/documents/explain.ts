/** The document of `baton explain`: what would happen to a request, and why. */
import { type Static, Type } from '@sinclair/typebox';
import { Choice, Count, closed } from './common.js';
import { NODE_CONDITIONS, NODE_STATES } from './nodes.js';

export const ExplainQuery = Type.Object(
  {
    url: Type.String({ minLength: 1, maxLength: 8_192, description: 'An http URL' }),
    host: Type.Optional(
      Type.String({ maxLength: 255, description: 'Host header field; default: that of the URL' }),
    ),
    from: Type.Optional(
      Type.String({ maxLength: 64, description: 'Address of the client, or address:port' }),
    ),
  },
  closed,
);
export type ExplainQuery = Static<typeof ExplainQuery>;

const Candidate = Type.Object(
  {
    node: Type.String({ description: 'Name of a holder' }),
    state: Choice(NODE_STATES, 'State of the node'),
    condition: Choice(NODE_CONDITIONS, 'What the balancer has found out about the node'),
    weight: Type.Integer({ minimum: 0 }),
    load: Count('Sessions of the node'),
    score: Type.Union([Type.Number(), Type.Null()], {
      description: 'By which the predictor compares, lowest first; null: it compares nothing',
    }),
    why: Type.String({ description: 'Why the node would be chosen, or not, in words' }),
  },
  { description: 'A holder of the content' },
);

export const ExplainDocument = Type.Object(
  {
    virtualServer: Type.Union([Type.String(), Type.Null()], {
      description: 'Name of the virtual server; null: none has this address and port',
    }),
    predictor: Type.Union([Type.String(), Type.Null()]),
    resource: Type.Union(
      [
        Type.Object({
          host: Type.Union([Type.String(), Type.Null()]),
          path: Type.String(),
        }),
        Type.Null(),
      ],
      { description: 'The resource that matches; null: none does' },
    ),
    candidates: Type.Array(Candidate, { description: 'The holders' }),
    chosen: Type.Union([Type.String(), Type.Null()], {
      description: 'The node that would get the next such request; null: none',
    }),
    why: Type.String({ description: 'The result in words' }),
  },
  { description: 'What would happen to a request' },
);
export type ExplainDocument = Static<typeof ExplainDocument>;
