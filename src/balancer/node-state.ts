/**
 * The condition of a node in one word, and the reason in a sentence. It is a function of what is
 * known of the node, and of nothing else. So the table and the log always agree.
 */

import type { NodeCondition } from '../api/documents.js';
import { Outcome, Way } from '../directory/node-memory.js';
import type { NodeHealth } from '../directory/node-states.js';
import { KERNEL_OPTIONS, settingName } from '../host/kernel-options.js';
import { Setting } from '../host/sysctl.js';
import { formatAddress } from '../wire/address.js';
import { IxcpFlag, IxcpReason } from '../wire/ixcp.js';
import { IxpFlag } from '../wire/ixp.js';
import type { ServerSlot } from './objects/farm.js';

export interface NodeFacts extends NodeHealth {
  /** Its MAC address is known. */
  resolved: boolean;
  /** Why the MAC address is unknown. Not used if it is known. */
  whyUnresolved: string;
  /** The balancer has run long enough for every agent to report. */
  settled: boolean;
  /** It gets handoffs. Without them, no agent need run there. */
  needsAgent: boolean;
}

export interface NodeStatus {
  condition: NodeCondition;
  /**
   * Empty when nothing is unusual. The text must not change while the facts stay the same, so it
   * has no ages and no counts.
   */
  why: string;
}

/** Reports come every second. The reason mentions a last report that is older than this, in ms. */
const REPORT_LATE_MS = 5_000;

/** Outcomes that are not an IxcpReason. */
const NO_REFUSALS: readonly number[] = [Outcome.none, Outcome.adopted, Outcome.stalled];

/** The text for an IxcpReason. */
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

/** A virtual server in its slot, by which the facts have it. */
export type StatusServer = Pick<ServerSlot, 'slot' | 'name' | 'address' | 'port'>;

/**
 * Decides the condition of a node.
 * @param servers the virtual servers that take sessions
 * @param forwarding those with mode forward that have the node in their list
 */
export function nodeStatus(
  facts: NodeFacts,
  servers: readonly StatusServer[],
  forwarding: readonly StatusServer[] = [],
): NodeStatus {
  const is = (condition: NodeCondition, why: string): NodeStatus => ({ condition, why });
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
  const why = unableText(facts);
  if (why !== '') return is('unable', why);
  const lacking = lackingText(facts, servers);
  if (servers.length > 0 && servers.every(({ slot }) => facts.lacks[slot] === 1))
    return is('unable', lacking);
  const adopts = facts.outcomes.includes(Outcome.adopted);
  const refusing = refusingText(facts, servers);
  const stands = standstillText(facts, servers);
  const notes = [
    lacking,
    notSetUpText(facts, forwarding),
    stands,
    refusing,
    facts.failed ? 'did not answer the last handoff' : '',
    reportText(facts),
    replayText(facts, servers),
    ...optionTexts(facts),
  ].filter((note) => note !== '');
  const text = notes.join('; ');
  if (facts.suspended || stands !== '') return is('suspended', text);
  if (refusing !== '' && !adopts) return is('refusing', text);
  if (!reported && facts.settled && facts.needsAgent && !adopts) return is('unheard', text);
  return is('up', text);
}

/** Why a node that has reported cannot take sessions in its way; empty: it can. */
function unableText(facts: NodeFacts): string {
  if (facts.reportAgeMs === null) return '';
  const adopts = (facts.flags & IxcpFlag.canAdopt) !== 0;
  const replays = (facts.flags & IxcpFlag.canReplay) !== 0;
  if (facts.way === Way.replay)
    return replays ? '' : 'its agent is too old for `handoff: replay`: install this version there';
  if (adopts || (replays && facts.way === Way.auto)) return '';
  return noAdoptionText(facts);
}

function noAdoptionText({ flags }: NodeFacts): string {
  return (flags & IxcpFlag.noCookies) !== 0
    ? `${settingName(Setting.synCookies)} is 0 there`
    : 'its agent says that its kernel cannot adopt';
}

/** Why a node with `handoff: auto` gets sessions by replay; empty: it does not. */
function replayText(facts: NodeFacts, servers: readonly StatusServer[]): string {
  if (facts.way !== Way.auto || facts.reportAgeMs === null) return '';
  if ((facts.flags & IxcpFlag.canAdopt) === 0)
    return `takes connections by replay: ${noAdoptionText(facts)}`;
  const names = servers
    .filter(({ slot }) => facts.unadoptable[slot] === 1)
    .map(({ name, port }) => `${name} (port ${port})`);
  if (names.length === 0) return '';
  return `takes connections of ${names.join(', ')} by replay: ${refusalText(IxcpReason.unable)}`;
}

function lackingText(facts: NodeFacts, servers: readonly StatusServer[]): string {
  const missing = servers
    .filter(({ slot }) => facts.lacks[slot] === 1)
    .map(({ address }) => formatAddress(address));
  if (missing.length === 0) return '';
  return `it lacks the address ${[...new Set(missing)].join(', ')}: add it to virtualAddresses in its config`;
}

/** Packets of mode forward need the address, and no agent: something else may have set it up. */
function notSetUpText(facts: NodeFacts, servers: readonly StatusServer[]): string {
  const missing = servers
    .filter(({ slot }) => facts.lacks[slot] === 1)
    .map(({ name, address }) => `${formatAddress(address)} of ${name}`);
  if (missing.length === 0) return '';
  return `its agent does not set up ${missing.join(', ')}: add it to virtualAddresses in its config, unless the node has the address anyway`;
}

function standstillText(facts: NodeFacts, servers: readonly StatusServer[]): string {
  return servers
    .filter(({ slot }) => facts.outcomes[slot] === Outcome.stalled)
    .map(({ name, port }) => `its web server does not read the requests of ${name} (port ${port})`)
    .join('; ');
}

function refusingText(facts: NodeFacts, servers: readonly StatusServer[]): string {
  const refused = servers.flatMap(({ slot, name, port }) => {
    const outcome = facts.outcomes[slot] ?? Outcome.none;
    if (facts.lacks[slot] === 1 || NO_REFUSALS.includes(outcome)) return [];
    return [`refused the last handoff of ${name} (port ${port}): ${refusalText(outcome)}`];
  });
  return refused.join('; ');
}

function reportText(facts: NodeFacts): string {
  if (facts.reportAgeMs !== null) {
    return facts.reportAgeMs > REPORT_LATE_MS ? 'its agent no longer reports' : '';
  }
  return facts.settled && facts.needsAgent
    ? 'its agent has never reported: it is not running, or its `balancers` does not list this balancer'
    : '';
}

function optionTexts(facts: NodeFacts): string[] {
  if (facts.reportAgeMs === null) return [];
  return KERNEL_OPTIONS.filter(({ flag }) => (facts.flags & flag) !== 0).map(
    ({ name, setting, option }) => `${settingName(setting)} is 0 there: ${costOf(name, option)}`,
  );
}

/** The consequence when a TCP option is disabled on a machine. */
export function costOf(name: string, option: number): string {
  return option === IxpFlag.sackOk
    ? `its sessions continue without ${name}`
    : `no client is offered ${name}`;
}
