/**
 * The kinds of changes that Baton makes to a machine. For each kind, this file knows how to check
 * whether the change is in force, and how to undo it. To undo a change that is no longer in force,
 * or that somebody else has overwritten, does nothing.
 */

import { type Address, formatAddress, parseAddress } from '../../wire/address.js';
import { type HostAddress, listAddresses, removeAddress, sameAddress } from '../addresses.js';
import { isMap } from '../command.js';
import { type Hook, type HostFilter, hasClsact, listFilters } from '../filters.js';
import { native, type XdpMode } from '../native.js';
import { hasPins, isPinName, pinDirectory, removePins } from '../pins.js';
import { readSetting, writeSetting } from '../sysctl.js';
import { hasXdp, removeXdp, XDP_PROGRAM } from '../xdp.js';

/** An address that Baton added. */
export interface AddressChange {
  kind: 'address';
  interface: string;
  address: Address;
  prefix: number;
}

/** A setting below /proc/sys/net whose value Baton replaced. */
export interface SettingChange {
  kind: 'setting';
  setting: string;
  value: string;
  previous: string;
}

/** A clsact queueing discipline that Baton added. */
export interface ClsactChange {
  kind: 'clsact';
  /** Absent: the journal's own interface. */
  at?: Place;
}

/** A tc filter. */
export interface FilterChange {
  kind: 'filter';
  /** Absent: the journal's own interface. */
  at?: Place;
  hook: Hook;
  priority: number;
  handle: number;
  /** Name of the BPF program. A filter in this place with another name is not Baton's. */
  program: string;
}

/** Baton's XDP program on the journal's own interface. */
export interface XdpChange {
  kind: 'xdp';
  mode: XdpMode;
}

/** A directory of pinned maps and programs. */
export interface PinsChange {
  kind: 'pins';
  /** Its name below /sys/fs/bpf/baton. */
  name: string;
}

export type Change =
  | AddressChange
  | SettingChange
  | ClsactChange
  | FilterChange
  | XdpChange
  | PinsChange;

/** An interface of this machine: the journal's own, or another one. */
export interface Place {
  interface: string;
  /** Index of the interface. A later interface with the same name has another index. */
  index: number;
}

/** Whether both changes are about the same object. Their values may differ. */
export function sameThing(one: Change, other: Change): boolean {
  switch (one.kind) {
    case 'address':
      return other.kind === 'address' && sameAddress(one, other);
    case 'setting':
      return other.kind === 'setting' && one.setting === other.setting;
    case 'clsact':
      return other.kind === 'clsact' && one.at?.interface === other.at?.interface;
    case 'filter':
      return (
        other.kind === 'filter' &&
        one.at?.interface === other.at?.interface &&
        one.hook === other.hook &&
        one.priority === other.priority &&
        one.handle === other.handle
      );
    case 'xdp':
      return other.kind === 'xdp';
    case 'pins':
      return other.kind === 'pins' && one.name === other.name;
  }
}

/** A change in words. */
export function describeChange(change: Change): string {
  switch (change.kind) {
    case 'address':
      return `address ${formatAddress(change.address)}/${change.prefix} on ${change.interface}`;
    case 'setting':
      return `net/${change.setting} = ${change.value}`;
    case 'clsact':
      return `clsact${onOther(change.at)}`;
    case 'filter':
      return `tc filter ${change.program} (${change.hook})${onOther(change.at)}`;
    case 'xdp':
      return `XDP program ${XDP_PROGRAM} (${change.mode})`;
    case 'pins':
      return `pins in ${pinDirectory(change.name)}`;
  }
}

function onOther(place: Place | undefined): string {
  return place === undefined ? '' : ` on ${place.interface}`;
}

/**
 * Addresses and filters of this machine. Each list is read from the kernel once, when first used.
 */
export class HostView {
  readonly name: string;
  private addresses: HostAddress[] | undefined;
  private readonly filters = new Map<string, HostFilter[]>();

  constructor(interfaceName: string) {
    this.name = interfaceName;
  }

  listAddresses(): HostAddress[] {
    this.addresses ??= listAddresses();
    return this.addresses;
  }

  listFilters(at: Place | undefined): HostFilter[] {
    const name = at?.interface ?? this.name;
    const known = this.filters.get(name) ?? listFilters(name);
    this.filters.set(name, known);
    return known;
  }
}

/** Whether the interface still exists. One with the same name and another index does not count. */
function isPresent(place: { interface: string; index: number }): boolean {
  return native().interfaceInfo(place.interface)?.index === place.index;
}

