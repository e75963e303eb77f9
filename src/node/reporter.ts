/**
 * Sends each balancer a report once a second: this node runs, and what it can do (IXCP_REPORT).
 * Receives their answers. docs/ixp.md describes the exchange, bpf/lib/ixp.h the header.
 */
import { randomBytes } from 'node:crypto';
import { reasonOf } from '../base/errors.js';
import type { PlainLog } from '../base/log.js';
import { type Native, native, type RawSocket } from '../host/native.js';
import {
  type Address,
  formatAddress,
  isAddress6,
  type OwnAddresses,
  ownTowards,
  UNSPECIFIED,
} from '../wire/address.js';
import { Aliases } from '../wire/alias.js';
import { Protocol } from '../wire/ipv4.js';
import {
  checkIxcp,
  emitIxcp,
  hashIxcp,
  IXCP,
  IXCP_HEADER_BYTES,
  IxcpFlag,
  type IxcpRepr,
  IxcpType,
  SHIM_ABILITIES,
} from '../wire/ixcp.js';
import { SipHash } from '../wire/siphash.js';

export interface ReporterOptions {
  /** This node's own addresses, which the tags cover: one of the family of each balancer. */
  own: OwnAddresses;
  /** 16 bytes. */
  key: Uint8Array;
  balancers: readonly Address[];
  /**
   * Returns the content of the next report: IxcpFlag bits, and this machine's virtual addresses.
   */
  look(): { flags: number; addresses: readonly Address[] };
  log: PlainLog;
  /** For tests. */
  openRawSocket?: Native['openRawSocket'];
}

/** What every agent of this version can do. */
const ABILITIES = IxcpFlag.namesAddresses | SHIM_ABILITIES;
const INTERVAL_MS = 1_000;
/** A balancer that answered before counts as silent after this time without an answer. */
const SILENCE_MS = 5_000;

/** The first answer: its balancer, and whether that has another key. */
export interface FirstAnswer {
  balancer: Address;
  badKey: boolean;
}

interface Balancer {
  readonly address: Address;
  /** The address for messages. */
  readonly name: string;
  /** Our own address, from which it gets reports. */
  readonly own: Address;
  /** Time of the last answer, ms of `performance.now`; 0: no answer yet. */
  heardAt: number;
  complainedKey: boolean;
  complainedSend: boolean;
}

export class Reporter {
  /** Resolves with the first answer of any balancer. */
  readonly firstAnswer: Promise<FirstAnswer>;
  private readonly own: OwnAddresses;
  private readonly hash: SipHash;
  private readonly aliases: Aliases;
  private readonly balancers: readonly Balancer[];
  private readonly look: ReporterOptions['look'];
  private readonly log: PlainLog;
  private readonly openRawSocket: Native['openRawSocket'];
  /** Distinguishes this run of the agent from earlier runs. */
  private readonly session = randomBytes(4).readUInt32BE();
  private readonly payload = new Uint8Array(IXCP_HEADER_BYTES);
  private readonly view = new DataView(this.payload.buffer);
  private answered: (answer: FirstAnswer) => void = () => {};
  private sequence = 0;
  private complainedLook = false;
  /** One for each family of the balancers. */
  private readonly sockets: { readonly isIpv6: boolean; readonly socket: RawSocket }[] = [];
  private timer: NodeJS.Timeout | undefined;

  constructor(options: ReporterOptions) {
    this.own = options.own;
    this.hash = new SipHash(options.key);
    this.aliases = new Aliases(options.key);
    this.look = options.look;
    this.log = options.log;
    this.openRawSocket =
      options.openRawSocket ?? ((protocol, own) => native().openRawSocket(protocol, own));
    this.balancers = options.balancers.map((address) => ({
      address,
      name: formatAddress(address),
      own: ownTowards(options.own, address) ?? UNSPECIFIED,
      heardAt: 0,
      complainedKey: false,
      complainedSend: false,
    }));
    this.firstAnswer = new Promise((resolve) => {
      this.answered = resolve;
    });
  }

  /**
   * Sends the first reports now, and more every second until `close`. Throws the system's error if
   * it refuses a raw socket.
   */
  start(): void {
    const families = new Set(this.balancers.map(({ address }) => isAddress6(address)));
    for (const isIpv6 of families) {
      const own = isIpv6 ? this.own.ipv6 : undefined;
      const socket = this.openRawSocket(Protocol.ixcp, own);
      this.sockets.push({ isIpv6, socket });
      socket.start((source, payload) => this.receive(source, payload));
    }
    this.report();
    this.timer = setInterval(() => {
      this.report();
      this.noticeSilence();
    }, INTERVAL_MS);
  }

