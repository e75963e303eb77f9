/** The reasons in words that `baton explain` gives. */
import { formatDuration } from '../../base/format.js';
import { formatAddress } from '../../wire/address.js';
import type { ExplainAnswer, ExplainedHolder } from '../threads/engine-messages.js';
import type { ExplainedNode } from './explain.js';
import type { ServerSlot } from './farm.js';

/** What the balancer itself answers with a status. */
export function resultOf(status: number): string {
  switch (status) {
    case 400:
      return 'the balancer would answer 400: this is not a valid request (RFC 9112)';
    case 404:
      return 'the balancer would answer 404: no resource of the config covers this host and path';
    case 431:
      return 'the balancer would answer 431: the request head is longer than limits.headBytes';
    default:
      return 'the balancer would answer 503: no holder takes the session';
  }
}

/** What a TLS client gets from the balancer itself, by the name of the alert. */
export function alertResultOf(alert: string): string {
  return `the balancer would answer with the TLS alert ${alert}: ${ALERT_REASONS[alert] ?? 'this is not a valid ClientHello (RFC 8446)'}`;
}

const ALERT_REASONS: Readonly<Record<string, string>> = {
  unrecognized_name: 'no resource of the config covers this host with the path /',
  missing_extension: 'the client names no host, and no resource without a host has the path /',
  no_application_protocol: 'resources cover this host, but none of these protocols',
  internal_error: 'no holder takes the session',
};

/**
 * Why each holder of an answer would get the session, or not; in the order of its holders.
 *
 * @param status of the node in a slot
 */
export function reasonsOf(
  answer: ExplainAnswer,
  server: ServerSlot,
  status: (slot: number) => ExplainedNode,
): string[] {
  const { holders, node } = answer;
  const takers = holders.filter(({ takes }) => takes);
  const scores = takers.map(({ score }) => score ?? 0);
  const least = Math.min(...scores);
  const tied = takers.filter(({ score }) => (score ?? 0) === least).length > 1;
  return holders.map((holder) => {
    const obstacle = obstacleText(holder, server, status(holder.node));
    if (holder.node === node) {
      if (obstacle !== '') return `chosen, because no other holder takes the session; ${obstacle}`;
      if (takers.length === 1) return 'chosen: no other holder takes the session';
      const why = holder.score === null ? '' : 'the fewest sessions for its weight';
      if (!tied) return `chosen: ${why}`;
      return `chosen: ${why}${why === '' ? '' : ', and '}it is its turn`;
    }
    if (obstacle !== '') return obstacle;
    const isLeast = (holder.score ?? 0) === least;
    return isLeast ? 'not its turn' : 'more sessions for its weight than another holder';
  });
}

/** Why the node does not take the session; empty: it does. */
function obstacleText(
  { obstacle, forMs }: ExplainedHolder,
  server: ServerSlot,
  { why }: ExplainedNode,
): string {
  const because = why === '' ? '' : `: ${why}`;
  const left = forMs === null ? '' : ` for another ${formatDuration(forMs)}`;
  switch (obstacle) {
    case null:
      return '';
    case 'weight':
      return 'its weight is 0';
    case 'unresolved':
      return `its MAC address is not known${because}`;
    case 'unable':
      return `it says that it takes no sessions${because}`;
    case 'draining':
      return `it is draining${because}`;
    case 'maintenance':
      return `it is in maintenance${because}`;
    case 'address':
      return `it lacks the address ${formatAddress(server.address)}`;
    case 'options':
      return 'its kernel refuses TCP options that clients are offered';
    case 'suspended':
      return `it did not answer and is the last choice${left}`;
    case 'resting':
      return `it is the last choice for this virtual server${left}${because}`;
  }
}
