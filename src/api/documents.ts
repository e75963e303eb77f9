/** The documents of the control socket: one definition for the server, the client and scripts. */
import { type Static, Type } from '@sinclair/typebox';
import { STAGE_NAMES, STAGES, type StageName } from '../base/stages.js';
import { REQUEST_BYTES, SESSION_STATE_NAMES } from '../engine/table/session-table.js';

const Count = (description: string) => Type.Number({ minimum: 0, description });
const Ms = (description: string) => Type.Number({ description: `${description}, in ms` });

/**
 * States of a node:
 * - `up`: it takes handoffs.
 * - `unresolved`: its MAC address is not known.
 * - `unable`: its reports say that it cannot adopt.
 * - `leaving`: its agent is stopping.
 * - `suspended`: it did not answer recently.
 * - `refusing`: it refused the last handoff, and adopts for no other virtual server.
 * - `unheard`: its agent has never reported, and it has adopted nothing.
 * - `removed`: it is no longer in the config, but still has sessions of an earlier run.
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

/** Time that one engine thread has spent in each stage since its start. */
const WorkerStages = Type.Object({
  worker: Type.Integer({ minimum: 0, description: 'Number of the engine thread, from 0' }),
  nanoseconds: Stages,
  batches: Count('Batches with at least one frame'),
  frames: Count('Frames in these batches'),
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

/** Optional fields were added later. A balancer that was started before that does not send them. */
export const StatsDocument = Type.Object({
  version: Type.String({ description: 'Version of Baton that this balancer runs' }),
  startedAt: Type.Number({
    description: 'Time when this balancer was ready, in ms since 1970; it differs for each start',
  }),
  uptimeMs: Ms('Time since the balancer was ready'),
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
        description: 'As 02:00:00:00:00:01; null while it is not known',
      }),
      state: Type.Unsafe<NodeState>({ type: 'string', enum: [...NODE_STATES] }),
      why: Type.String({
        description:
          'The reason for a state other than up, or another problem of the node, in words; or empty',
      }),
      active: Count('Sessions that were handed to the node and have not ended'),
      adopted: Count('Handoffs that the node has confirmed'),
      lastReportMs: Type.Union([Type.Number(), Type.Null()], {
        description: "Time since the agent's last report, in ms; null without a report",
      }),
    }),
  ),
  notOffered: Type.Optional(
    Type.Array(Type.String(), {
      description:
        'TCP options that clients are not offered, and the machines that are the reason, in words',
    }),
  ),
  sessions: Type.Object({
    total: Count('All sessions in the table: the sum of the other fields'),
    halfOpen: Count('Handshake not complete'),
    collecting: Count('Request head not complete'),
    handing: Count('Handed to a node that has not confirmed'),
    passing: Count('Forwarded to the node that adopted the session'),
    closing: Count('Ended by FIN or RST, and kept for a while to forward late packets'),
  }),
  counters: Type.Record(Type.String(), Type.Number(), { description: 'All counters by name' }),
  losses: Type.Optional(
    Type.Array(Loss, {
      description:
        'Frames that were lost between interface and engine, by kind; empty when none was lost',
    }),
  ),
  stages: Type.Array(WorkerStages, { description: 'One entry for each engine thread' }),
  kernel: Type.Union(
    [
      Type.Object({
        runNanoseconds: Count('Time in the XDP program'),
        runCount: Count('Packets that the program has read'),
      }),
      Type.Null(),
    ],
    {
      description:
        'Counted while the sysctl kernel.bpf_stats_enabled is 1; null without an XDP program',
    },
  ),
});
export type StatsDocument = Static<typeof StatsDocument>;

export const SessionRow = Type.Object({
  client: Type.String({ description: 'address:port' }),
  virtualServer: Type.String({ description: 'Name of the virtual server' }),
  state: Type.String({
    description: `One of ${SESSION_STATE_NAMES.filter((name) => name !== '').join(', ')}`,
  }),
  node: Type.String({
    description: 'Name of the node, or "local" for a local service; empty before one is chosen',
  }),
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

/** Most and fewest bytes that a capture may keep of a frame. */
export const MOST_SNAP_BYTES = 262_144;
export const FEWEST_SNAP_BYTES = 64;

/** The frames that a capture wants. The response is a stream of records (wire/tap-record.ts). */
export const CaptureQuery = Type.Object(
  {
    snapLength: Type.Integer({ minimum: FEWEST_SNAP_BYTES, maximum: MOST_SNAP_BYTES }),
    received: Type.Boolean({
      description: 'Whether to include received frames, which an XDP program may show itself',
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

/** The response to a request to leave. */
export const LeaveDocument = Type.Object({ leaving: Type.Boolean() });
export type LeaveDocument = Static<typeof LeaveDocument>;

/** The body of every error response. */
export const ErrorDocument = Type.Object({ code: Type.String(), message: Type.String() });
export type ErrorDocument = Static<typeof ErrorDocument>;

/** Value of the Server header field, by which a client recognizes Baton. */
export const SERVER_HEADER = 'Baton';