  /** Sends the last reports, which ask for no more handoffs. */
  leave(): void {
    clearInterval(this.timer);
    if (this.sockets.length > 0) this.report(IxcpFlag.leaving);
  }

  close(): void {
    clearInterval(this.timer);
    for (const { socket } of this.sockets.splice(0)) socket.close();
  }

  /**
   * Sends one report for each virtual address, or one report without an address. All have the same
   * clock.
   */
  private report(more = 0): void {
    // This number always grows: balancers take a report whose number does not grow for a replay.
    this.sequence = Math.max(this.sequence + 1, Math.floor(Date.now() / 1_000)) >>> 0;
    let seen: ReturnType<ReporterOptions['look']>;
    try {
      seen = this.look();
      this.complainedLook = false;
    } catch (error) {
      // An unknown state is not reported. A balancer tolerates missing reports.
      if (!this.complainedLook) this.log.warn(`cannot send reports: ${reasonOf(error)}`);
      this.complainedLook = true;
      return;
    }
    const { flags, addresses } = seen;
    const repr = {
      type: IxcpType.report,
      session: this.session,
      flags: flags | more | ABILITIES,
      sequence: this.sequence,
      clientPort: addresses.length,
    };
    for (const balancer of this.balancers) {
      // UNSPECIFIED: this machine has no virtual address.
      for (const virtualAddress of addresses.length === 0 ? [UNSPECIFIED] : addresses) {
        this.send(balancer, { ...repr, virtualAddress: this.aliases.of(virtualAddress) });
      }
    }
  }

  private send(balancer: Balancer, repr: IxcpRepr): void {
    const { aliases } = this;
    const isIpv6 = isAddress6(balancer.address);
    emitIxcp(this.view, 0, aliases.of(balancer.own), aliases.of(balancer.address), repr, this.hash);
    try {
      const way = this.sockets.find((entry) => entry.isIpv6 === isIpv6);
      way?.socket.send(balancer.address, this.payload);
      balancer.complainedSend = false;
    } catch (error) {
      if (!balancer.complainedSend) {
        this.log.warn(`cannot reach balancer ${balancer.name}: ${reasonOf(error)}`);
      }
      balancer.complainedSend = true;
    }
  }

  private receive(source: Address, payload: Uint8Array): void {
    const balancer = this.balancers.find((entry) => entry.address === source);
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
    if (balancer === undefined || !checkIxcp(view, 0, payload.byteLength)) return;
    const type = view.getUint8(IXCP.type);
    // An answer repeats the session number of our reports.
    if (view.getUint32(IXCP.session) !== this.session) return;
    if (type === IxcpType.welcome && this.verify(view, balancer)) this.welcomed(balancer);
    // Its tag was made with the other key, so it cannot be verified. `refused` believes it only
    // before the first valid answer.
    if (type === IxcpType.badKey) this.refused(balancer);
  }

  private verify(view: DataView, from: Balancer): boolean {
    const { aliases, hash } = this;
    hashIxcp(view, aliases.of(from.address), aliases.of(from.own), 0, hash);
    return view.getUint32(IXCP.tag) === hash.high && view.getUint32(IXCP.tag + 4) === hash.low;
  }

  private welcomed(balancer: Balancer): void {
    if (balancer.heardAt === 0)
      this.log.info(`balancer ${balancer.name} receives the reports of this node`);
    balancer.heardAt = performance.now();
    balancer.complainedKey = false;
    this.answered({ balancer: balancer.address, badKey: false });
  }

  private refused(balancer: Balancer): void {
    this.answered({ balancer: balancer.address, badKey: true });
    if (balancer.complainedKey || balancer.heardAt !== 0) return;
    balancer.complainedKey = true;
    this.log.warn(`balancer ${balancer.name} reports that it has another key`);
  }

  private noticeSilence(): void {
    for (const balancer of this.balancers) {
      if (balancer.heardAt === 0 || performance.now() - balancer.heardAt < SILENCE_MS) continue;
      balancer.heardAt = 0;
      this.log.warn(`balancer ${balancer.name} no longer answers`);
    }
  }
}
