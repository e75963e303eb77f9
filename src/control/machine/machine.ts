/**
 * What a balancer does to its machine, in the order in which it may be seen:
 *
 *     prepare         checks, then SYN cookies, shim and guard on the interface
 *     (the engine opens its ring with the guard's filter)
 *     takeAddresses   the virtual addresses on the interface, announced by ARP
 *     stop            everything undone, latest first
 *
 * `prepare` leaves no trace of a start that fails. What a killed process left behind is taken over.
 */
import { BatonError, reasonOf } from '../../base/errors.js';
import { ownAddress, requireInterface, requireLoopback } from '../../base/host/interfaces.js';
import { type Lock, takeLock } from '../../base/host/lock.js';
import { ADOPT_FUNCTION, requireAdoption, requirePrivileges } from '../../base/host/privilege.js';
import { HostState } from '../../base/host/state.js';
import { requireSynCookies } from '../../base/host/syn-cookies.js';
import { type InterfaceInfo, native } from '../../base/native.js';
import { Shim, type ShimCounter } from '../../node/shim.js';
import { Guard, type GuardCounter } from './guard.js';
import { requireNoListener } from './listeners.js';
import { Announcer, probeAddresses } from './virtual-addresses.js';

export interface MachineOptions {
  interface: string;
  /** Our own address, dotted quad as all addresses here; undefined: the interface's first. */
  address: string | undefined;
  /** 16 bytes. */
  key: Uint8Array;
  virtualServers: readonly { name: string; address: string; port: number }[];
  /** Loopback ports of the local services by service number, none of them 0. */
  services: ReadonlyMap<number, number>;
  log: { warn(message: string): void };
  /** The interface that the engine works on was replaced: nothing but a new start helps. */
  onLost?: (error: BatonError) => void;
  /** For tests: the kernel function to look for, and where the state file goes. */
  adoptFunction?: string;
  stateDirectory?: string;
}

/** How often what was set up is looked at. */
const CHECK_MS = 5_000;
const LOCALHOST = '127.0.0.1';

export class Machine {
  readonly info: InterfaceInfo;
  /** Our own address. */
  readonly address: string;
  private readonly options: MachineOptions;
  private readonly virtualAddresses: readonly string[];
  private readonly lock: Lock;
  private readonly state: HostState;
  private readonly announcer: Announcer;
  private guard: Guard | undefined;
  private shim: Shim | undefined;
  private timer: NodeJS.Timeout | undefined;
  private checking: Promise<void> = Promise.resolve();
  private down = false;

  private constructor(options: MachineOptions, info: InterfaceInfo, address: string, lock: Lock) {
    this.options = options;
    this.info = info;
    this.address = address;
    this.lock = lock;
    this.virtualAddresses = [...new Set(options.virtualServers.map((server) => server.address))];
    this.announcer = new Announcer(info.index, info.mac, this.virtualAddresses);
    this.state = new HostState({
      role: 'balancer',
      interface: options.interface,
      index: info.index,
      mac: info.mac,
      warn: (message) => options.log.warn(message),
      ...(options.stateDirectory === undefined ? {} : { directory: options.stateDirectory }),
    });
  }

  /**
   * Checks everything that can be checked, then puts the filters in place.
   * @throws BatonError for whatever is wrong; nothing is left set up then
   */
  static async prepare(options: MachineOptions): Promise<Machine> {
    requirePrivileges();
    requireAdoption(options.adoptFunction ?? ADOPT_FUNCTION);
    const info = requireInterface(options.interface);
    requireLoopback();
    const virtual = options.virtualServers.map((server) => server.address);
    const address = ownAddress(options.interface, info, options.address, virtual);
    const lock = await takeLock('balancer', options.interface);
    let machine: Machine | undefined;
    try {
      machine = new Machine(options, info, address, lock);
      await machine.setUp();
      return machine;
    } catch (error) {
      if (machine === undefined) await lock.release();
      else await machine.stop();
      throw error;
    }
  }

  /** File descriptor of the socket filter for the engine's packet ring. */
  get filterProgramFd(): number {
    return this.loaded(this.guard).filterProgramFd;
  }

  /** Takes the virtual addresses: from now on clients come. Keeps watch over all of it until `stop`. */
  async takeAddresses(): Promise<void> {
    for (const address of this.virtualAddresses) await this.state.address(this.options.interface, address);
    await this.state.settle();
    this.announcer.announce();
    this.timer = setInterval(() => {
      this.checking = this.check().catch((error: unknown) =>
        this.options.log.warn(`what was set up can not be checked: ${reasonOf(error)}`),
      );
    }, CHECK_MS);
  }

  /** What the BPF programs have counted. */
  counters(): { guard: Record<GuardCounter, number>; shim: Record<ShimCounter, number> } {
    return { guard: this.loaded(this.guard).counters(), shim: this.loaded(this.shim).counters() };
  }

  /** Undoes everything. What can not be undone is warned of. */
  async stop(): Promise<void> {
    clearInterval(this.timer);
    this.announcer.stop();
    await this.checking;
    await this.state.end();
    this.guard?.close();
    this.guard = undefined;
    this.shim?.close();
    this.shim = undefined;
    await this.lock.release();
  }

  private async setUp(): Promise<void> {
    const { options, info, address } = this;
    await requireNoListener(options.virtualServers);
    this.guard = new Guard(address, options.virtualServers);
    this.shim = new Shim({
      key: options.key,
      own: address,
      local: true,
      balancers: [address],
      services: new Map(
        [...options.services].map(([service, port]) => [service, { address: LOCALHOST, port }]),
      ),
    });
    await probeAddresses(info.index, info.mac, this.virtualAddresses);
    await requireSynCookies(this.state);
    // The shim first: the guard hands frames on to it from its own first frame.
    await this.shim.attach(this.state, info.index);
    await this.guard.attach(this.state, info.index);
  }

  private async check(): Promise<void> {
    const { options, info } = this;
    const now = native().interfaceInfo(options.interface);
    if (now === undefined || now.index !== info.index) {
      clearInterval(this.timer);
      const message =
        now === undefined ? 'the interface is gone' : 'the interface was replaced by another one';
      options.onLost?.(
        new BatonError('BATON_INTERFACE', message, {
          where: options.interface,
          hint: 'start the balancer again',
        }),
      );
      return;
    }
    const wasDown = this.down;
    this.down = !now.up;
    if (this.down !== wasDown)
      options.log.warn(`interface ${options.interface} is ${now.up ? 'up again' : 'down'}`);
    for (const repaired of await this.state.repair()) options.log.warn(`${repaired} was gone, and is back`);
    // Whoever was unplugged with us may have forgotten us.
    if (wasDown && now.up) this.announcer.announce();
  }

  private loaded<Loaded>(part: Loaded | undefined): Loaded {
    if (part === undefined)
      throw new BatonError('BATON_SYSTEM', 'the balancer has stopped', { where: this.options.interface });
    return part;
  }
}
