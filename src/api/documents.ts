/** What the control socket answers: the one definition for the server, the client and scripts. */
import { type Static, Type } from '@sinclair/typebox';
import { STAGE_NAMES, STAGES, type StageName } from '../base/stages.js';
import { REQUEST_BYTES, SESSION_STATE_NAMES } from '../engine/table/session-table.js';

const Count = (description: string) => Type.Number({ minimum: 0, description });
const Ms = (description: string) => Type.Number({ description: `${description}, in ms` });

/**
 * `up`: takes handoffs. `unresolved`: its MAC address is not known. `unable`: what it reports says
 * that it cannot adopt. `leaving`: its agent is stopping. `suspended`: it did not answer lately.
 * `refusing`: it refused the last handoff, and adopts no other virtual server's. `unheard`: its
 * agent has never reported, and it has adopted nothing. `removed`: it is not in the config any
 * more, and sessions of an earlier run go on there.
 */
export const NODE_STATES = [
  'up',
  'unresolved',
  'unable',
  'leaving',
  'suspended',
  'refusing',
  'unheard',
  'removed',
] as const;
export type NodeState = (typeof NODE_STATES)[number];

const Stages = Type.Object(
  Object.fromEntries(STAGE_NAMES.map((name) => [name, Count(STAGES[name])])) as Record<
    StageName,
    ReturnType<typeof Count>
  >,
);

/** Where the time of one engine thread went, since its start. */
const WorkerStages = Type.Object({
  worker: Type.Integer({ minimum: 0, description: 'Number of the engine thread, from 0' }),
  nanoseconds: Stages,
  batches: Count('Batches that had frames'),
  frames: Count('Frames in them'),
});

/** Frames of one kind that were lost on this machine. */
const Loss = Type.Object({
  counter: Type.String({ description: 'Name of the counter in `counters`' }),
  total: Count('Value of that counter'),
  agoMs: Ms('Time since the counter was last seen to grow'),
  what: Type.String({ description: 'What the counter counts, in words' }),
  remedy: Type.String({ description: 'What the operator can do, in words' }),
});
export type Loss = Static<typeof Loss>;

/**
 * What is optional came later than the rest: a balancer that has run since then does not send it.
 */
export const StatsDocument = Type.Object({
  version: Type.String({ description: 'Of Baton, when this balancer was started' }),
  startedAt: Type.Number({
    description: 'When this balancer was ready, in ms since 1970: each start has its own',
  }),
  uptimeMs: Ms('Since the balancer was ready'),
  interface: Type.String(),
  datapath: Type.String(),
  virtualServers: Type.Array(
    Type.Object({
      name: Type.String(),
      address: Type.String(),
      port: Type.Integer(),
      predictor: Type.String(),
      active: Count('Sessions that have not ended'),
    }),
  ),
  nodes: Type.Array(
    Type.Object({
      name: Type.String(),
      address: Type.String(),
      mac: Type.Union([Type.String(), Type.Null()], {
        description: '02:00:00:00:00:01, or null while not known',
      }),
      state: Type.Unsafe<NodeState>({ type: 'string', enum: [...NODE_STATES] }),
      why: Type.String({
        description:
          'The reason for a state other than up, or what else is wrong there, in words; else empty',
      }),
      active: Count('Sessions handed over and not yet closed'),
      adopted: Count('Handoffs confirmed, ever'),
      lastReportMs: Type.Union([Type.Number(), Type.Null()], {
        description: "Since the agent's last report, in ms; null when there was none",
      }),
    }),
  ),
  notOffered: Type.Optional(
    Type.Array(Type.String(), {
      description: 'TCP options that no client is offered, and because of which machines, in words',
    }),
  ),
  sessions: Type.Object({
    total: Count('All that are kept: the others of these, added up'),
    halfOpen: Count('Handshake not complete'),
    collecting: Count('Request head not complete'),
    handing: Count('Handed over, not yet confirmed'),
    passing: Count('Forwarded to the node that adopted them'),
    closing: Count('Ended by FIN or RST: kept for a while, so that late packets still pass'),
  }),
  counters: Type.Record(Type.String(), Type.Number(), { description: 'Every counter by its name' }),
  losses: Type.Optional(
    Type.Array(Loss, {
      description: 'Frames that were lost between interface and engine; empty when none was',
    }),
  ),
  stages: Type.Array(WorkerStages, { description: 'One for each engine thread' }),
  kernel: Type.Union(
    [
      Type.Object({
        runNanoseconds: Count('Time in the XDP program'),
        runCount: Count('Packets that it looked at'),
      }),
      Type.Null(),
    ],
    {
      description: 'While the sysctl kernel.bpf_stats_enabled is on; null where no XDP program is',
    },
  ),
});
export type StatsDocument = Static<typeof StatsDocument>;

