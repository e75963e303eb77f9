/**
 * The nodes as objects: for each its state, who set it, why and since when. Operators set states
 * here, by name. The engine threads see them at their next pick, through node memory
 * (directory/node-memory.ts).
 *
 *     operators: setState -----+                            +--> log, listeners
 *                              +--> sources --> shown state-+
 *     balancer: NodeWatch -----+    (node-shown.ts)         +--> documents of the API
 */
import {
  ADMIN_STATES,
  type AdminState,
  MOST_REASON,
  type NodeCondition,
  type NodeDocument,
  type NodeSource,
  stateWords,
} from '../../api/documents.js';
import { BatonError, reasonOf } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { printable, quoted } from '../../base/text.js';
import { TokenBucket } from '../../base/token-bucket.js';
import { Admin } from '../../directory/node-memory.js';
import type { NodeStates } from '../../directory/node-states.js';
import { type Address, formatNodeAddress } from '../../wire/address.js';
import type { NodeStatus } from '../node-state.js';
import type { NodeSlot } from './farm.js';
import { finderOf, type Shown, shown, stateOf } from './node-shown.js';
import type { OperatorState, OperatorStates } from './operator-states.js';

/**
 * Limits of log lines about one node: MOST_LINES at once, then one in SECONDS_A_LINE. The last
 * state is always logged in the end.
 */
const MOST_LINES = 12;
const SECONDS_A_LINE = 5;

/** A node is in another state, or there is another reason for it. */
export type NodeChange = Pick<
  NodeDocument,
  'name' | 'state' | 'by' | 'why' | 'since' | 'condition'
>;

/** What NodeWatch has found out. */
export interface NodeFinder {
  status(slot: number): NodeStatus;
  /** Whether anything was looked for yet. Before that, no state is news. */
  hasLooked(slot: number): boolean;
  mac(slot: number): string | null;
  reportAgeMs(slot: number): number | null;
}

export interface NodeObjectsOptions {
  nodes: readonly NodeSlot[];
  states: Pick<NodeStates, 'weight' | 'setAdmin' | 'held'>;
  finder: NodeFinder;
  log: Log;
  /** ms on a clock that never jumps, for the limit of log lines. */
  now(): number;
  /** Where the states that operators set are kept; undefined: nowhere. */
  kept: OperatorStates | undefined;
  /** The node is in maintenance: its sessions have to end. */
  endSessions(slot: number): void;
}

interface NodeObject {
  readonly slot: number;
  name: string;
  readonly address: Address;
  retired: boolean;
  /** Undefined: nobody has set a state. */
  operator: OperatorState | undefined;
  /** ms since 1970. */
  readonly addedAt: number;
  /** When the balancer's own part last changed its state, ms since 1970. */
  foundSince: number;
  found: NodeStatus;
  /** Something about it was found out. */
  isKnown: boolean;
  shown: Shown;
  /** When the shown state last changed, ms since 1970. */
  since: number;
  /** What the last log line about the node said. */
  logged: string;
  loggedOperator: OperatorState | undefined;
  readonly lines: TokenBucket;
}

const UNKNOWN: NodeStatus = { condition: 'unresolved', why: '' };

export class NodeObjects {
  private readonly options: NodeObjectsOptions;
  private readonly bySlot = new Map<number, NodeObject>();
  private readonly listeners = new Set<(change: NodeChange) => void>();

  constructor(options: NodeObjectsOptions) {
    this.options = options;
    this.setFarm(options.nodes);
  }

  /**
   * Takes the nodes of a new farm. Who is gone loses its state, and who is new may have a kept one.
   */
  setFarm(nodes: readonly NodeSlot[]): void {
    const bySlot = new Map(nodes.map((node) => [node.slot, node]));
    let forgets = false;
    for (const [slot, { address, operator }] of this.bySlot) {
      if (bySlot.get(slot)?.address === address) continue;
      this.bySlot.delete(slot);
      forgets ||= operator !== undefined;
    }
    if (forgets) this.keep();
    for (const node of nodes) {
      const known = this.bySlot.get(node.slot);
      if (known === undefined) this.add(node);
      else this.follow(known, node);
      this.look(node.slot);
    }
  }

