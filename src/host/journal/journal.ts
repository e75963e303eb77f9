/**
 * All that one process of Baton has changed on its machine, so that it can be undone: at its end,
 * and at the next start when there was no end but a kill.
 *
 * Each change is written to the state file before it is made. A start finds the changes of a killed
 * process there and takes them over: what it wants as well simply stays (a virtual address does not
 * vanish for a moment, a filter is replaced in one step), the rest is undone by `settle`.
 */
import { BatonError, reasonOf } from '../../base/errors.js';
import { addAddress, listAddresses } from '../addresses.js';
import { hasClsact, listFilters } from '../filters.js';
import type { XdpMode } from '../native.js';
import { readNumber, readSetting, writeSetting } from '../sysctl.js';
import {
  type AddressChange,
  type Change,
  type ClsactChange,
  describeChange,
  type FilterChange,
  HostView,
  type Place,
  type SettingChange,
  sameThing,
  stands,
  undo,
} from './changes.js';
import { JournalFile } from './journal-file.js';

export interface JournalOptions {
  role: 'balancer' | 'node';
  interface: string;
  index: number;
  /** Of the interface, six bytes. */
  mac: Uint8Array;
  warn: (message: string) => void;
  /** For tests. */
  directory?: string;
}

interface Entry {
  change: Change;
  /** Wanted by this run, not only left over by an earlier one. */
  wanted: boolean;
  /** Makes the change again; undefined for what is only left over. */
  make: Make | undefined;
  /** Of a setting: whether the value now will do, if somebody else has changed it since. */
  enough: (() => boolean) | undefined;
}

type Make = () => void | Promise<void>;

export class Journal {
  private readonly file: JournalFile;
  private readonly place: Place;
  private readonly warn: (message: string) => void;
  private mac: string;
  private entries: Entry[];

  /**
   * Takes over what an earlier run left. Throws BatonError BATON_SYSTEM when the state file is of
   * no use.
   */
  constructor(options: JournalOptions) {
    this.file = new JournalFile(options.role, options.interface, options.directory);
    this.place = { interface: options.interface, index: options.index };
    this.warn = options.warn;
    this.mac = macText(options.mac);
    const earlier = this.file.read(options.warn);
    const ours =
      earlier !== undefined && earlier.index === options.index && earlier.mac === this.mac;
    this.entries = ours
      ? earlier.changes.map((change) => ({
          change,
          wanted: false,
          make: undefined,
          enough: undefined,
        }))
      : [];
  }

  /** What stands in the state file. */
  get changes(): readonly Change[] {
    return this.entries.map((entry) => entry.change);
  }

  /**
   * Gives an interface an address with a prefix length of 32. One that any interface of this
   * machine has already, and not from us, is left to whoever put it there.
   */
  async address(interfaceName: string, address: string): Promise<void> {
    const change: AddressChange = {
      kind: 'address',
      interface: interfaceName,
      address,
      prefix: 32,
    };
    const known = this.find(change) !== undefined;
    if (!known && listAddresses().some((entry) => entry.address === address)) return;
    await this.make(change, () => addAddress(change));
  }

  /** Sets a value below /proc/sys/net unless the one that it has is `enough`. */
  async setting(
    setting: string,
    value: string,
    enough: (current: number) => boolean,
  ): Promise<void> {
    const current = readSetting(setting);
    if (current === undefined) {
      throw new BatonError('BATON_SYSTEM', 'the kernel has no such setting', {
        where: `/proc/sys/net/${setting}`,
      });
    }
    const change: SettingChange = { kind: 'setting', setting, value, previous: current };
    const known = this.find(change)?.change;
    const make = (): void => writeSetting(setting, value);
    const check = (): boolean => enough(readNumber(setting));
    if (!enough(Number(current))) {
      await this.make(change, make, check);
    } else if (known?.kind === 'setting' && known.value === current) {
      // An earlier run set it, and knew what to go back to.
      this.record(known, make, check);
    }
  }

