/** The engine's counters of connections that it does not know and looks for at the nodes. */
import { type CounterInfo, counter } from './counter-info.js';

/** By name. `COUNTERS` has them too. */
export const SEARCH_COUNTERS = {
  searched: counter(
    'connections',
    'Unknown connections for which the nodes were asked. A restart with datapath: packet causes one for each connection that a node has.',
  ),
  search_questions: counter(
    'questions',
    'Questions to nodes whether an unknown connection is theirs, repetitions included.',
  ),
  found: counter(
    'sessions',
    'Sessions that continue because a node said that it has the connection.',
  ),
  not_found: counter('connections', 'Unknown connections that no node has. The client got an RST.'),
  drop_searching: counter(
    'segments',
    'Segments of unknown connections dropped until a node has answered. Their clients send them again.',
  ),
  drop_search_limit: counter(
    'segments',
    'Segments of unknown connections dropped because too many others are being looked for. Their clients send them again. Right after a restart that is usual; at other times it is a flood.',
  ),
} as const satisfies Readonly<Record<string, CounterInfo>>;
