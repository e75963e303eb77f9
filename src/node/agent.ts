/**
 * The agent of a node. It sets up the machine of an ordinary web server to take sessions from a
 * balancer, maintains that setup while it runs, and undoes it at its end. It does not touch the web
 * server itself.
 *
 *     silent ARP -> SYN cookies -> virtual addresses on lo -> shim on the interface -> reports
 *
 * If a step fails, all steps before it are undone.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { BatonError, reasonOf } from '../base/errors.js';
import type { PlainLog } from '../base/log.js';
import { runAll } from '../base/run-all.js';
import type { NodeConfig } from '../config/load.js';
import { listAddresses, routeTo } from '../host/addresses.js';
import { LOOPBACK, ownAddresses, requireInterface, requireLoopback } from '../host/interfaces.js';
import { Journal } from '../host/journal/journal.js';
import { type ShimKernel, shimKernel } from '../host/kernel.js';
import { KernelWatch, kernelFlags } from '../host/kernel-options.js';
import { takeLock } from '../host/lock.js';
import { type InterfaceInfo, native } from '../host/native.js';
import { requirePrivileges } from '../host/privilege.js';
import { Shim } from '../host/shim.js';
import { requireSynCookies } from '../host/syn-cookies.js';
import { requireEndOfTimeWait } from '../host/time-wait.js';
import {
  type Address,
  formatAddress,
  isAddress6,
  type OwnAddresses,
  ownInUse,
} from '../wire/address.js';
import { Absence } from './absence.js';
import { quietArp } from './quiet-arp.js';
import { Reporter } from './reporter.js';
import { Strangers } from './strangers.js';

/** The part of a node's config that the agent needs. */
type AgentConfig = Pick<
  NodeConfig,
  'interface' | 'address' | 'virtualAddresses' | 'balancers' | 'listen' | 'maxSessions'
>;

export interface AgentOptions extends AgentConfig {
  /** 16 bytes. */
  key: Uint8Array;
  log: PlainLog;
  /**
   * For tests: what the kernel can do, where the journal goes, CHECK_MS and REMIND_MS.
   */
  shimKernel?: ShimKernel;
  journalDirectory?: string;
  checkMs?: number;
  remindMs?: number;
}

/** How long a start waits for the answer of a balancer. */
const ANSWER_MS = 3_500;
/** Time between two checks of the setup. */
const CHECK_MS = 5_000;
/** Time between two messages about a missing interface. */
const REMIND_MS = 60_000;
/** The kernel is too old to adopt. */
const REPLAYS =
  'this kernel cannot adopt connections (Linux 6.9 can): balancers replay the handshake instead';
/** From the last report to the end: handoffs that are under way are still taken. */
const LEAVE_MS = 100;

/**
 * Runs the agent until `signal` aborts. Resolves when everything is undone.
 * @throws BatonError when it cannot start; then, too, everything is undone
 */
export async function runAgent(options: AgentOptions, signal: AbortSignal): Promise<void> {
  requirePrivileges();
  const can = options.shimKernel ?? shimKernel();
  const info = requireInterface(options.interface);
  requireLoopback();
  const { interface: name, address, virtualAddresses, balancers } = options;
  const own = ownAddresses(name, info, address, virtualAddresses, balancers);
  const lock = await takeLock('node', options.interface);
  try {
    await new Agent(options, info, own, can).run(signal);
  } finally {
    await lock.release();
  }
}

class Agent {
  private readonly options: AgentOptions;
  private readonly log: PlainLog;
  private readonly own: OwnAddresses;
  /** Those of them that balancers know. */
  private readonly known: readonly Address[];
  private readonly can: ShimKernel;
  private readonly journal: Journal;
  private readonly kernel: KernelWatch;
  private readonly strangers: Strangers;
  private index: number;
  private readonly absence: Absence;

  constructor(options: AgentOptions, info: InterfaceInfo, own: OwnAddresses, can: ShimKernel) {
    this.options = options;
    this.log = options.log;
    this.own = own;
    this.known = ownInUse(own, options.balancers);
    this.can = can;
    this.index = info.index;
    this.absence = new Absence(options.interface, options.remindMs ?? REMIND_MS, options.log);
    this.strangers = new Strangers(options.balancers, options.log);
    this.journal = new Journal({
      role: 'node',
      interface: options.interface,
      index: info.index,
      mac: info.mac,
      warn: (message) => options.log.warn(message),
      ...(options.journalDirectory === undefined ? {} : { directory: options.journalDirectory }),
    });
    this.kernel = new KernelWatch(
      () => requireSynCookies(this.journal),
      options.log,
      () => kernelFlags(can),
    );
  }

  /** The virtual addresses of the config that this machine has now. */
  private addresses(): Address[] {
    const there = new Set(listAddresses().map(({ address }) => address));
    return this.options.virtualAddresses.filter((address) => there.has(address));
  }

