/**
 * What a balancer does to its machine, in the order in which it may be seen:
 *
 *     prepare         checks, then SYN cookies, shim and guard on the interface; the XDP program and its sockets
 *     (the engine opens its ring, and takes over the sessions of an earlier run)
 *     activate        the XDP program works
 *     takeAddresses   the virtual addresses on the interface, announced by ARP
 *     stop            everything undone, latest first
 *     leave           nothing undone: the kernel goes on forwarding until the next run takes over
 *     fail            `leave` where the kernel forwards sessions without us, else `stop`
 *
 * `prepare` leaves no trace of a start that fails. What a killed process left behind is taken over.
 */

import { BatonError, reasonOf } from '../../base/errors.js';
import type { GuardCounter, ShimCounter, XdpCounter } from '../../base/kernel-counters.js';
import { runAll } from '../../base/run-all.js';
import { Journal } from '../../host/journal/journal.js';
import type { Lock } from '../../host/lock.js';
import type { InterfaceInfo } from '../../host/native.js';
import { removeStalePins } from '../../host/pins.js';
import { Shim } from '../../host/shim.js';
import { requireSynCookies } from '../../host/syn-cookies.js';
import { requireEndOfTimeWait } from '../../host/time-wait.js';
import { hasXdp } from '../../host/xdp.js';
import type { NodeInterfaceStart, PacketStart, XdpStart } from '../threads/engine-messages.js';
import { openXdpIfChosen } from './datapath-choice.js';
import { Guard } from './guard.js';
import { InterfaceWatch, lockInterfaces, type MachineInterfaces } from './interfaces.js';
import { requireNoListener } from './listeners.js';
import type { MachineOptions } from './options.js';
import { requireMachine } from './preflight.js';
import { sequenceSecret } from './secret.js';
import { Announcer, probeAddresses } from './virtual-addresses.js';
import type { XdpProgram } from './xdp-program.js';

export interface MachineCounters {
  guard: Record<GuardCounter, number>;
  shim: Record<ShimCounter, number>;
  xdp: Record<XdpCounter, number> | undefined;
}

/** How often what was set up is looked at. */
const CHECK_MS = 5_000;
/**
 * For so long, in ms, packets may get stuck when somebody changes the other end of our interface.
 */
const WAY_OUT_MS = 500;
const LOCALHOST = '127.0.0.1';
/** Sessions of local services that the shim keeps in mind: each lasts for one short answer. */
const LOCAL_SESSIONS = 16_384;

export class Machine {
  /** Of the interface where clients are reached. */
  readonly info: InterfaceInfo;
  /** Our own address, which nodes know us by. */
  readonly address: string;
  private readonly interfaces: MachineInterfaces;
  private readonly watch: InterfaceWatch;
  private readonly options: MachineOptions;
  private readonly virtualAddresses: readonly string[];
  private readonly lock: Lock;
  private readonly journal: Journal;
  private readonly announcer: Announcer;
  private guard: Guard | undefined;
  private shim: Shim | undefined;
  private xdp: XdpProgram | undefined;
  private timer: NodeJS.Timeout | undefined;
  private wayOutTimer: NodeJS.Timeout | undefined;
  private checking: Promise<void> = Promise.resolve();
  /** The XDP program of an earlier run was there. */
  private found = false;

