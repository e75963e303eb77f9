/**
 * The balancer as a node: its own stock web server takes sessions at the virtual addresses, as that
 * of any node. The shim runs on the interface of the clients, behind the guard:
 *
 *     engine -> queueing discipline -> guard_egress -+
 *     baton_xdp -> metadata ----------- guard_ingress +-> shim_ingress -> stack -> web server
 *     clients <- interface <- shim_egress <- stack
 *     engine <- tap <- ingress <- notices of the shim
 *
 * The guard still hides everything else from the stack, so the kernel answers for a virtual address
 * only in sessions that the engine has handed over.
 */
import type { PlainLog } from '../../base/log.js';
import type { Journal } from '../../host/journal/journal.js';
import { shimKernel } from '../../host/kernel.js';
import { KernelWatch, kernelFlags } from '../../host/kernel-options.js';
import { type Lock, takeLock } from '../../host/lock.js';
import { Shim } from '../../host/shim.js';
import { requireSynCookies } from '../../host/syn-cookies.js';
import { LOCAL_NODE, type OwnAddresses } from '../../wire/address.js';
import { SHIM_ABILITIES } from '../../wire/ixcp.js';
import type { FarmSlots } from '../objects/farm.js';
import type { Guard } from './guard.js';
import type { MachineInterface } from './interfaces.js';

export interface LocalNodeOptions {
  /** The interface of the clients. */
  clients: MachineInterface;
  /** The balancer's own addresses. It is a node of IPv4, so it needs one of that family. */
  own: OwnAddresses;
  /** 16 bytes. */
  key: Uint8Array;
  guard: Guard;
  journal: Journal;
  log: PlainLog;
  /** How long to wait for another balancer to leave, ms. */
  patience: number | undefined;
}

/** Whether the balancer is a node of the farm, also a retired one. */
export function hasLocalNode({ nodes }: Pick<FarmSlots, 'nodes'>): boolean {
  return nodes.some(({ address }) => address === LOCAL_NODE);
}

export class LocalNode {
  private readonly shim: Shim;
  private readonly lock: Lock;
  private readonly kernel: KernelWatch;

  private constructor(shim: Shim, lock: Lock, kernel: KernelWatch) {
    this.shim = shim;
    this.lock = lock;
    this.kernel = kernel;
  }

  /**
   * Loads the shim and attaches it. Sessions of an earlier run are taken over.
   * @throws BatonError BATON_IN_USE while an agent runs on the interface; BATON_KERNEL when this
   *   kernel cannot take sessions; BATON_SYSTEM when it refuses the shim
   */
  static async open(options: LocalNodeOptions): Promise<LocalNode> {
    const { clients, own, key, guard, journal, log, patience } = options;
    const { name, info } = clients;
    const can = shimKernel();
    const lock = await takeLock('node', name, patience);
    let shim: Shim | undefined;
    try {
      shim = new Shim({
        key,
        own: { ipv4: LOCAL_NODE, ipv6: undefined },
        balancers: own.ipv4 === undefined ? [] : [own.ipv4],
        services: new Map(),
        kernel: can,
        interface: name,
        local: info.index,
      });
      const cookies = (): Promise<void> => requireSynCookies(journal);
      if (can.adopts) await cookies();
      await shim.attach(journal, info.index);
      await guard.turnRound(journal, info);
      return new LocalNode(shim, lock, new KernelWatch(cookies, log, () => kernelFlags(can)));
    } catch (error) {
      shim?.close();
      await lock.release();
      throw error;
    }
  }

  /** IxcpFlag bits, as in the report of an agent. */
  flags(): number {
    return this.kernel.look() | SHIM_ABILITIES;
  }

  /** Closes the descriptors. The programs stay attached. */
  async close(): Promise<void> {
    this.shim.close();
    await this.lock.release();
  }
}