/** Whether the change is in force. Throws BatonError BATON_SYSTEM when the kernel does not say. */
export function isInForce(change: Change, view: HostView): boolean {
  // A change on another interface ends with that interface.
  if ('at' in change && change.at !== undefined && !isPresent(change.at)) return false;
  switch (change.kind) {
    case 'address':
      return view.listAddresses().some((entry) => sameAddress(entry, change));
    case 'setting':
      return readSetting(change.setting) === change.value;
    case 'clsact':
      return hasClsact(change.at?.interface ?? view.name);
    case 'filter':
      return view
        .listFilters(change.at)
        .some(
          (filter) =>
            filter.hook === change.hook &&
            filter.priority === change.priority &&
            filter.handle === change.handle &&
            filter.program === change.program,
        );
    case 'xdp': {
      const index = native().interfaceInfo(view.name)?.index;
      return index !== undefined && hasXdp(index);
    }
    case 'pins':
      return hasPins(change.name);
  }
}

/** Undoes a change. Throws when the system refuses. */
export async function undo(change: Change, own: Place): Promise<void> {
  const place = ('at' in change ? change.at : undefined) ?? own;
  // When an interface is gone, the kernel has removed what belonged to it.
  const view = new HostView(place.interface);
  const present = isPresent(place);
  switch (change.kind) {
    case 'address':
      if (present || change.interface !== place.interface) await removeAddress(change);
      break;
    case 'setting':
      if (isInForce(change, view)) writeSetting(change.setting, change.previous);
      break;
    case 'clsact':
      if (present && isInForce(change, view)) native().removeClsactIfEmpty(place.index);
      break;
    case 'filter':
      if (present && isInForce(change, view)) {
        native().detachTc(place.index, change.hook, change.priority, change.handle);
      }
      break;
    case 'xdp':
      if (present) removeXdp(place.index);
      break;
    case 'pins':
      removePins(change.name);
      break;
  }
}

/** The change as data for JSON, in which addresses are text. `parseChange` reads it. */
export function changeToJson(change: Change): Record<string, unknown> {
  return change.kind === 'address'
    ? { ...change, address: formatAddress(change.address) }
    : { ...change };
}

/** Reads a change from parsed JSON. Undefined when it is not valid. */
export function parseChange(data: unknown): Change | undefined {
  if (!isMap(data)) return undefined;
  switch (data.kind) {
    case 'address': {
      const { interface: name, prefix } = data;
      const address = typeof data.address === 'string' ? parseAddress(data.address) : undefined;
      if (typeof name !== 'string' || address === undefined || typeof prefix !== 'number')
        return undefined;
      return { kind: 'address', interface: name, address, prefix };
    }
    case 'setting': {
      const { setting, value, previous } = data;
      if (typeof setting !== 'string' || typeof value !== 'string' || typeof previous !== 'string')
        return undefined;
      // Baton writes to this path as root: it must stay below /proc/sys/net whatever the file says.
      if (!/^[^/\0]+(\/[^/\0]+)*$/.test(setting) || setting.split('/').includes('..'))
        return undefined;
      return { kind: 'setting', setting, value, previous };
    }
    case 'clsact': {
      const at = parseAt(data);
      return at === undefined ? undefined : { kind: 'clsact', ...at };
    }
    case 'filter': {
      const { hook, priority, handle, program } = data;
      if (hook !== 'ingress' && hook !== 'egress') return undefined;
      if (typeof priority !== 'number' || typeof handle !== 'number' || typeof program !== 'string')
        return undefined;
      const at = parseAt(data);
      return at === undefined
        ? undefined
        : { kind: 'filter', ...at, hook, priority, handle, program };
    }
    case 'xdp': {
      const { mode } = data;
      if (mode !== 'native' && mode !== 'generic') return undefined;
      return { kind: 'xdp', mode };
    }
    case 'pins': {
      const { name } = data;
      if (typeof name !== 'string' || !isPinName(name)) return undefined;
      return { kind: 'pins', name };
    }
    default:
      return undefined;
  }
}

/**
 * Reads the place of a change on an interface other than the journal's own. Undefined: not valid.
 */
function parseAt(data: Record<string, unknown>): { at?: Place } | undefined {
  const { at } = data;
  if (at === undefined) return {};
  if (!isMap(at) || typeof at.interface !== 'string' || typeof at.index !== 'number')
    return undefined;
  return { at: { interface: at.interface, index: at.index } };
}
