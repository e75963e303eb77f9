/** What differs between the config that runs and another one: in words, and for programs. */
import { isDeepStrictEqual } from 'node:util';
import { formatCount } from '../base/format.js';
import { patternKey } from '../directory/pattern.js';
import type { Timeouts } from '../engine/options.js';
import { formatAddress, formatEndpoint, formatNodeAddress } from '../wire/address.js';
import { resourceName } from './edit.js';
import type { BalancerConfig, NodeEntry, ResourceEntry, VirtualServer } from './load.js';
import { NODE_DEFAULTS } from './schema-objects.js';
import { formatConfigDuration } from './values.js';
import { formatPlace, NOT_SET, serverKeys, serverSummary, usualValue } from './virtual-server.js';

/** Numbers of objects. A moved object has kept its name and has another address. */
export interface ChangeCount {
  added: number;
  removed: number;
  moved: number;
  changed: number;
}

/** A key with another value, both values as text. */
export interface KeyChange {
  readonly key: string;
  readonly running: string;
  readonly wanted: string;
}

export interface ConfigDiff {
  /** One line for each change that can be made at run time; of each kind the first 20. */
  readonly lines: readonly string[];
  readonly nodes: ChangeCount;
  readonly virtualServers: ChangeCount;
  readonly resources: ChangeCount;
  /** Other keys that can change at run time and have another value, such as `timeouts.idle`. */
  readonly settings: readonly KeyChange[];
  /** Keys that have another value and cannot change at run time. `lines` does not name them. */
  readonly fixed: readonly KeyChange[];
  /** Neither objects nor keys differ. */
  readonly same: boolean;
}

/** Lines for one kind of objects. */
const MOST_LINES = 20;
/** Holders of a resource that a line names. */
const MOST_HOLDERS = 8;

/**
 * Compares two configs. Nodes and virtual servers are the same object when they have the same name,
 * resources when they match the same requests. The order of a list makes no difference.
 */
export function diffConfig(running: BalancerConfig, wanted: BalancerConfig): ConfigDiff {
  const nodes = new Changes('node', 'nodes');
  compareNamed<NodeEntry>(nodes, running.nodes, wanted.nodes, {
    place: ({ address }) => formatNodeAddress(address),
    extra: nodeExtra,
    differences: nodeDifferences,
  });
  const virtualServers = new Changes('virtual server', 'virtual servers');
  compareNamed<VirtualServer>(virtualServers, running.virtualServers, wanted.virtualServers, {
    place: formatPlace,
    extra: (server) => `, ${serverSummary(server, wanted.nodes)}`,
    differences: (before, after) =>
      serverDifferences(serverKeys(before, running.nodes), serverKeys(after, wanted.nodes)),
  });
  const resources = new Changes('resource', 'resources');
  compareResources(resources, running, wanted);
  const settings = changedKeys(settingsOf(running), settingsOf(wanted));
  const fixed = changedKeys(fixedOf(running), fixedOf(wanted));
  const lines = [
    ...virtualServers.lines(),
    ...nodes.lines(),
    ...resources.lines(),
    ...settings.map(({ key, running, wanted }) => `${key} ${running} -> ${wanted}`),
  ];
  return {
    lines,
    nodes: nodes.count,
    virtualServers: virtualServers.count,
    resources: resources.count,
    settings,
    fixed,
    same: lines.length === 0 && fixed.length === 0,
  };
}

/** The changes of one kind of objects: all are counted, the first ones are put into words. */
class Changes {
  readonly count: ChangeCount = { added: 0, removed: 0, moved: 0, changed: 0 };
  private readonly named: string[] = [];
  private total = 0;

  constructor(
    private readonly kind: string,
    private readonly kinds: string,
  ) {}

  /** @param words what has changed; the kind and a space come before them */
  add(what: keyof ChangeCount, words: () => string): void {
    this.count[what]++;
    this.total++;
    if (this.named.length < MOST_LINES) this.named.push(`${this.kind} ${words()}`);
  }

  lines(): string[] {
    const more = this.total - this.named.length;
    if (more === 0) return this.named;
    return [...this.named, `and ${formatCount(more)} more ${more === 1 ? this.kind : this.kinds}`];
  }
}

