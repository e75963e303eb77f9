/**
 * The guard on the balancer's interface: kernel-shim/guard.bpf.c loaded, told its virtual servers,
 * attached to both hooks. It gives the engine the frames that concern it, and keeps them from the
 * kernel. The layouts of keys and values are those of kernel-shim/config.h.
 */
import type { HostState } from '../../base/host/state.js';
import type { BpfObject } from '../../base/native.js';
import { addressKey, hostU32, loadObject, sumsByName } from '../../node/shim.js';

/** The names of `enum guard_counter` in kernel-shim/counters.h, in its order. */
export const GUARD_COUNTERS = ['seen', 'turned', 'kept_virtual', 'kept_notice', 'drop_ixp'] as const;
export type GuardCounter = (typeof GUARD_COUNTERS)[number];

const PRIORITY = 1;
const HANDLE = 1;
/** struct guard_server. */
const SERVER = { address: 0, port: 4, bytes: 8 } as const;

export class Guard {
  private readonly object: BpfObject;

  /**
   * Loads the guard and tells it its configuration; nothing is attached yet.
   * @param own this machine's own address, where notices come
   * @throws BatonError BATON_SYSTEM when the kernel refuses it
   */
  constructor(own: string, virtualServers: readonly { address: string; port: number }[]) {
    this.object = loadObject('guard');
    try {
      this.object.mapUpdate('own', hostU32(0), addressKey(own));
      for (const [index, server] of virtualServers.entries()) {
        this.object.mapUpdate('virtual_servers', serverKey(server), hostU32(index));
        this.object.mapUpdate('virtual_addresses', addressKey(server.address), hostU32(1));
      }
    } catch (error) {
      this.object.close();
      throw error;
    }
  }

  /** File descriptor of the socket filter for the engine's packet ring. */
  get filterProgramFd(): number {
    return this.object.programFd('guard_filter');
  }

  /**
   * Attaches both programs to an interface, in place of those of an earlier run.
   * @throws BatonError BATON_IN_USE when somebody else's filters are where these should be.
   */
  async attach(state: HostState, interfaceIndex: number): Promise<void> {
    for (const hook of ['ingress', 'egress'] as const) {
      const program = `guard_${hook}`;
      await state.filter({ hook, priority: PRIORITY, handle: HANDLE, program }, () =>
        this.object.attachTc(program, interfaceIndex, hook, PRIORITY, HANDLE),
      );
    }
  }

  /** What the programs have counted since they were loaded. */
  counters(): Record<GuardCounter, number> {
    return sumsByName(this.object, GUARD_COUNTERS);
  }

  /** What is attached stays attached. */
  close(): void {
    this.object.close();
  }
}

/** A virtual server as the key of a map `virtual_servers`. */
export function serverKey(server: { address: string; port: number }): Uint8Array {
  const key = new Uint8Array(SERVER.bytes);
  key.set(addressKey(server.address), SERVER.address);
  new DataView(key.buffer).setUint16(SERVER.port, server.port);
  return key;
}
