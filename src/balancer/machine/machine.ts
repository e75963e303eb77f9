/**
 * What a balancer changes on its machine, in the order in which it takes effect:
 *
 *     prepare         checks; the guard on the interface; XDP program and sockets
 *     (the engine opens its ring, and takes over the sessions of an earlier run)
 *     activate        the XDP program works
 *     takeAddresses   the virtual addresses on the interface, announced by ARP
 *     prepareChange   then, as often as wanted: other nodes and virtual servers (change.ts)
 *     stop            undoes everything, latest first
 *     leave           undoes nothing: the kernel keeps forwarding until the next run takes over
 *     fail            `leave` if the kernel forwards sessions without us, else `stop`
 *
 * A `prepare` that fails leaves no trace. A start takes over what a killed process left behind.
 */

import { BatonError, reasonOf } from '../../base/errors.js';
import type { GuardCounter, XdpCounter } from '../../base/kernel-counters.js';
import { runAll } from '../../base/run-all.js';
import { Journal } from '../../host/journal/journal.js';
import type { Lock } from '../../host/lock.js';
import type { InterfaceInfo } from '../../host/native.js';
import { removeStalePins } from '../../host/pins.js';
import { hasXdp } from '../../host/xdp.js';
import type { Address, OwnAddresses } from '../../wire/address.js';
import type { KernelForwarding } from '../forward/forwarder.js';
import type { FarmSlots } from '../objects/farm.js';
import type { NodeInterfaceStart, PacketStart, XdpStart } from '../threads/engine-messages.js';
import { addressesOf, applyChange, type PreparedChange, requireChange } from './change.js';
import { openXdpIfChosen, requireIpv4 } from './datapath-choice.js';
import { Guard } from './guard.js';
import { InterfaceWatch, lockInterfaces, type MachineInterfaces } from './interfaces.js';
import { requireNoListener } from './listeners.js';
import { hasLocalNode, LocalNode } from './local-node.js';
import type { MachineOptions } from './options.js';
import { requireMachine } from './preflight.js';
import { sequenceSecret } from './secret.js';
import { Announcer, probeAddresses } from './virtual-addresses.js';
import type { XdpProgram } from './xdp-program.js';

export interface MachineCounters {
  guard: Record<GuardCounter, number>;
  xdp: Record<XdpCounter, number> | undefined;
}

/** Interval of the checks of what was set up, ms. */
const CHECK_MS = 5_000;
/**
 * Interval of XdpProgram.chooseTransmitPath, ms: when the peer of our interface changes, packets
 * may be lost for this long.
 */
const TRANSMIT_PATH_MS = 500;

export class Machine {
  /** The interface by which clients are reached. */
  readonly info: InterfaceInfo;
  /** Our own addresses: nodes send notices to that of their family. */
  readonly own: OwnAddresses;
  private readonly interfaces: MachineInterfaces;
  private readonly watch: InterfaceWatch;
  private readonly options: MachineOptions;
  private farm: FarmSlots;
  private readonly lock: Lock;
  private readonly journal: Journal;
  private readonly announcer: Announcer;
  private guard: Guard | undefined;
  /** Undefined: the balancer is no node. */
  private local: LocalNode | undefined;
  private xdp: XdpProgram | undefined;
  private timer: NodeJS.Timeout | undefined;
  private transmitPathTimer: NodeJS.Timeout | undefined;
  /** Checks and changes, one after the other: a check must not repair what a change removes. */
  private turn: Promise<unknown> = Promise.resolve();
  private isChanging = false;
  /** The XDP program of an earlier run was attached. */
  private foundEarlier = false;

  private constructor(options: MachineOptions, interfaces: MachineInterfaces, lock: Lock) {
    const { clients, nodes, own } = interfaces;
    const { info } = clients;
    this.options = options;
    this.interfaces = interfaces;
    this.info = info;
    this.own = own;
    this.lock = lock;
    const watched = nodes === undefined ? [clients] : [clients, nodes];
    this.watch = new InterfaceWatch(watched, (message) => options.log.warn(message));
    this.farm = options.farm;
    this.announcer = new Announcer(info.index, info.mac);
    this.journal = new Journal({
      role: 'balancer',
      interface: options.interface,
      index: info.index,
      mac: info.mac,
      warn: (message) => options.log.warn(message),
      ...(options.journalDirectory === undefined ? {} : { directory: options.journalDirectory }),
    });
  }

  /**
   * Checks everything that can be checked, then attaches the filters.
   * @throws BatonError for what is wrong; nothing is left set up then
   */
  static async prepare(options: MachineOptions): Promise<Machine> {
    const interfaces = requireMachine(options);
    const names = [
      interfaces.clients.name,
      ...(interfaces.nodes === undefined ? [] : [interfaces.nodes.name]),
    ];
    const lock = await lockInterfaces(names, options.patience);
    let machine: Machine | undefined;
    try {
      machine = new Machine(options, interfaces, lock);
      await machine.setUp();
      return machine;
    } catch (error) {
      if (machine === undefined) await lock.release();
      else await machine.fail();
      throw error;
    }
  }

