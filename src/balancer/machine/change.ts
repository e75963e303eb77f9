/**
 * A change of the farm while the balancer runs, on its machine. All checks come first. Then the
 * change is made in an order in which a client never reaches a virtual server that is half there:
 *
 *     added     guard, XDP program, address on the interface, announcement
 *     removed   address, XDP program, guard
 *
 * An address is on the interface as long as a virtual server in any slot has it, also a retired
 * one. A change that fails half-way is undone, latest step first.
 */
import { BatonError, reasonOf } from '../../base/errors.js';
import { runAll } from '../../base/run-all.js';
import { MAX_XDP_NODES, MOST_VIRTUAL_SERVERS } from '../../datapath/xdp-layout.js';
import { requireTowards } from '../../host/interfaces.js';
import type { Journal } from '../../host/journal/journal.js';
import { native } from '../../host/native.js';
import {
  type Address,
  formatAddress,
  formatEndpoint,
  type OwnAddresses,
  ownTowards,
} from '../../wire/address.js';
import type { FarmSlots, ServerSlot } from '../objects/farm.js';
import type { Guard } from './guard.js';
import type { MachineInterfaces } from './interfaces.js';
import { requireNoListener } from './listeners.js';
import { type Announcer, probeAddresses } from './virtual-addresses.js';
import type { XdpProgram } from './xdp-program.js';

/** A change that was checked. Nothing of it is visible yet. */
export interface PreparedChange {
  /**
   * Makes the change.
   * @throws BatonError when the system refuses a step; then the machine is as before
   */
  commit(): Promise<void>;
  /** Gives the change up. */
  abandon(): Promise<void>;
}

/** The parts of the machine that a change is made to. */
export interface ChangeParts {
  interface: string;
  guard: Guard;
  xdp: XdpProgram | undefined;
  journal: Journal;
  announcer: Announcer;
  warn: (message: string) => void;
}

interface Step {
  make: () => unknown;
  undo: () => unknown;
}

/** The addresses of virtual servers, each once. */
export function addressesOf(entries: readonly { readonly address: Address }[]): Address[] {
  return [...new Set(entries.map((entry) => entry.address))];
}

/**
 * Checks whether this machine can have the farm `next` in place of `now`.
 * @param clients the interface by which clients are reached
 * @param own the balancer's own address
 * @throws BatonError for what is wrong
 */
export async function requireChange(
  now: FarmSlots,
  next: FarmSlots,
  { clients, nodes }: MachineInterfaces,
  own: OwnAddresses,
): Promise<void> {
  requireRoom(next);
  requireTowards((nodes ?? clients).name, own, addressesOf(next.nodes));
  requireDistinct(now, next, own);
  const inUse = new Set(now.servers.filter((server) => !server.retired).map(formatEndpoint));
  await requireNoListener(
    next.servers.filter((server) => !server.retired && !inUse.has(formatEndpoint(server))),
    next.nodes,
  );
  const known = addressesOf(now.servers);
  const { index, mac } = clients.info;
  const onInterface = native().interfaceInfo(clients.name)?.addresses ?? [];
  const wanted = addressesOf(next.servers).filter(
    (address) =>
      !known.includes(address) && !onInterface.some((entry) => entry.address === address),
  );
  if (wanted.length > 0) await probeAddresses(index, mac, wanted);
}

/**
 * Makes a change.
 * @throws BatonError for the first step that failed. Everything is as before then; a warning says
 *   what is not.
 */
export async function applyChange(
  parts: ChangeParts,
  now: FarmSlots,
  next: FarmSlots,
): Promise<void> {
  const undo: (() => unknown)[] = [];
  try {
    for (const step of stepsOf(parts, now, next)) {
      // Before the step: one that fails may have done a part.
      undo.unshift(step.undo);
      await step.make();
    }
  } catch (error) {
    for (const failure of await runAll(undo))
      parts.warn(`a step of a failed change cannot be undone: ${reasonOf(failure)}`);
    if (error instanceof BatonError) throw error;
    throw new BatonError('BATON_SYSTEM', `the change was undone: ${reasonOf(error)}`, {
      where: parts.interface,
      cause: error,
    });
  }
}