/** How lines describe objects that have a name and a place. */
interface Kind<Item> {
  place(item: Item): string;
  /** What else a line about a new object says. */
  extra(item: Item): string;
  /** "weight 1 -> 3", or empty. */
  differences(before: Item, after: Item): string;
}

function compareNamed<Item extends { readonly name: string }>(
  changes: Changes,
  running: readonly Item[],
  wanted: readonly Item[],
  kind: Kind<Item>,
): void {
  const left = new Map(running.map((item) => [item.name, item]));
  for (const after of wanted) {
    const before = left.get(after.name);
    left.delete(after.name);
    const place = kind.place(after);
    if (before === undefined) {
      changes.add('added', () => `${after.name} ${place} is added${kind.extra(after)}`);
      continue;
    }
    const differences = kind.differences(before, after);
    const moved = kind.place(before) !== place;
    if (moved) {
      const others = differences === '' ? '' : `, ${differences}`;
      changes.add(
        'moved',
        () => `${after.name}: moved, ${kind.place(before)} -> ${place}${others}`,
      );
    } else if (differences !== '') {
      changes.add('changed', () => `${after.name}: ${differences}`);
    }
  }
  for (const before of left.values())
    changes.add('removed', () => `${before.name} ${kind.place(before)} is removed`);
}

/** A key that only one of both kinds has is named if it does not have its usual value. */
function serverDifferences(before: Settings, after: Settings): string {
  const [old, present] = [new Map(before), new Map(after)];
  return [...new Set([...present.keys(), ...old.keys()])]
    .map((key) =>
      difference(key, old.get(key) ?? usualValue(key), present.get(key) ?? usualValue(key)),
    )
    .filter((line) => line !== '')
    .join(', ');
}

function wayOf({ handoff }: NodeEntry): string {
  return handoff ?? NODE_DEFAULTS.handoff;
}

function viaOf({ via }: NodeEntry): string {
  return via ?? NODE_DEFAULTS.via;
}

/** What a line about a new node says beside its address. */
function nodeExtra(node: NodeEntry): string {
  const weight = node.weight === 1 ? '' : `, weight ${node.weight}`;
  const way = wayOf(node);
  const handoff = way === NODE_DEFAULTS.handoff ? '' : `, handoff ${way}`;
  const via = viaOf(node);
  return `${weight}${handoff}${via === NODE_DEFAULTS.via ? '' : `, via ${via}`}`;
}

function nodeDifferences(before: NodeEntry, after: NodeEntry): string {
  return [
    difference('weight', before.weight, after.weight),
    difference('handoff', wayOf(before), wayOf(after)),
    difference('via', viaOf(before), viaOf(after)),
  ]
    .filter((text) => text !== '')
    .join(', ');
}

function difference(key: string, before: string | number, after: string | number): string {
  return before === after ? '' : `${key} ${before} -> ${after}`;
}

function compareResources(changes: Changes, running: BalancerConfig, wanted: BalancerConfig): void {
  // The index in `wanted.nodes` of each node that runs; -1: it is removed.
  const indices = new Map(wanted.nodes.map(({ name }, index) => [name, index]));
  const wantedIndex = running.nodes.map(({ name }) => indices.get(name) ?? -1);
  const different = unequal(running.resources, wanted.resources, wantedIndex);
  const left = new Map(different.running.map((resource) => [patternKey(resource), resource]));
  for (const after of different.wanted) {
    const key = patternKey(after);
    const before = left.get(key);
    left.delete(key);
    if (before === undefined) {
      const holders = (): string => holderText(after, wanted);
      const rewrite = after.rewrite === undefined ? '' : `, rewrite ${after.rewrite}`;
      changes.add('added', () => `${resourceName(after)} is added: holders ${holders()}${rewrite}`);
    } else {
      const isHeldAlike = sameHolders(before.nodes, after.nodes, wantedIndex);
      if (isHeldAlike && before.rewrite === after.rewrite) continue;
      changes.add('changed', () => {
        const holders = `${holderText(before, running)} -> ${holderText(after, wanted)}`;
        const parts = [
          ...(isHeldAlike ? [] : [`holders ${holders}`]),
          difference('rewrite', before.rewrite ?? NONE, after.rewrite ?? NONE),
        ];
        return `${resourceName(after)}: ${parts.filter((part) => part !== '').join(', ')}`;
      });
    }
  }
  for (const before of left.values())
    changes.add('removed', () => `${resourceName(before)} is removed`);
}