  /** A node that was removed and comes back is like a new one: nobody has set its state. */
  private follow(known: NodeObject, { name, retired }: NodeSlot): void {
    const isBack = known.retired && !retired;
    Object.assign(known, { name, retired });
    if (!isBack || known.operator === undefined) return;
    known.operator = undefined;
    this.apply(known);
    this.keep();
  }

  /** Calls `listener` with each change from now on. Returns what ends that. */
  onChange(listener: (change: NodeChange) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /**
   * Sets the state of a node for an operator.
   * @param actor who sets it: `local`, or the name of a token
   * @param reason at most MOST_REASON characters; shown with the state
   * @returns what has changed, a line for people each
   * @throws BatonError BATON_UNKNOWN for the name, BATON_REQUEST for the other parameters
   */
  setState(name: string, state: AdminState, actor: string, reason = ''): string[] {
    const node = this.find(name);
    if (!ADMIN_STATES.includes(state)) {
      throw new BatonError('BATON_REQUEST', `there is no state ${quoted(state)}`, {
        where: name,
        hint: `use one of ${ADMIN_STATES.join(', ')}`,
      });
    }
    checkReason(reason);
    const before = node.operator;
    const same = (before?.state ?? 'up') === state;
    if (same && (before?.why ?? '') === reason) return [];
    const time = Date.now();
    const since = same && before !== undefined ? before.since : time;
    node.operator = { state, by: actor, why: reason, since };
    this.apply(node);
    this.keep();
    this.look(node.slot, time);
    return [`node ${name} is ${stateWords(state)}${reason === '' ? '' : `: ${reason}`}`];
  }

  /**
   * Looks at a node again: something about it may have changed.
   * @param time ms since 1970
   */
  look(slot: number, time = Date.now()): void {
    const node = this.bySlot.get(slot);
    if (node === undefined) return;
    const found = this.options.finder.status(slot);
    if (stateOf(found) !== stateOf(node.found)) node.foundSince = time;
    const before = { ...node.shown, condition: node.found.condition };
    node.found = found;
    node.shown = shown(this.sources(node));
    const { state, by, why } = node.shown;
    if (state !== before.state) {
      // After a start, the node is what it was before.
      const kept = node.isKnown || node.operator?.state !== state ? undefined : node.operator;
      node.since = kept?.since ?? time;
    }
    node.isKnown ||= this.options.finder.hasLooked(slot);
    this.logChange(node);
    const same = state === before.state && by === before.by && why === before.why;
    if (same && found.condition === before.condition) return;
    const change = { name: node.name, ...node.shown, since: node.since, ...this.condition(node) };
    for (const listener of this.listeners) listener(change);
  }

  /**
   * The document of a node; undefined if there is none in this slot.
   * @param counts from the engine threads
   */
  document(
    slot: number,
    counts: Pick<NodeDocument, 'active' | 'adopted'>,
  ): NodeDocument | undefined {
    const node = this.bySlot.get(slot);
    if (node === undefined) return undefined;
    const { finder, states } = this.options;
    const reportAgeMs = finder.reportAgeMs(slot);
    // What is known without a report changes with time alone.
    this.look(slot);
    return {
      name: node.name,
      address: formatNodeAddress(node.address),
      mac: finder.mac(slot),
      weight: states.weight[slot] ?? 0,
      ...node.shown,
      since: node.since,
      ...this.condition(node),
      sources: this.sources(node),
      active: counts.active,
      held: states.held(slot),
      adopted: counts.adopted,
      lastReportMs: reportAgeMs === null ? null : Math.round(reportAgeMs),
    };
  }

  private condition(node: NodeObject): { condition: NodeCondition } {
    return { condition: node.found.condition };
  }

  private add({ slot, name, address, retired }: NodeSlot): void {
    const time = Date.now();
    const operator = this.options.kept?.of(address);
    const node: NodeObject = {
      slot,
      name,
      address,
      retired,
      operator,
      addedAt: time,
      foundSince: time,
      found: UNKNOWN,
      isKnown: false,
      shown: { state: 'down', by: 'balancer', why: '' },
      since: time,
      logged: '',
      loggedOperator: undefined,
      lines: new TokenBucket(1 / SECONDS_A_LINE, MOST_LINES),
    };
    this.bySlot.set(slot, node);
    if (operator === undefined) return;
    node.shown = shown(this.sources(node));
    node.since = operator.since;
    this.apply(node);
  }

  private apply({ slot, operator }: NodeObject): void {
    const state: AdminState = operator?.state ?? 'up';
    this.options.states.setAdmin(slot, Admin[state]);
    if (state === 'maintenance') this.options.endSessions(slot);
  }

  /** What each source says. The first one is who wants the node to be up, or not. */
  private sources({ operator, found, foundSince, addedAt }: NodeObject): NodeSource[] {
    const finder = finderOf(found);
    const configured: NodeSource = {
      source: 'config',
      state: 'up',
      by: 'config',
      why: '',
      since: addedAt,
    };
    return [
      operator === undefined ? configured : { source: 'operator', ...operator },
      { source: finder, state: stateOf(found), by: finder, why: found.why, since: foundSince },
    ];
  }

  private find(name: string): NodeObject {
    for (const node of this.bySlot.values()) if (node.name === name && !node.retired) return node;
    throw new BatonError('BATON_UNKNOWN', `there is no node ${quoted(name)}`);
  }

  private keep(): void {
    const { kept, log } = this.options;
    try {
      kept?.save([...this.bySlot.values()]);
    } catch (error) {
      const line = error instanceof BatonError ? error.toLine() : reasonOf(error);
      log.warn(`states of nodes will not survive a restart: ${line}`);
    }
  }

  private logChange(node: NodeObject): void {
    const { finder, now, log } = this.options;
    const { found, operator, shown } = node;
    const key = JSON.stringify([shown.state, shown.by, shown.why, found]);
    if (key === node.logged) return;
    // Whoever removed a node knows it. And before the first resolution, it is no news that the MAC
    // address is unknown.
    if (node.retired) return;
    if (operator === undefined && !finder.hasLooked(node.slot)) return;
    if (!node.lines.take(now())) return;
    const isNew = operator !== node.loggedOperator;
    node.logged = key;
    node.loggedOperator = operator;
    const text = `node ${node.name} is ${stateText(shown, found, isNew)}`;
    const isDown = shown.state === 'down' && found.condition !== 'leaving';
    if (isDown || (shown.state === 'up' && found.why !== '')) log.warn(text);
    else log.info(text);
  }
}

/** The words behind "node n1 is". @param isNew an operator has just set the state */
function stateText({ state, by, why }: Shown, { condition }: NodeStatus, isNew: boolean): string {
  const reason = why === '' ? '' : `: ${why}`;
  if (state === 'up') {
    const who = isNew && by !== 'balancer' ? ` by ${by}` : '';
    if (condition !== 'up') return `up (${condition})${who}${reason}`;
    return `up${who}${reason === '' || who !== '' ? reason : `, but${reason}`}`;
  }
  return `${stateWords(state)} ${by === 'balancer' ? `(${condition})` : `by ${by}`}${reason}`;
}

function checkReason(reason: string): void {
  const length = [...reason].length;
  if (length > MOST_REASON) {
    throw new BatonError('BATON_REQUEST', `a reason has at most ${MOST_REASON} characters`, {
      hint: `this one has ${length}`,
    });
  }
  if (printable(reason) !== reason) {
    throw new BatonError('BATON_REQUEST', 'a reason has printable characters only', {
      hint: `leave out the others of ${quoted(reason)}`,
    });
  }
}
