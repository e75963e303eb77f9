/** Counters of the API: what its callers did. `baton stats` shows them with the others. */
import { type CounterInfo, counter } from './counter-info.js';

export const API_COUNTERS = {
  api_no_token: counter(
    'calls',
    'Calls of the API over TLS without a valid token; they got 401. Somebody tries tokens, or uses one that has been removed: the log names the address.',
  ),
  api_no_right: counter(
    'calls',
    'Calls of the API over TLS whose token may only read, but which would have changed something; they got 403.',
  ),
  api_connection_refused: counter(
    'connections',
    'TLS connections to the API that were closed at once, because the most possible were open.',
  ),
  api_event_refused: counter(
    'calls',
    'Event streams that got 503, because the most possible were open.',
  ),
  api_event_slow: counter(
    'streams',
    'Event streams that were closed, because their client did not read.',
  ),
} as const satisfies Readonly<Record<string, CounterInfo>>;

export type ApiCounter = keyof typeof API_COUNTERS;
