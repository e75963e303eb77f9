/** The document of `baton explain`: what would happen to a request, and why. */
import { type Static, Type } from '@sinclair/typebox';
import { Choice, Count, closed } from './common.js';
import { NODE_CONDITIONS, NODE_STATES } from './nodes.js';

export const ExplainQuery = Type.Object(
  {
    url: Type.String({
      minLength: 1,
      maxLength: 8_192,
      description: 'An http, https, tcp or udp URL',
    }),
    host: Type.Optional(
      Type.String({
        maxLength: 255,
        description: 'Host header field, or server name in TLS; default: that of the URL',
      }),
    ),
    alpn: Type.Optional(
      Type.String({
        maxLength: 1_024,
        description:
          'For an https URL, the protocols that the client offers, with commas between them; default: h2,http/1.1',
      }),
    ),
    from: Type.Optional(
      Type.String({ maxLength: 64, description: 'Address of the client, or address:port' }),
    ),
  },
  closed,
);
export type ExplainQuery = Static<typeof ExplainQuery>;

export const HOST_MATCHES = ['exact', 'wildcard', 'any'] as const;
export const PATH_MATCHES = ['exact', 'prefix'] as const;

const Rule = Type.Object(
  {
    host: Type.Union([Type.String(), Type.Null()], { description: 'As in the config; null: any' }),
    path: Type.String({ description: 'As in the config' }),
    alpn: Type.Union([Type.Array(Type.String()), Type.Null()], {
      description: 'As in the config; null: any',
    }),
    hostMatch: Choice(HOST_MATCHES, 'How it covers the host'),
    pathMatch: Choice(PATH_MATCHES, 'How it covers the path'),
    nodes: Type.Array(Type.String(), { description: 'Names of the holders' }),
  },
  { description: 'A resource that covers the request' },
);
export type ExplainRule = Static<typeof Rule>;

const Candidate = Type.Object(
  {
    node: Type.String({ description: 'Name of a holder' }),
    state: Choice(NODE_STATES, 'State of the node'),
    condition: Choice(NODE_CONDITIONS, 'What the balancer has found out about the node'),
    weight: Type.Integer({ minimum: 0 }),
    load: Count('Sessions of the node'),
    score: Type.Union([Type.Number(), Type.Null()], {
      description:
        'Sessions for each unit of weight, by which least-connections compares: the lowest wins; null if the predictor does not compare loads',
    }),
    credit: Type.Union([Type.Number(), Type.Null()], {
      description:
        'Credit of the turns, by which holders with equal scores compare: the highest wins; null if the node does not take part',
    }),
    takes: Type.Boolean({ description: 'Whether the node would take the session now' }),
    lastChoice: Type.Boolean({
      description: 'Whether it would take the session only if no other holder does',
    }),
    chosen: Type.Boolean({ description: 'Whether the node would get the session' }),
    why: Type.String({ description: 'Why the node would be chosen, or not, in words' }),
  },
  { description: 'A holder of the content' },
);
export type ExplainCandidate = Static<typeof Candidate>;

export const ExplainDocument = Type.Object(
  {
    virtualServer: Type.String({ description: 'Name of the virtual server' }),
    predictor: Type.String({ description: 'How it picks one of the holders' }),
    lookedUp: Type.Union(
      [
        Type.Object({
          host: Type.Union([Type.String(), Type.Null()], { description: 'null: none' }),
          path: Type.Union([Type.String(), Type.Null()], { description: 'null: TLS hides it' }),
          protocols: Type.Union([Type.Array(Type.String()), Type.Null()], {
            description: 'Protocols that a client of TLS offers; null: no TLS',
          }),
        }),
        Type.Null(),
      ],
      {
        description:
          'Host and path in normal form; null: the balancer would not read the request, or the virtual server reads nothing',
      },
    ),
    resource: Type.Union([Rule, Type.Null()], {
      description:
        'The resource that covers the request; null: none does, or the virtual server has nodes instead of resources',
    }),
    next: Type.Array(Rule, {
      description: 'Resources that would cover the request if that one were not there, in order',
    }),
    rewritten: Type.Union([Type.String(), Type.Null()], {
      description:
        'The target that the node would get, with the query; null: that of the request, as it is',
    }),
    thread: Type.Object({
      number: Type.Integer({ minimum: 0, description: 'Engine thread that would own the session' }),
      of: Type.Integer({ minimum: 1, description: 'Number of engine threads' }),
      known: Type.Boolean({
        description: 'False: it depends on the port of the client, which is not given',
      }),
    }),
    candidates: Type.Array(Candidate, { description: 'The holders' }),
    chosen: Type.Union([Type.String(), Type.Null()], {
      description: 'The node that would get the next such request; null: none',
    }),
    answer: Type.Union([Type.Integer(), Type.Null()], {
      description: 'HTTP status of the answer of the balancer itself; null: there is none',
    }),
    alert: Type.Union([Type.String(), Type.Null()], {
      description: 'Name of the TLS alert of the balancer itself; null: there is none',
    }),
    why: Type.String({ description: 'The result in words' }),
  },
  { description: 'What would happen to a request' },
);
export type ExplainDocument = Static<typeof ExplainDocument>;