/**
 * Both lists without resources that are equal, and equally far from the beginning or the end. What
 * is left of two long lists after a few changes is short. A list has each resource once, so equal
 * ones belong together.
 */
function unequal(
  running: readonly ResourceEntry[],
  wanted: readonly ResourceEntry[],
  wantedIndex: readonly number[],
): { running: readonly ResourceEntry[]; wanted: readonly ResourceEntry[] } {
  const same = (before: ResourceEntry | undefined, after: ResourceEntry | undefined): boolean =>
    before !== undefined &&
    after !== undefined &&
    before.path === after.path &&
    before.host === after.host &&
    before.virtualServer === after.virtualServer &&
    before.rewrite === after.rewrite &&
    isDeepStrictEqual(before.alpn, after.alpn) &&
    sameHolders(before.nodes, after.nodes, wantedIndex);
  const fromStart = {
    running: running.filter((before, at) => !same(before, wanted[at])),
    wanted: wanted.filter((after, at) => !same(running[at], after)),
  };
  const end = { running: fromStart.running.length, wanted: fromStart.wanted.length };
  while (same(fromStart.running[end.running - 1], fromStart.wanted[end.wanted - 1])) {
    end.running--;
    end.wanted--;
  }
  return {
    running: fromStart.running.slice(0, end.running),
    wanted: fromStart.wanted.slice(0, end.wanted),
  };
}

function sameHolders(
  before: readonly number[],
  after: readonly number[],
  wantedIndex: readonly number[],
): boolean {
  if (before.length !== after.length) return false;
  // Most lists are in the same order, and no list has a node twice.
  if (before.every((node, position) => wantedIndex[node] === after[position])) return true;
  const present = new Set(after);
  return before.every((node) => present.has(wantedIndex[node] ?? -1));
}

function holderText({ nodes }: ResourceEntry, config: BalancerConfig): string {
  const named = nodes.slice(0, MOST_HOLDERS).map((node) => config.nodes[node]?.name ?? '?');
  const more = nodes.length - named.length;
  return more === 0 ? named.join(', ') : `${named.join(', ')} and ${formatCount(more)} more`;
}

const NONE = NOT_SET;

type Settings = readonly (readonly [key: string, value: string])[];

/** The keys that can change at run time, besides the lists of objects. */
function settingsOf(config: BalancerConfig): Settings {
  const { api, metrics, accessLog, timeouts } = config;
  const names = Object.keys(timeouts) as (keyof Timeouts)[];
  return [
    ...names.map((name) => [`timeouts.${name}`, formatConfigDuration(timeouts[name])] as const),
    ['log.level', config.log.level],
    ['api.listen', api === undefined ? NONE : formatEndpoint(api.listen)],
    ['api.certificate', api?.certificate ?? NONE],
    ['api.key', api?.key ?? NONE],
    ['api.tokens', api?.tokens ?? NONE],
    ['metrics.listen', metrics === undefined ? NONE : formatEndpoint(metrics.listen)],
    ['accessLog.file', accessLog?.file ?? NONE],
    ['accessLog.format', accessLog?.format ?? NONE],
  ];
}

function fixedOf(config: BalancerConfig): Settings {
  const limits = Object.entries(config.limits).sort(([a], [b]) => (a < b ? -1 : 1));
  return [
    ['interface', config.interface],
    ['nodeInterface', config.nodeInterface?.name ?? NONE],
    ['address', config.address === undefined ? NONE : formatAddress(config.address)],
    ['datapath', config.datapath],
    ['workers', String(config.workers)],
    ['keyFile', config.keyFile],
    ['controlSocket', config.controlSocket],
    ...limits.map(([name, value]) => [`limits.${name}`, String(value)] as const),
  ];
}

function changedKeys(running: Settings, wanted: Settings): KeyChange[] {
  const after = new Map(wanted);
  return running.flatMap(([key, value]) => {
    const other = after.get(key) ?? NONE;
    return other === value ? [] : [{ key, running: value, wanted: other }];
  });
}
