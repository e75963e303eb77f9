/** The document of `baton stats`: state and counters of a running balancer. */
import { type Static, Type } from '@sinclair/typebox';
import { STAGE_NAMES, STAGES, type StageName } from '../../base/stages.js';
import { Choice, Count, ForwardedCounts, Ms } from './common.js';
import { NodeDocument } from './nodes.js';
import { SERVER_STATES, ServerKeys } from './objects.js';

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
      port: Type.Integer({ description: 'The port; of several, the lowest' }),
      ...ServerKeys,
      predictor: Type.String(),
      state: Type.Optional(
        Choice(SERVER_STATES, 'removed: it is no longer in the config, and its sessions go on'),
      ),
      active: Count('Sessions that have not ended'),
      forwarded: Type.Optional(ForwardedCounts),
    }),
  ),
  nodes: Type.Array(NodeDocument),
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
    answering: Count('Answered by the balancer itself'),
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
