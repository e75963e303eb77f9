/**
 * The journal of one process: everything that it has changed on its machine. The process undoes
 * these changes when it ends. If it was killed, the next start undoes them.
 *
 * Each change is written to the journal's file before it is made. A start reads the changes of a
 * killed process from there and takes them over. A change that this run wants as well simply stays:
 * a virtual address does not vanish for a moment, and a filter is replaced in one step. `settle`
 * undoes the others.
 */
import { BatonError, reasonOf } from '../../base/errors.js';
import { type Address, addressBits } from '../../wire/address.js';
import { formatMac } from '../../wire/ethernet.js';
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
  isInForce,
  type Place,
  type SettingChange,
  sameThing,
  undo,
} from './changes.js';
import { JournalFile } from './journal-file.js';

export interface JournalOptions {
  role: 'balancer' | 'node';
  interface: string;
  index: number;
  /** MAC address of the interface, six bytes. */
  mac: Uint8Array;
  warn: (message: string) => void;
  /** Directory of the file, for tests. Default: JOURNAL_DIRECTORY. */
  directory?: string;
}

interface Entry {
  change: Change;
  /** Whether this run asked for the change. False: an earlier run left it behind. */
  wanted: boolean;
  /** Makes the change again. Undefined for a change of an earlier run, and for clsact. */
  make: Make | undefined;
  /** Of a setting: whether the current value suffices. Somebody else may have changed it. */
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
   * Takes over the changes of an earlier run.
   * @throws BatonError BATON_SYSTEM when the directory of the file cannot be used
   */
  constructor(options: JournalOptions) {
    this.file = new JournalFile(options.role, options.interface, options.directory);
    this.place = { interface: options.interface, index: options.index };
    this.warn = options.warn;
    this.mac = formatMac(options.mac);
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

  /** All changes in the journal. */
  get changes(): readonly Change[] {
    return this.entries.map((entry) => entry.change);
  }

  /**
   * Gives an interface an address, and no route to others on its network. Does nothing when an
   * interface of this machine has that address already and Baton did not add it.
   */
  async address(interfaceName: string, address: Address): Promise<void> {
    const change: AddressChange = {
      kind: 'address',
      interface: interfaceName,
      address,
      prefix: addressBits(address),
    };
    const known = this.find(change) !== undefined;
    if (!known && listAddresses().some((entry) => entry.address === address)) return;
    await this.make(change, () => addAddress(change));
  }

  /** Sets a value below /proc/sys/net, unless the current value is `enough`. */
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
      // An earlier run set this value, and recorded the one before it.
      this.record(known, make, check);
    }
  }

  /**
   * Attaches a tc filter. `attach` replaces a filter with the same hook, priority and handle.
   * @throws BatonError BATON_IN_USE when another program's filter has this hook and priority
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

  /** Attaches the XDP program. `attach` replaces one of an earlier run. */
  async xdp(mode: XdpMode, attach: () => void): Promise<void> {
    await this.make({ kind: 'xdp', mode }, attach);
  }

  /** Pins maps in the directory of this name. `pin` does it. */
  async pins(name: string, pin: () => Promise<void>): Promise<void> {
    await this.make({ kind: 'pins', name }, pin);
  }

  /**
   * Records a change of an earlier run that is not in the journal yet. `settle` or `end` undoes it.
   */
  addLeftover(change: Change): void {
    if (this.find(change) !== undefined) return;
    this.entries.push({ change, wanted: false, make: undefined, enough: undefined });
    this.save();
  }

  /** Undoes one change now, because it did not work. */
  async withdraw(change: Change): Promise<void> {
    await this.undoAll((entry) => sameThing(entry.change, change));
  }

  /**
   * Removes an address that `address` added; does nothing about any other. Throws BatonError
   * BATON_SYSTEM when that fails; then the address stays in the journal.
   */
  async removeAddress(interfaceName: string, address: Address): Promise<void> {
    const entry = this.find({
      kind: 'address',
      interface: interfaceName,
      address,
      prefix: addressBits(address),
    });
    if (entry === undefined) return;
    await undo(entry.change, this.place);
    this.entries.splice(this.entries.indexOf(entry), 1);
    try {
      this.save();
    } catch (error) {
      // The next start removes it again, which does no harm.
      this.warn(reasonOf(error));
    }
  }

  /** The changes that are in force. Throws BatonError BATON_SYSTEM when the kernel does not say. */
  inForce(): Change[] {
    const view = new HostView(this.place.interface);
    const found: Change[] = [];
    for (const change of this.changes) if (isInForce(change, view)) found.push(change);
    return found;
  }

  /** Undoes the changes of an earlier run that this run did not ask for. */
  async settle(): Promise<void> {
    await this.undoAll((entry) => !entry.wanted);
  }

  /**
   * Undoes all changes, latest first, and removes the file. Warns of each change that cannot be
   * undone, and then keeps the file.
   */
  async end(): Promise<void> {
    await this.undoAll(() => true);
    if (this.entries.length === 0) this.file.remove();
  }

  /**
   * Makes each change again that is no longer in force. Returns these changes in words.
   * @throws BatonError BATON_SYSTEM
   */
  async repair(): Promise<string[]> {
    const repaired: string[] = [];
    const seen = new HostView(this.place.interface);
    for (const { change, make, enough } of this.entries) {
      if (make === undefined) continue;
      if (enough === undefined ? isInForce(change, seen) : enough()) continue;
      await make();
      repaired.push(describeChange(change));
    }
    return repaired;
  }

  /**
   * The interface was replaced by another one with the same name. Forgets the changes to the old
   * one, which ended with it. The caller then makes its changes again.
   */
  moveTo(index: number, mac: Uint8Array): void {
    this.place.index = index;
    this.mac = formatMac(mac);
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
        this.warn(`cannot undo ${describeChange(entry.change)}: ${reasonOf(error)}`);
      }
    }
    try {
      this.save();
    } catch (error) {
      // The next start undoes these changes again, which does no harm.
      this.warn(reasonOf(error));
    }
  }
}
