/**
 * Loads the shim (bpf/shim/shim.bpf.c), configures it, and attaches it to both hooks of an
 * interface of a node.
 * bpf/lib/config.h declares the layouts of keys and values.
 */
import { SHIM_NAMES, type ShimCounter } from '../base/kernel-counters.js';
import {
  type Address,
  addressBytes,
  type Endpoint,
  isAddress6,
  type OwnAddresses,
  toAddress,
} from '../wire/address.js';
import { Aliases, aliasKey } from '../wire/alias.js';
import { hostU32, loadObject, sumsByName } from './bpf-object.js';
import { EarlierShim, LAYOUT_AT, SESSION_LAYOUT } from './earlier-shim.js';
import type { Place } from './journal/changes.js';
import type { Journal } from './journal/journal.js';
import type { ShimKernel } from './kernel.js';
import type { BpfObject } from './native.js';

/** As in earlier versions: a reload takes the places of their filters. */
const PRIORITY = 2;
const HANDLE = 1;
/** The program of the hook egress. */
const EGRESS = 'shim_egress';

/** struct shim_config. */
const CONFIG = {
  key: 0,
  own: 16,
  alias: 20,
  layout: LAYOUT_AT,
  local: 40,
  own6: 44,
  bytes: 60,
} as const;
/** struct shim_balancer. */
const BALANCER = { family: 0, address6: 4, bytes: 20 } as const;
/** struct shim_service. */
const SERVICE = { address: 0, port: 4, bytes: 8 } as const;

/** FAMILY_IPV6 of bpf/lib/config.h. */
const FAMILY_IPV6 = 6;

export interface ShimOptions {
  /** 16 bytes. */
  key: Uint8Array;
  /** This machine's own addresses: the sources of its notices. */
  own: OwnAddresses;
  /** Addresses of the balancers that may hand sessions over to this machine. */
  balancers: readonly Address[];
  /**
   * Listeners by service number. Without a listener for service 0, a session goes to the listener
   * of its own address and port.
   */
  services: ReadonlyMap<number, Endpoint>;
  /** What this machine's kernel can do. */
  kernel: ShimKernel;
  /** The interface, whose sessions of an earlier run are taken over. Default: none. */
  interface?: string;
  /** With a shim on the balancer itself, the index of the interface that gets its notices. */
  local?: number;
  /** Capacity of the session map. Default: that of the object file. */
  maxSessions?: number;
}

/** The object file of the shim that this kernel can load (bpf/Makefile). */
function objectFor({ adopts, follows }: ShimKernel): 'shim' | 'shim-replay' | 'shim-old' {
  if (adopts && follows) return 'shim';
  return follows ? 'shim-replay' : 'shim-old';
}

export class Shim {
  private readonly object: BpfObject;

  /**
   * Loads and configures the shim, and attaches nothing yet.
   * @throws BatonError BATON_SYSTEM when the kernel refuses it
   */
  constructor(options: ShimOptions) {
    const { maxSessions, kernel } = options;
    const earlier =
      options.interface === undefined ? undefined : EarlierShim.of(options.interface, EGRESS);
    try {
      this.object = loadObject(
        objectFor(kernel),
        maxSessions === undefined ? {} : { sessions: maxSessions },
        earlier?.reuse,
      );
    } finally {
      earlier?.close();
    }
    try {
      this.configure(options);
    } catch (error) {
      this.object.close();
      throw error;
    }
  }

  /**
   * Attaches both programs to an interface. Replaces those of an earlier run.
   * @param at another interface than that of the journal
   * @throws BatonError BATON_IN_USE when another program's filters have their places
   */
  async attach(journal: Journal, interfaceIndex: number, at?: Place): Promise<void> {
    // Egress first: the shim must see every segment of an adopted socket, from the first one on.
    for (const hook of ['egress', 'ingress'] as const) {
      const program = `shim_${hook}`;
      const place = at === undefined ? {} : { at };
      await journal.filter({ ...place, hook, priority: PRIORITY, handle: HANDLE, program }, () =>
        this.object.attachTc(program, interfaceIndex, hook, PRIORITY, HANDLE),
      );
    }
  }

  /** The programs' counters, since they were loaded. */
  counters(): Record<ShimCounter, number> {
    return sumsByName(this.object, SHIM_NAMES);
  }

  /** Attached programs stay attached. */
  close(): void {
    this.object.close();
  }

  private configure(options: ShimOptions): void {
    const config = new Uint8Array(CONFIG.bytes);
    config.set(options.key, CONFIG.key);
    const { ipv4, ipv6 } = options.own;
    if (ipv4 !== undefined) config.set(addressBytes(ipv4), CONFIG.own);
    if (ipv6 !== undefined) config.set(addressBytes(ipv6), CONFIG.own6);
    config.set(new Uint8Array(aliasKey(options.key).buffer), CONFIG.alias);
    config.set(hostU32(SESSION_LAYOUT), CONFIG.layout);
    config.set(hostU32(options.local ?? 0), CONFIG.local);
    const aliases = new Aliases(options.key);
    for (const balancer of options.balancers) {
      const value = new Uint8Array(BALANCER.bytes);
      if (isAddress6(balancer)) {
        value.set(hostU32(FAMILY_IPV6), BALANCER.family);
        value.set(addressBytes(balancer), BALANCER.address6);
      }
      const key = addressBytes(toAddress(aliases.of(balancer)));
      this.object.mapUpdate('balancers', key, value);
    }
    for (const [service, listener] of options.services) {
      const value = new Uint8Array(SERVICE.bytes);
      value.set(addressBytes(listener.address), SERVICE.address);
      new DataView(value.buffer).setUint16(SERVICE.port, listener.port);
      this.object.mapUpdate('services', hostU32(service), value);
    }
    this.object.mapUpdate('config', hostU32(0), config);
  }
}