  private constructor(options: MachineOptions, interfaces: MachineInterfaces, lock: Lock) {
    const { clients, nodes, address } = interfaces;
    const { info } = clients;
    this.options = options;
    this.interfaces = interfaces;
    this.info = info;
    this.address = address;
    this.lock = lock;
    const watched = nodes === undefined ? [clients] : [clients, nodes];
    this.watch = new InterfaceWatch(watched, (message) => options.log.warn(message));
    this.virtualAddresses = [...new Set(options.virtualServers.map((server) => server.address))];
    this.announcer = new Announcer(info.index, info.mac, this.virtualAddresses);
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
   * Checks everything that can be checked, then puts the filters in place.
   * @throws BatonError for whatever is wrong; nothing is left set up then
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

  /** What each of the engine's threads gets its frames by. */
  engineStart(): PacketStart | XdpStart {
    const guard = this.loaded(this.guard);
    return (
      this.xdp?.engineStart(guard.clientShare()) ??
      guard.engineStart(sequenceSecret(this.options.key))
    );
  }

  /** The same for the interface where nodes are reached; undefined: that of the clients. */
  nodeInterfaceStart(): NodeInterfaceStart | undefined {
    const { nodes } = this.interfaces;
    if (nodes === undefined) return undefined;
    const { index, mac, mtu } = nodes.info;
    return { interfaceIndex: index, mac, mtu, share: this.loaded(this.guard).nodeShare() };
  }

  /** For people: the datapath, and how it runs. */
  get datapath(): string {
    return this.xdp === undefined ? 'packet' : `xdp (${this.xdp.how})`;
  }

  /** MAC addresses of nodes that an earlier run knew: until the nodes are looked for, they hold. */
  earlierNeighbours(): { node: number; mac: Uint8Array }[] {
    return this.xdp?.earlierNeighbours() ?? [];
  }

  /**
   * Addresses of nodes that are not in the config, and that sessions of an earlier run still have.
   * Their indexes come behind those of the config.
   */
  departedNodes(): readonly string[] {
    return this.xdp?.departedNodes() ?? [];
  }

  /** A node's MAC address (six bytes), or undefined when it is not known any more. */
  setNeighbour(node: number, mac: Uint8Array | undefined): void {
    this.xdp?.setNeighbour(node, mac);
  }

  /**
   * IxpFlag bits of the options that SYN/ACKs of an earlier run do not offer; undefined: none runs.
   */
  earlierWithheld(): number | undefined {
    return this.xdp?.earlierWithheld();
  }

  /** SYN/ACKs made in the kernel do not offer these options from now on: IxpFlag bits. */
  withhold(options: number): void {
    this.xdp?.withhold(options);
  }

  /**
   * To be called when the engine takes frames: the XDP program works from now on, in place of an
   * earlier run's.
   */
  async activate(): Promise<void> {
    await this.xdp?.activate();
  }

  /**
   * Takes the virtual addresses: from now on clients come. Keeps watch over all of it until `stop`.
   */
  async takeAddresses(): Promise<void> {
    for (const address of this.virtualAddresses)
      await this.journal.address(this.options.interface, address);
    await this.journal.settle();
    this.announcer.announce();
    this.timer = setInterval(() => {
      this.checking = this.check().catch((error: unknown) =>
        this.options.log.warn(`cannot check what was set up: ${reasonOf(error)}`),
      );
    }, this.options.checkMs ?? CHECK_MS);
    this.wayOutTimer = setInterval(() => this.xdp?.chooseWayOut(), WAY_OUT_MS);
  }

  /** What the BPF programs have counted; `xdp` where there is one. */
  counters(): MachineCounters {
    return {
      guard: this.loaded(this.guard).counters(),
      shim: this.loaded(this.shim).counters(),
      xdp: this.xdp?.counters(),
    };
  }

  /** Run time of the XDP program while the kernel measures it; null where there is none. */
  runTime(): { runNanoseconds: number; runCount: number } | null {
    return this.xdp?.runTime() ?? null;
  }

  /**
   * To be called before the engine stops: from here on it gets nothing more, so that what it has
   * read last is the end of it.
   */
  withdrawEngine(): void {
    this.xdp?.withdrawSockets();
  }

  /** Undoes everything. What can not be undone is warned of. */
  async stop(): Promise<void> {
    await this.all([() => this.rest(), () => this.journal.end(), () => this.letGo()]);
  }

  /** Lets go of everything and undoes nothing: the next run takes it over. */
  async leave(): Promise<void> {
    await this.all([() => this.xdp?.closeSockets(), () => this.rest(), () => this.letGo()]);
  }

  /** Ends after a failure. Sessions that the kernel forwards must not end with us. */
  async fail(): Promise<void> {
    if (!this.isForwarding()) return this.stop();
    this.options.log.warn(
      'the kernel keeps forwarding sessions: what was set up stays for the next start',
    );
    return this.leave();
  }

  /** Whether there may be sessions that the kernel forwards by itself. */
  private isForwarding(): boolean {
    const served = this.xdp !== undefined && this.timer !== undefined;
    try {
      return (served || this.found) && hasXdp(this.info.index);
    } catch {
      return false;
    }
  }

  private async rest(): Promise<void> {
    clearInterval(this.timer);
    clearInterval(this.wayOutTimer);
    this.announcer.stop();
    await this.checking;
  }

  private async letGo(): Promise<void> {
    const { guard, shim, xdp } = this;
    this.guard = undefined;
    this.shim = undefined;
    this.xdp = undefined;
    await this.all([
      () => guard?.close(),
      () => shim?.close(),
      () => xdp?.close(),
      () => this.lock.release(),
    ]);
  }

  /** Takes every step of an end. What fails is warned of. */
  private async all(steps: readonly (() => unknown)[]): Promise<void> {
    for (const failure of await runAll(steps)) {
      this.options.log.warn(`a step of the shutdown failed: ${reasonOf(failure)}`);
    }
  }

  private async setUp(): Promise<void> {
    const { options, info, address } = this;
    this.found = hasXdp(info.index);
    await requireNoListener(options.virtualServers);
    this.guard = new Guard(address, options.virtualServers, options.workers);
    this.shim = new Shim({
      key: options.key,
      own: address,
      local: true,
      balancers: [address],
      services: new Map(
        [...options.services].map(([service, port]) => [service, { address: LOCALHOST, port }]),
      ),
      maxSessions: LOCAL_SESSIONS,
    });
    // What an earlier run left here is ours: its sessions need not wait.
    const ours = info.addresses.map((entry) => entry.address);
    const wanted = this.virtualAddresses.filter((text) => !ours.includes(text));
    if (wanted.length > 0) await probeAddresses(info.index, info.mac, wanted);
    await requireSynCookies(this.journal);
    await requireEndOfTimeWait(this.journal);
    // The shim first: the guard hands frames on to it from its own first frame.
    await this.shim.attach(this.journal, info.index);
    await this.guard.attach(this.journal, info.index);
    const { nodes } = this.interfaces;
    if (nodes !== undefined) {
      await this.guard.attachTo(this.journal, { interface: nodes.name, index: nodes.info.index });
    }
    removeStalePins();
    this.xdp = await openXdpIfChosen(options, {
      interfaces: this.interfaces,
      found: this.found,
      seeds: this.guard.seeds,
      journal: this.journal,
    });
  }

  private async check(): Promise<void> {
    const { options } = this;
    let up: string[];
    try {
      up = this.watch.look();
    } catch (error) {
      if (!(error instanceof BatonError)) throw error;
      clearInterval(this.timer);
      clearInterval(this.wayOutTimer);
      options.onLost?.(error);
      return;
    }
    for (const repaired of await this.journal.repair())
      options.log.warn(`${repaired} was gone, and is back`);
    // Whoever was unplugged with us may have forgotten us.
    if (up.includes(options.interface)) this.announcer.announce();
  }

  private loaded<Loaded>(part: Loaded | undefined): Loaded {
    if (part === undefined)
      throw new BatonError('BATON_SYSTEM', 'the balancer has stopped', {
        where: this.options.interface,
      });
    return part;
  }
}
