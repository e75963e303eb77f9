/**
 * The state of a node in one word, and why, in words: a function of what is known of it, and of
 * nothing else. So table and log say the same, and a trouble that is over is over in both.
 */

import type { NodeState } from '../api/documents.js';
import { Outcome } from '../directory/node-memory.js';
import type { NodeHealth } from '../directory/node-states.js';
import { KERNEL_OPTIONS, settingName } from '../host/kernel-options.js';
import { Setting } from '../host/sysctl.js';
import { IxcpFlag, IxcpReason } from '../wire/ixcp.js';
import { IxpFlag } from '../wire/ixp.js';

export interface NodeFacts extends NodeHealth {
  /** Its MAC address is known. */
  resolved: boolean;
  /** Why its MAC address is not known; it is not looked at when it is. */
  whyUnresolved: string;
  /** The balancer runs for so long that every agent has had time to report. */
  settled: boolean;
}

export interface NodeStatus {
  state: NodeState;
  /**
   * Empty when there is nothing to say. The same words as long as the same is so: no ages, no
   * counts.
   */
  why: string;
}

/** Reports come each second: one that is older than this, in ms, is worth a word. */
const REPORT_LATE_MS = 5_000;

/** Outcomes that are no IxcpReason. */
const NO_REFUSALS: readonly number[] = [Outcome.none, Outcome.adopted, Outcome.stalled];

/** For people, by IxcpReason. */
export function refusalText(reason: number): string {
  switch (reason) {
    case IxcpReason.noListener:
      return 'nothing listens there';
    case IxcpReason.unable:
      return 'its kernel cannot adopt: an MPTCP listener, or TCP options that are switched off there';
    case IxcpReason.tupleInUse:
      return 'an older connection of the same client port could not be removed';
    default:
      return `reason ${reason}`;
  }
}

/** What of `facts` is so; `servers` are the virtual servers by index. */
export function nodeStatus(
  facts: NodeFacts,
  servers: readonly { name: string; address: string; port: number }[],
): NodeStatus {
  const is = (state: NodeState, why: string): NodeStatus => ({ state, why });
  if (!facts.resolved) return is('unresolved', facts.whyUnresolved);
  if (facts.otherKey) {
    return is(
      'unable',
      'its agent has another key: balancer and nodes need key files with the same content',
    );
  }
  const reported = facts.reportAgeMs !== null;
  if (reported && (facts.flags & IxcpFlag.leaving) !== 0) {
    return is('leaving', 'its agent is stopping or has stopped');
  }
  if (reported && (facts.flags & IxcpFlag.canAdopt) === 0) {
    const cookies = (facts.flags & IxcpFlag.noCookies) !== 0;
    const setting = `${settingName(Setting.synCookies)} is 0 there`;
    return is('unable', cookies ? setting : 'its agent says that its kernel cannot adopt');
  }
  const lacking = lackingText(facts, servers);
  if (servers.length > 0 && facts.lacks.every((lacks) => lacks === 1)) return is('unable', lacking);
  const adopts = facts.outcomes.includes(Outcome.adopted);
  const refusing = refusingText(facts, servers);
  const stands = standstillText(facts, servers);
  const notes = [
    lacking,
    stands,
    refusing,
    facts.failed ? 'did not answer the last handoff' : '',
    reportText(facts),
    ...optionTexts(facts),
  ].filter((note) => note !== '');
  const why = notes.join('; ');
  if (facts.suspended || stands !== '') return is('suspended', why);
  if (refusing !== '' && !adopts) return is('refusing', why);
  if (!reported && facts.settled && !adopts) return is('unheard', why);
  return is('up', why);
}

function lackingText(facts: NodeFacts, servers: readonly { address: string }[]): string {
  const missing = servers
    .filter((_, index) => facts.lacks[index] === 1)
    .map(({ address }) => address);
  if (missing.length === 0) return '';
  return `it has no address ${[...new Set(missing)].join(', ')}: its config needs it in virtualAddresses`;
}

function standstillText(
  facts: NodeFacts,
  servers: readonly { name: string; port: number }[],
): string {
  return servers
    .filter((_, index) => facts.outcomes[index] === Outcome.stalled)
    .map(
      ({ name, port }) =>
        `its web server does not read what it is handed of ${name} (port ${port})`,
    )
    .join('; ');
}

function refusingText(
  facts: NodeFacts,
  servers: readonly { name: string; port: number }[],
): string {
  const refused = servers.flatMap(({ name, port }, index) => {
    const outcome = facts.outcomes[index] ?? Outcome.none;
    if (facts.lacks[index] === 1 || NO_REFUSALS.includes(outcome)) return [];
    return [`refused the last handoff of ${name} (port ${port}): ${refusalText(outcome)}`];
  });
  return refused.join('; ');
}

function reportText(facts: NodeFacts): string {
  if (facts.reportAgeMs !== null) {
    return facts.reportAgeMs > REPORT_LATE_MS ? 'its agent reports no more' : '';
  }
  return facts.settled
    ? 'its agent has never reported: it does not run there, or this balancer is missing in its `balancers`'
    : '';
}

function optionTexts(facts: NodeFacts): string[] {
  if (facts.reportAgeMs === null) return [];
  return KERNEL_OPTIONS.filter(({ flag }) => (facts.flags & flag) !== 0).map(
    ({ name, setting, option }) => `${settingName(setting)} is 0 there: ${costOf(name, option)}`,
  );
}

/** What it costs that an option is off somewhere. */
export function costOf(name: string, option: number): string {
  return option === IxpFlag.sackOk
    ? `its sessions go on without ${name}`
    : `no client is offered ${name}`;
}