function* stepsOf(parts: ChangeParts, now: FarmSlots, next: FarmSlots): Generator<Step> {
  const { guard, xdp, journal, announcer } = parts;
  const before = addressesOf(now.servers);
  const after = addressesOf(next.servers);
  const slots = new Set(next.servers.map((server) => server.slot));
  // Those that leave stay until their addresses have left, unless another one has the slot now.
  const both = [...next.servers, ...now.servers.filter((server) => !slots.has(server.slot))];
  const servers = (from: readonly ServerSlot[], to: readonly ServerSlot[]): Step[] => [
    { make: () => guard.setServers(to), undo: () => guard.setServers(from) },
    { make: () => xdp?.setServers(to), undo: () => xdp?.setServers(from) },
  ];
  const add = (address: Address): Promise<void> => journal.address(parts.interface, address);
  const remove = (address: Address): Promise<void> => {
    announcer.forget(address);
    return journal.removeAddress(parts.interface, address);
  };
  const added = after.filter((address) => !before.includes(address));
  yield* servers(now.servers, both);
  for (const address of added) yield { make: () => add(address), undo: () => remove(address) };
  yield { make: () => announcer.announce(added), undo: () => {} };
  for (const address of before.filter((address) => !after.includes(address))) {
    yield {
      make: () => remove(address),
      undo: () => add(address).then(() => announcer.announce([address])),
    };
  }
  yield* servers(both, next.servers).reverse();
  yield { make: () => xdp?.setNodes(next.nodes), undo: () => xdp?.setNodes(now.nodes) };
}

function requireRoom({ nodes, servers }: FarmSlots): void {
  const full = (slots: readonly { slot: number }[], most: number): boolean =>
    slots.some(({ slot }) => slot >= most);
  const refuse = (most: number, what: string): never => {
    throw new BatonError('BATON_CONFIG', `there is room for ${most} ${what}`, {
      hint: 'those that were removed count until their last session has ended',
    });
  };
  if (full(nodes, MAX_XDP_NODES)) refuse(MAX_XDP_NODES, 'nodes');
  if (full(servers, MOST_VIRTUAL_SERVERS)) refuse(MOST_VIRTUAL_SERVERS, 'virtual servers');
}

/** Requires that no new address of a virtual server or node is in use here as another thing. */
function requireDistinct(now: FarmSlots, next: FarmSlots, own: OwnAddresses): void {
  const added = <Slot extends { address: Address }>(
    slots: readonly Slot[],
    earlier: readonly Slot[],
  ): Slot[] => {
    const known = new Set(earlier.map(({ address }) => address));
    return slots.filter(({ address }) => !known.has(address));
  };
  const refuse = (what: string, address: Address, is: string, removed = false): never => {
    throw new BatonError('BATON_IN_USE', `${what} has ${formatAddress(address)}, which is ${is}`, {
      hint: removed ? 'that one is removed: try again when its last session has ended' : undefined,
    });
  };
  const isOwn = (address: Address): boolean => address === ownTowards(own, address);
  const virtual = new Map(next.servers.map((server) => [server.address, server]));
  const nodes = new Map(next.nodes.map((node) => [node.address, node]));
  for (const { name, address } of added(next.servers, now.servers)) {
    const what = `virtual server ${name}`;
    if (isOwn(address)) refuse(what, address, "the balancer's own address");
    const node = nodes.get(address);
    if (node !== undefined) refuse(what, address, `the address of node ${node.name}`, node.retired);
  }
  for (const { name, address } of added(next.nodes, now.nodes)) {
    const what = `node ${name}`;
    if (isOwn(address)) refuse(what, address, "the balancer's own address");
    const server = virtual.get(address);
    if (server !== undefined)
      refuse(what, address, `the address of virtual server ${server.name}`, server.retired);
  }
}
