/**
 * `baton balancer --detach-all`: removes everything that earlier runs of a balancer left on an
 * interface. It also finds what no journal lists: programs and pins have known names.
 */
import type { BalancerConfig } from '../../config/load.js';
import { hasAddress } from '../../host/addresses.js';
import { listFilters } from '../../host/filters.js';
import { type Change, describeChange } from '../../host/journal/changes.js';
import { Journal } from '../../host/journal/journal.js';
import { native } from '../../host/native.js';
import { hasPins, pinName, removeStalePins } from '../../host/pins.js';
import { requirePrivileges } from '../../host/privilege.js';
import { XDP_PROGRAM } from '../../host/xdp.js';
import { forgetSaved } from '../forward/saved-tables.js';
import { lockInterfaces } from './interfaces.js';

export interface DetachOptions
  extends Pick<BalancerConfig, 'interface' | 'nodeInterface' | 'virtualServers'> {
  warn: (message: string) => void;
  /** For tests. */
  journalDirectory?: string;
}

const GUARD = /^guard_(?:in|e)gress$/;
const SHIM = /^shim_(?:in|e)gress$/;

/**
 * Detaches everything. Returns in words what it removed, and what it could not remove.
 * @throws BatonError BATON_IN_USE while a balancer works on one of the interfaces
 */
export async function detachAll(
  options: DetachOptions,
): Promise<{ removed: string[]; left: string[] }> {
  requirePrivileges();
  const { interface: name } = options;
  const nodeInterface = options.nodeInterface?.name;
  const lock = await lockInterfaces(nodeInterface === undefined ? [name] : [name, nodeInterface]);
  try {
    const info = native().interfaceInfo(name);
    const journal = new Journal({
      role: 'balancer',
      interface: name,
      // Nothing in the journal of an interface that is gone is still in force.
      index: info?.index ?? 0,
      mac: info?.mac ?? new Uint8Array(6),
      warn: options.warn,
      ...(options.journalDirectory === undefined ? {} : { directory: options.journalDirectory }),
    });
    for (const change of findUnrecorded(options, info?.index)) journal.addLeftover(change);
    const inForce = journal.inForce();
    await journal.end();
    const left = journal.changes;
    const words = (changes: readonly Change[]): string[] => changes.map(describeChange);
    return {
      removed: [
        ...words(inForce.filter((change) => !left.includes(change))),
        ...(forgetSaved(name) ? ['the flows that a balancer left for the next one'] : []),
        ...removeStalePins().map((name) => `pins ${name} of an interface that is gone`),
      ],
      left: words(left),
    };
  } finally {
    await lock.release();
  }
}

/** Finds what is ours by its name, in the order in which a start makes it. */
function findUnrecorded(options: DetachOptions, index: number | undefined): Change[] {
  const { interface: name, virtualServers } = options;
  const found: Change[] = [];
  if (index !== undefined) {
    const filters = listFilters(name);
    // A node's agent has a shim too. Only a balancer has a guard.
    const guarded = filters.some((filter) => GUARD.test(filter.program ?? ''));
    for (const { hook, priority, handle, program } of filters) {
      if (program === undefined || !guarded || !(GUARD.test(program) || SHIM.test(program)))
        continue;
      found.push({ kind: 'filter', hook, priority, handle, program });
    }
    const attached = native().xdpProgram(index);
    if (attached?.name === XDP_PROGRAM && attached.mode !== 'hardware') {
      found.push({ kind: 'xdp', mode: attached.mode });
    }
  }
  if (options.nodeInterface !== undefined) found.push(...findGuard(options.nodeInterface.name));
  const pins = pinName(name);
  if (hasPins(pins)) found.push({ kind: 'pins', name: pins });
  if (found.length === 0) return found;
  // If our programs are there, the virtual addresses are ours too. Otherwise they may belong to
  // others.
  for (const { address } of virtualServers) {
    const change = { interface: name, address, prefix: 32 };
    if (hasAddress(change)) found.push({ kind: 'address', ...change });
  }
  return found;
}

/** Finds the guard on the interface by which nodes are reached. */
function findGuard(name: string): Change[] {
  const index = native().interfaceInfo(name)?.index;
  if (index === undefined) return [];
  return listFilters(name).flatMap(({ hook, priority, handle, program }): Change[] => {
    if (program === undefined || !GUARD.test(program)) return [];
    return [{ kind: 'filter', at: { interface: name, index }, hook, priority, handle, program }];
  });
}