export const SessionRow = Type.Object({
  client: Type.String({ description: 'address:port' }),
  virtualServer: Type.String({ description: 'Its name' }),
  state: Type.String({
    description: `One of ${SESSION_STATE_NAMES.filter((name) => name !== '').join(', ')}`,
  }),
  node: Type.String({
    description: 'Name of the node, or "local" for a local service; empty before a choice',
  }),
  request: Type.String({
    description: `The first ${REQUEST_BYTES} bytes of method and target, escaped; empty before they are read`,
  }),
  requestCut: Type.Optional(
    Type.Boolean({
      description: 'Whether the request is longer than what is kept of it; it then ends in "..."',
    }),
  ),
  ageMs: Ms('Since the SYN'),
  idleMs: Ms('Since the last packet or notice'),
  packets: Count('Of the client'),
});
export type SessionRow = Static<typeof SessionRow>;

export const SessionPage = Type.Object({
  sessions: Type.Array(SessionRow),
  total: Count('Sessions in the table, on whatever page'),
  next: Type.Union([Type.Integer({ minimum: 1 }), Type.Null()], {
    description: 'What to ask for as `after` to get the next page; null at the end',
  }),
});
export type SessionPage = Static<typeof SessionPage>;

/** Most rows of one page: more would hold up the thread that answers. */
export const MOST_ROWS = 1_000;

export const SessionQuery = Type.Object(
  {
    limit: Type.Integer({ minimum: 1, maximum: MOST_ROWS, default: 100 }),
    after: Type.Integer({ minimum: 0, maximum: 0xffff_ffff, default: 0 }),
  },
  { additionalProperties: false },
);
export type SessionQuery = Static<typeof SessionQuery>;

/** Most bytes of a frame that a capture can have. */
export const MOST_SNAP_BYTES = 262_144;
export const FEWEST_SNAP_BYTES = 64;

/** Which frames a capture is to be shown. The answer is a stream of records: wire/tap-record.ts. */
export const CaptureQuery = Type.Object(
  {
    snapLength: Type.Integer({ minimum: FEWEST_SNAP_BYTES, maximum: MOST_SNAP_BYTES }),
    received: Type.Boolean({
      description: 'Also those that come in, which an XDP program may show by itself',
    }),
    client: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 0xffff_ffff,
        description: 'IPv4 address of the client, as a number',
      }),
    ),
    clientPort: Type.Optional(Type.Integer({ minimum: 1, maximum: 0xffff })),
  },
  { additionalProperties: false },
);
export type CaptureQuery = Static<typeof CaptureQuery>;

/** The answer to whoever asks the balancer to leave. */
export const LeaveDocument = Type.Object({ leaving: Type.Boolean() });
export type LeaveDocument = Static<typeof LeaveDocument>;

/** What every error is told in. */
export const ErrorDocument = Type.Object({ code: Type.String(), message: Type.String() });
export type ErrorDocument = Static<typeof ErrorDocument>;

/** The header by which a client knows that it talks to Baton. */
export const SERVER_HEADER = 'Baton';