  /**
   * Attaches a tc filter by way of `attach`, which replaces what has the same hook, priority and
   * handle.
   * @throws BatonError BATON_IN_USE when somebody else's filter is there.
   */
  async filter(filter: Omit<FilterChange, 'kind'>, attach: () => void): Promise<void> {
    const change: FilterChange = { kind: 'filter', ...filter };
    const { interface: name } = change.at ?? this.place;
    const strange = listFilters(name).find(
      (entry) =>
        entry.hook === change.hook &&
        entry.priority === change.priority &&
        entry.program !== change.program,
    );
    if (strange !== undefined) {
      throw new BatonError(
        'BATON_IN_USE',
        `tc filters with priority ${change.priority} at ${change.hook} belong to another program (${strange.program ?? 'unnamed'})`,
        { where: name, hint: 'give them another priority' },
      );
    }
    const clsact: ClsactChange = {
      kind: 'clsact',
      ...(change.at === undefined ? {} : { at: change.at }),
    };
    if (this.find(clsact) !== undefined || !hasClsact(name)) this.record(clsact, undefined);
    await this.make(change, attach);
  }

  /** Attaches the XDP program by way of `attach`, in place of one of an earlier run. */
  async xdp(mode: XdpMode, attach: () => void): Promise<void> {
    await this.make({ kind: 'xdp', mode }, attach);
  }

  /** Pins maps in the directory of this name by way of `pin`. */
  async pins(name: string, pin: () => Promise<void>): Promise<void> {
    await this.make({ kind: 'pins', name }, pin);
  }

  /**
   * Notes what an earlier run left behind, should no file tell of it: `settle` undoes it, or `end`.
   */
  leftOver(change: Change): void {
    if (this.find(change) !== undefined) return;
    this.entries.push({ change, wanted: false, make: undefined, enough: undefined });
    this.save();
  }

  /** Undoes one change now: what was tried, and did not work. */
  async withdraw(change: Change): Promise<void> {
    await this.undoAll((entry) => sameThing(entry.change, change));
  }

  /**
   * Which of its changes are in force. Throws BatonError BATON_SYSTEM when that can not be told.
   */
  standing(): Change[] {
    const view = new HostView(this.place.interface);
    const found: Change[] = [];
    for (const change of this.changes) if (stands(change, view)) found.push(change);
    return found;
  }

  /** Undoes what an earlier run had changed and this one did not ask for. */
  async settle(): Promise<void> {
    await this.undoAll((entry) => !entry.wanted);
  }

  /**
   * Undoes everything, latest first, and removes the state file. What can not be undone is warned
   * of.
   */
  async end(): Promise<void> {
    await this.undoAll(() => true);
    if (this.entries.length === 0) this.file.remove();
  }

  /**
   * Makes again what no longer stands. Returns a description of each change that had to be made
   * again.
   * @throws BatonError BATON_SYSTEM
   */
  async repair(): Promise<string[]> {
    const repaired: string[] = [];
    const seen = new HostView(this.place.interface);
    for (const { change, make, enough } of this.entries) {
      if (make === undefined) continue;
      if (enough === undefined ? stands(change, seen) : enough()) continue;
      await make();
      repaired.push(describeChange(change));
    }
    return repaired;
  }

  /**
   * The interface was replaced by another one of the same name: what was changed on the old one is
   * gone with it. The caller then makes its changes again.
   */
  moveTo(index: number, mac: Uint8Array): void {
    this.place.index = index;
    this.mac = macText(mac);
    const name = this.place.interface;
    this.entries = this.entries.filter(({ change }) => {
      if (change.kind === 'address') return change.interface !== name;
      if ('at' in change) return true;
      return change.kind === 'setting' && !change.setting.includes(`/conf/${name}/`);
    });
    this.save();
  }

  private find(change: Change): Entry | undefined {
    return this.entries.find((entry) => sameThing(entry.change, change));
  }

  private async make(change: Change, make: Make, enough?: () => boolean): Promise<void> {
    this.record(change, make, enough);
    await make();
  }

  private record(change: Change, make: Make | undefined, enough?: () => boolean): void {
    const entry: Entry = { change, wanted: true, make, enough };
    const known = this.find(change);
    if (known === undefined) this.entries.push(entry);
    else Object.assign(known, entry);
    this.save();
  }

  private save(): void {
    this.file.write({ index: this.place.index, mac: this.mac, changes: [...this.changes] });
  }

  private async undoAll(which: (entry: Entry) => boolean): Promise<void> {
    for (const entry of [...this.entries].reverse()) {
      if (!which(entry)) continue;
      try {
        await undo(entry.change, this.place);
        this.entries.splice(this.entries.indexOf(entry), 1);
      } catch (error) {
        this.warn(`${describeChange(entry.change)} could not be undone: ${reasonOf(error)}`);
      }
    }
    try {
      this.save();
    } catch (error) {
      // Undoing twice does no harm.
      this.warn(reasonOf(error));
    }
  }
}

function macText(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}