  async run(signal: AbortSignal): Promise<void> {
    const { options, own } = this;
    let shim: Shim | undefined;
    let reporter: Reporter | undefined;
    try {
      await this.look();
      shim = new Shim({
        key: options.key,
        own,
        balancers: options.balancers,
        services: new Map(options.listen === undefined ? [] : [[0, options.listen]]),
        maxSessions: options.maxSessions,
        kernel: this.can,
        interface: options.interface,
      });
      await this.setUp(shim);
      await this.journal.settle();
      reporter = new Reporter({
        own,
        key: options.key,
        balancers: options.balancers,
        look: () => ({ flags: this.kernel.look(), addresses: this.addresses() }),
        log: this.log,
      });
      reporter.start();
      const heard = await this.awaitAnswer(reporter, signal);
      if (!signal.aborted) {
        const ready = `node ${this.known.map(formatAddress).join(', ')} on ${options.interface} is ready for ${options.virtualAddresses.map(formatAddress).join(', ')}`;
        if (heard) this.log.info(ready);
        else
          this.log.warn(
            `${ready}, but no balancer has answered: start one, add this node to its nodes, or correct \`balancers\` in the config`,
          );
      }
      await this.watch(shim, signal);
      reporter.leave();
      await delay(LEAVE_MS);
    } finally {
      const failures = await runAll([
        () => reporter?.close(),
        () => this.journal.end(),
        () => shim?.close(),
      ]);
      for (const failure of failures)
        this.log.warn(`a step of the cleanup failed: ${reasonOf(failure)}`);
    }
  }

  /** Warns of conditions that disturb a node but do not stop it. */
  private async look(): Promise<void> {
    const { options, own } = this;
    for (const { interface: name, address } of listAddresses()) {
      if (name === options.interface && options.virtualAddresses.includes(address)) {
        this.log.warn(
          `${formatAddress(address)} is an address of ${name} itself: this machine answers ARP for it, not the balancer`,
        );
      }
    }
    for (const balancer of options.balancers) {
      const route = await routeTo(balancer);
      const name = formatAddress(balancer);
      if (route === undefined) {
        this.log.warn(`there is no route to balancer ${name}`);
      } else if (route.interface !== options.interface || route.gateway !== undefined) {
        const way =
          route.gateway === undefined
            ? route.interface
            : `${formatAddress(route.gateway)} on ${route.interface}`;
        this.log.warn(
          `balancer ${name} is not on the link of ${options.interface}, but reached through ${way}`,
        );
      } else if (!isAddress6(balancer) && route.source !== undefined && route.source !== own.ipv4) {
        // Over IPv6 the sockets and the shim have the address.
        const wanted =
          own.ipv4 === undefined ? 'the address of this node' : formatAddress(own.ipv4);
        this.log.warn(
          `packets to balancer ${name} leave from ${formatAddress(route.source)}, not from ${wanted}: the balancer will not recognize this node`,
        );
      }
    }
  }

  private async setUp(shim: Shim): Promise<void> {
    const { journal, options } = this;
    await quietArp(journal, options.interface);
    if (this.can.adopts) await requireSynCookies(journal);
    else this.log.info(REPLAYS);
    if (options.listen !== undefined) await requireEndOfTimeWait(journal);
    for (const address of options.virtualAddresses) await journal.address(LOOPBACK, address);
    await shim.attach(journal, this.index);
  }

  /**
   * Waits for the answer of a balancer, and returns whether one came. The agent starts without an
   * answer, too.
   * @throws BatonError BATON_KEY when a balancer has another key
   */
  private async awaitAnswer(reporter: Reporter, signal: AbortSignal): Promise<boolean> {
    const waiting = new AbortController();
    const limit = AbortSignal.any([signal, waiting.signal]);
    const silence = delay(ANSWER_MS, undefined, { signal: limit }).catch(() => undefined);
    const answer = await Promise.race([reporter.firstAnswer, silence]);
    waiting.abort();
    if (answer?.badKey === true) {
      throw new BatonError(
        'BATON_KEY',
        `balancer ${formatAddress(answer.balancer)} has another key`,
        {
          hint: 'balancer and nodes need key files with the same content',
        },
      );
    }
    if (answer === undefined && !signal.aborted) {
      this.log.warn(
        `no answer from ${this.options.balancers.map(formatAddress).join(', ')} yet; the agent continues to send reports`,
      );
    }
    return answer !== undefined;
  }

  private async watch(shim: Shim, signal: AbortSignal): Promise<void> {
    for (;;) {
      await delay(this.options.checkMs ?? CHECK_MS, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      try {
        await this.check(shim);
      } catch (error) {
        this.log.warn(`cannot check the setup: ${reasonOf(error)}`);
      }
    }
  }

  private async check(shim: Shim): Promise<void> {
    const name = this.options.interface;
    const info = native().interfaceInfo(name);
    this.absence.look(info, this.known);
    if (info === undefined) return;
    if (info.index !== this.index) {
      this.index = info.index;
      this.journal.moveTo(info.index, info.mac);
      await this.setUp(shim);
      this.log.warn(`interface ${name} was replaced by another one: set up again`);
      return;
    }
    this.strangers.look(shim.counters());
    for (const repaired of await this.journal.repair())
      this.log.warn(`${repaired} was missing, and is restored`);
  }
}
