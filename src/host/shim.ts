/**
 * Loads the shim (bpf/shim/shim.bpf.c), configures it, and attaches it to both hooks of an
 * interface. A node has a shim for its web server, a balancer has one for its local services.
 * bpf/lib/config.h declares the layouts of keys and values.
 */
import { fileURLToPath } from 'node:url';
import { BatonError, reasonOf } from '../base/errors.js';
import { SHIM_NAMES, type ShimCounter } from '../base/kernel-counters.js';
import { parseIpv4 } from '../wire/ipv4.js';
import type { Journal } from './journal/journal.js';
import { type BpfObject, native } from './native.js';

/** The compiled BPF objects, in build/bpf beside the compiled tree. */
const OBJECTS = new URL('../../../build/bpf/', import.meta.url);

/** The shim runs after the guard of a balancer, which has priority 1. */
const PRIORITY = 2;
const HANDLE = 1;

/** struct shim_config. */
const CONFIG = { key: 0, own: 16, flags: 20, bytes: 24 } as const;
const FLAG_LOCAL = 0x1;
/** struct shim_service. */
const SERVICE = { address: 0, port: 4, bytes: 8 } as const;

export interface Listener {
  /** Dotted quad. */
  address: string;
  port: number;
}

export interface ShimOptions {
  /** 16 bytes. */
  key: Uint8Array;
  /** This machine's own address: the source of its notices. */
  own: string;
  /** This machine is the balancer itself: the shim serves local services. */
  local: boolean;
  /** Addresses of the balancers that may hand sessions over to this machine. */
  balancers: readonly string[];
  /**
   * Listeners by service number. Without a listener for service 0, a session goes to the listener
   * of its own address and port.
   */
  services: ReadonlyMap<number, Listener>;
  /** Capacity of the session map. Default: that of the object file. */
  maxSessions?: number;
}

export class Shim {
  private readonly object: BpfObject;

  /**
   * Loads and configures the shim, and attaches nothing yet.
   * @throws BatonError BATON_SYSTEM when the kernel refuses it
   */
  constructor(options: ShimOptions) {
    const { maxSessions } = options;
    this.object = loadObject('shim', maxSessions === undefined ? {} : { sessions: maxSessions });
    try {
      this.configure(options);
    } catch (error) {
      this.object.close();
      throw error;
    }
  }

  /**
   * Attaches both programs to an interface. Replaces those of an earlier run.
   * @throws BatonError BATON_IN_USE when another program's filters have their places
   */
  async attach(journal: Journal, interfaceIndex: number): Promise<void> {
    // Egress first: the shim must see every segment of an adopted socket, from the first one on.
    for (const hook of ['egress', 'ingress'] as const) {
      const program = `shim_${hook}`;
      await journal.filter({ hook, priority: PRIORITY, handle: HANDLE, program }, () =>
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
    config.set(addressKey(options.own), CONFIG.own);
    config.set(hostU32(options.local ? FLAG_LOCAL : 0), CONFIG.flags);
    for (const balancer of options.balancers) {
      this.object.mapUpdate('balancers', addressKey(balancer), Uint8Array.of(1));
    }
    for (const [service, listener] of options.services) {
      const value = new Uint8Array(SERVICE.bytes);
      value.set(addressKey(listener.address), SERVICE.address);
      new DataView(value.buffer).setUint16(SERVICE.port, listener.port);
      this.object.mapUpdate('services', hostU32(service), value);
    }
    this.object.mapUpdate('config', hostU32(0), config);
  }
}

/**
 * Loads build/bpf/NAME.bpf.o.
 * @param maxEntries other capacities for maps, by name
 * @throws BatonError BATON_SYSTEM
 */
export function loadObject(
  name: 'shim' | 'guard' | 'xdp' | 'probe',
  maxEntries: Record<string, number> = {},
): BpfObject {
  const path = fileURLToPath(new URL(`${name}.bpf.o`, OBJECTS));
  try {
    return native().loadBpf(path, { maxEntries });
  } catch (error) {
    if (error instanceof BatonError) throw error;
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const why = reasonOf(error)
      .trim()
      .split(/\s*\n\s*/)
      .join(' | ');
    throw new BatonError('BATON_SYSTEM', `cannot load the BPF programs: ${why}`, {
      where: path,
      cause: error,
      ...(absent ? { hint: 'run `make build` in the source directory' } : {}),
    });
  }
}

/** The counters of a BPF object by name: its per-CPU map `counters`, summed over CPUs. */
export function sumsByName<Name extends string>(
  object: BpfObject,
  names: readonly Name[],
): Record<Name, number> {
  const sums = object.mapSums('counters', names.length);
  return Object.fromEntries(names.map((name, index) => [name, sums[index] ?? 0])) as Record<
    Name,
    number
  >;
}

/** Four bytes in network byte order. */
export function addressKey(address: string): Uint8Array {
  const number = parseIpv4(address);
  if (number === undefined) throw new BatonError('BATON_SYSTEM', `not an IPv4 address: ${address}`);
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

/** Four bytes in this machine's byte order. */
export function hostU32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}