  /** Start data of engine threads: the source of their frames. */
  engineStart(): PacketStart | XdpStart {
    const guard = this.loaded(this.guard);
    return (
      this.xdp?.engineStart(guard.clientShare()) ??
      guard.engineStart(sequenceSecret(this.options.key))
    );
  }

  /** The same for the interface of the nodes; undefined: it is the interface of the clients. */
  nodeInterfaceStart(): NodeInterfaceStart | undefined {
    const { nodes } = this.interfaces;
    if (nodes === undefined) return undefined;
    const { index, mac, mtu } = nodes.info;
    return { interfaceIndex: index, mac, mtu, share: this.loaded(this.guard).nodeShare() };
  }

  /** Tables and counters of virtual servers with mode forward; undefined: the engine has them. */
  get forwarding(): KernelForwarding | undefined {
    return this.xdp;
  }

  /** The datapath and its mode, as text. */
  get datapath(): string {
    return this.xdp === undefined ? 'packet' : `xdp (${this.xdp.how})`;
  }

  /** MAC addresses of nodes from an earlier run, by slot, valid until the nodes are resolved. */
  earlierNeighbours(): { node: number; mac: Uint8Array }[] {
    return this.xdp?.earlierNeighbours() ?? [];
  }

  /**
   * The nodes and virtual servers that the machine has now. After a start these are the config's,
   * and retired nodes that are not in the config and still have sessions of an earlier run.
   */
  get slots(): FarmSlots {
    return this.farm;
  }

  /** Sets the MAC address (six bytes) of a node's slot; undefined: it is not known any more. */
  setNeighbour(node: number, mac: Uint8Array | undefined): void {
    this.xdp?.setNeighbour(node, mac);
  }

  /**
   * The options that SYN/ACKs of an earlier run do not offer, as IxpFlag bits; undefined: there is
   * none.
   */
  earlierWithheld(): number | undefined {
    return this.xdp?.earlierWithheld();
  }

  /** Sets the options that SYN/ACKs made in the kernel do not offer, as IxpFlag bits. */
  withhold(options: number): void {
    this.xdp?.withhold(options);
  }

  /** What this machine can do as a node: IxcpFlag bits, as in a report. Undefined: it is none. */
  localFlags(): number | undefined {
    return this.local?.flags();
  }

  /** See XdpProgram.voidHeads. */
  voidHeads(): void {
    this.xdp?.voidHeads();
  }

  /**
   * To be called when the engine is ready for frames: from now on the XDP program works, in place
   * of an earlier run's.
   */
  async activate(): Promise<void> {
    await this.xdp?.activate();
  }

  /**
   * Adds the virtual addresses: from now on clients connect. Everything that was set up is checked,
   * and repaired, until `stop`.
   */
  async takeAddresses(): Promise<void> {
    for (const address of this.virtualAddresses())
      await this.journal.address(this.options.interface, address);
    await this.journal.settle();
    this.announcer.announce(this.virtualAddresses());
    this.timer = setInterval(() => {
      this.inTurn(() => this.check()).catch((error: unknown) =>
        this.options.log.warn(`cannot check what was set up: ${reasonOf(error)}`),
      );
    }, this.options.checkMs ?? CHECK_MS);
    this.transmitPathTimer = setInterval(() => this.xdp?.chooseTransmitPath(), TRANSMIT_PATH_MS);
  }

  /**
   * Checks whether the machine can have these nodes and virtual servers in place of those that it
   * has. The check takes 600 ms for new virtual addresses: other machines may have them. The
   * engine threads must know new virtual servers before `commit`.
   * @throws BatonError for what is wrong, or while another change is under way
   */
  async prepareChange(next: FarmSlots): Promise<PreparedChange> {
    if (this.isChanging) throw new BatonError('BATON_IN_USE', 'another change is under way');
    this.isChanging = true;
    const end = (): void => {
      this.isChanging = false;
    };
    try {
      if (this.xdp?.servesIpv6 === false) requireIpv4(next.servers);
      await requireChange(this.farm, next, this.interfaces, this.own);
      // Before the engine threads know the node.
      await this.openLocal(next);
    } catch (error) {
      end();
      throw error;
    }
    return {
      commit: () => this.inTurn(() => this.change(next)).finally(end),
      abandon: async () => end(),
    };
  }

  /** The counters of the BPF programs; `xdp` if there is an XDP program. */
  counters(): MachineCounters {
    return {
      guard: this.loaded(this.guard).counters(),
      xdp: this.xdp?.counters(),
    };
  }

  /** Run time of the XDP program, as far as the kernel measures it; null: there is none. */
  runTime(): { runNanoseconds: number; runCount: number } | null {
    return this.xdp?.runTime() ?? null;
  }

  /**
   * To be called before the engine stops. From here on it gets no more frames, so its last poll is
   * complete.
   */
  withdrawEngine(): void {
    this.xdp?.withdrawSockets();
  }

