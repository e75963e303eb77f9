/**
 * What Baton changes on a machine, one kind at a time: whether a change stands, and how it is
 * undone. Undoing what does not stand, or what somebody else has changed since, does nothing.
 */

import { type HostAddress, listAddresses, removeAddress, sameAddress } from '../addresses.js';
import { isMap } from '../command.js';
import { type Hook, type HostFilter, hasClsact, listFilters } from '../filters.js';
import { native, type XdpMode } from '../native.js';
import { hasPins, isPinName, pinDirectory, removePins } from '../pins.js';
import { readSetting, writeSetting } from '../sysctl.js';
import { hasXdp, removeXdp, XDP_PROGRAM } from '../xdp.js';

/** An address that was not there before. */
export interface AddressChange {
  kind: 'address';
  interface: string;
  address: string;
  prefix: number;
}

/** A setting below /proc/sys/net that had another value before. */
export interface SettingChange {
  kind: 'setting';
  setting: string;
  value: string;
  previous: string;
}

/** A clsact queueing discipline that was not there before. */
export interface ClsactChange {
  kind: 'clsact';
  /** Absent: on the state's interface. */
  at?: Place;
}

/** A tc filter. */
export interface FilterChange {
  kind: 'filter';
  /** Absent: on the state's interface. */
  at?: Place;
  hook: Hook;
  priority: number;
  handle: number;
  /** Name of the BPF program: what is found there under another name is not ours. */
  program: string;
}

/** Our XDP program on the state's interface. */
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

/** An interface: that which a state belongs to, or another one of the same machine. */
export interface Place {
  interface: string;
  /** Of the interface. It tells the interface from a later one of the same name. */
  index: number;
}

/** Whether two records speak of the same thing, whatever its value. */
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

/** For people: what a change is about. */
export function describeChange(change: Change): string {
  switch (change.kind) {
    case 'address':
      return `address ${change.address}/${change.prefix} on ${change.interface}`;
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

/** What the kernel tells of the machine, asked once and only if somebody wants to know. */
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

/** Whether the interface is still the one that it was. */
function isPresent(place: { interface: string; index: number }): boolean {
  return native().interfaceInfo(place.interface)?.index === place.index;
}

/** Whether the change is in force. Throws BatonError BATON_SYSTEM when that can not be told. */
export function stands(change: Change, view: HostView): boolean {
  // With the other interface went what was on it.
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

/** Takes a change back. Throws when the system refuses. */
export async function undo(change: Change, own: Place): Promise<void> {
  const place = ('at' in change ? change.at : undefined) ?? own;
  // The kernel has cleared away what belonged to an interface that is gone.
  const view = new HostView(place.interface);
  const present = isPresent(place);
  switch (change.kind) {
    case 'address':
      if (present || change.interface !== place.interface) await removeAddress(change);
      break;
    case 'setting':
      if (stands(change, view)) writeSetting(change.setting, change.previous);
      break;
    case 'clsact':
      if (present && stands(change, view)) native().removeClsactIfEmpty(place.index);
      break;
    case 'filter':
      if (present && stands(change, view)) {
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

/** The change in parsed JSON, or undefined when it is none. */
export function parseChange(data: unknown): Change | undefined {
  if (!isMap(data)) return undefined;
  switch (data.kind) {
    case 'address': {
      const { interface: name, address, prefix } = data;
      if (typeof name !== 'string' || typeof address !== 'string' || typeof prefix !== 'number')
        return undefined;
      return { kind: 'address', interface: name, address, prefix };
    }
    case 'setting': {
      const { setting, value, previous } = data;
      if (typeof setting !== 'string' || typeof value !== 'string' || typeof previous !== 'string')
        return undefined;
      // What is written as root must stay below /proc/sys/net whatever the file says.
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
 * The place of a change that is on another interface than the state's; undefined when it makes no
 * sense.
 */
function parseAt(data: Record<string, unknown>): { at?: Place } | undefined {
  const { at } = data;
  if (at === undefined) return {};
  if (!isMap(at) || typeof at.interface !== 'string' || typeof at.index !== 'number')
    return undefined;
  return { at: { interface: at.interface, index: at.index } };
}
