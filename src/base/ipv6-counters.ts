/** The engine's counters that only IPv6 packets have. */
import { type CounterInfo, counter } from './counter-info.js';

/** By name. `COUNTERS` has them too. */
export const IPV6_COUNTERS = {
  drop_malformed_ipv6: counter(
    'packets',
    'Packets dropped because their IPv6 header has a wrong version or wrong lengths.',
  ),
  drop_ipv6_extension: counter(
    'packets',
    'IPv6 packets for a virtual address, dropped because an extension header stands before TCP. Fragments are among them: look for a path MTU problem at the clients.',
  ),
  drop_alias_in_use: counter(
    'segments',
    'IPv6 segments dropped because another client has a session with the same alias, port and virtual server. The client can connect from another port.',
  ),
} as const satisfies Record<string, CounterInfo>;