  /** Undoes everything. Logs a warning about what cannot be undone. */
  async stop(): Promise<void> {
    await this.takeSteps([
      () => this.stopChecks(),
      () => this.journal.end(),
      () => this.closeAll(),
    ]);
  }

  /** Closes everything and undoes nothing: the next run takes it over. */
  async leave(): Promise<void> {
    await this.takeSteps([
      () => this.xdp?.closeSockets(),
      () => this.stopChecks(),
      () => this.closeAll(),
    ]);
  }

  /** Ends after a failure. Sessions that the kernel forwards must not end with this process. */
  async fail(): Promise<void> {
    if (!this.isForwarding()) return this.stop();
    this.options.log.warn(
      'the kernel keeps forwarding sessions: what was set up stays for the next start',
    );
    return this.leave();
  }

  /** Whether the kernel may be forwarding sessions without us. */
  private isForwarding(): boolean {
    const served = this.xdp !== undefined && this.timer !== undefined;
    try {
      return (served || this.foundEarlier) && hasXdp(this.info.index);
    } catch {
      return false;
    }
  }

  private async stopChecks(): Promise<void> {
    clearInterval(this.timer);
    clearInterval(this.transmitPathTimer);
    await this.turn;
    this.announcer.stop();
  }

  private async closeAll(): Promise<void> {
    const { guard, xdp, local } = this;
    this.guard = undefined;
    this.xdp = undefined;
    this.local = undefined;
    await this.takeSteps([
      () => local?.close(),
      () => guard?.close(),
      () => xdp?.close(),
      () => this.lock.release(),
    ]);
  }

  /** Takes every step of a shutdown. Logs a warning about those that fail. */
  private async takeSteps(steps: readonly (() => unknown)[]): Promise<void> {
    for (const failure of await runAll(steps)) {
      this.options.log.warn(`a step of the shutdown failed: ${reasonOf(failure)}`);
    }
  }

  private async setUp(): Promise<void> {
    const { options, info, own } = this;
    this.foundEarlier = hasXdp(info.index);
    await requireNoListener(options.farm.servers, options.farm.nodes);
    this.guard = new Guard(own, options.farm.servers, options.workers, options.key);
    // Addresses that an earlier run left here are ours: its sessions need not wait for a probe.
    const ours = info.addresses.map((entry) => entry.address);
    const wanted = this.virtualAddresses().filter((address) => !ours.includes(address));
    if (wanted.length > 0) await probeAddresses(info.index, info.mac, wanted);
    await this.guard.attach(this.journal, info.index);
    const { nodes } = this.interfaces;
    if (nodes !== undefined) {
      const at = { interface: nodes.name, index: nodes.info.index };
      await this.guard.attach(this.journal, at.index, at);
    }
    await this.openLocal(this.farm);
    removeStalePins();
    this.xdp = await openXdpIfChosen(options, {
      interfaces: this.interfaces,
      foundEarlier: this.foundEarlier,
      seeds: this.guard.seeds,
      journal: this.journal,
    });
    const all = [...options.farm.nodes, ...(this.xdp?.departed ?? [])];
    all.sort((one, other) => one.slot - other.slot);
    this.farm = { servers: options.farm.servers, nodes: all };
  }

  /** Makes this machine a node if it is one in the farm. It stays one, as no session may end. */
  private async openLocal(farm: FarmSlots): Promise<void> {
    if (this.local !== undefined || !hasLocalNode(farm)) return;
    const { clients } = this.interfaces;
    const { key, log, patience } = this.options;
    const guard = this.loaded(this.guard);
    const { own, journal } = this;
    this.local = await LocalNode.open({ clients, own, key, guard, journal, log, patience });
  }

  private async change(next: FarmSlots): Promise<void> {
    const { journal, announcer, options } = this;
    const { interface: name, log } = options;
    const guard = this.loaded(this.guard);
    await applyChange(
      { interface: name, guard, xdp: this.xdp, journal, announcer, warn: (line) => log.warn(line) },
      this.farm,
      next,
    );
    this.farm = { nodes: next.nodes, servers: next.servers };
  }

  private inTurn(work: () => Promise<void>): Promise<void> {
    const result = this.turn.then(work);
    this.turn = result.catch(() => {});
    return result;
  }

  private virtualAddresses(): Address[] {
    return addressesOf(this.farm.servers);
  }

  private async check(): Promise<void> {
    const { options } = this;
    let up: string[];
    try {
      up = this.watch.look();
    } catch (error) {
      if (!(error instanceof BatonError)) throw error;
      clearInterval(this.timer);
      clearInterval(this.transmitPathTimer);
      options.onLost?.(error);
      return;
    }
    for (const repaired of await this.journal.repair())
      options.log.warn(`${repaired} was missing, and is restored`);
    // Neighbours that were disconnected too may have lost their ARP entries.
    if (up.includes(options.interface)) this.announcer.announce(this.virtualAddresses());
  }

  private loaded<Loaded>(part: Loaded | undefined): Loaded {
    if (part === undefined)
      throw new BatonError('BATON_SYSTEM', 'the balancer has stopped', {
        where: this.options.interface,
      });
    return part;
  }
}
