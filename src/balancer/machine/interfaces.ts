/**
 * The interfaces of a balancer: the one by which clients are reached, and the one by which nodes
 * are reached, which may be the same.
 */
import { BatonError } from '../../base/errors.js';
import { runAll } from '../../base/run-all.js';
import type { BalancerConfig, NamedInterface } from '../../config/load.js';
import { ownAddresses, requireInterface } from '../../host/interfaces.js';
import { type Lock, takeLock } from '../../host/lock.js';
import { type InterfaceInfo, native } from '../../host/native.js';
import type { Address, OwnAddresses } from '../../wire/address.js';

/** An interface, as it was at the start. */
export interface MachineInterface {
  readonly name: string;
  readonly info: InterfaceInfo;
}

export type InterfaceOptions = Pick<BalancerConfig, 'interface' | 'nodeInterface' | 'address'>;

export interface MachineInterfaces {
  readonly clients: MachineInterface;
  /** Where nodes are reached; undefined: by the interface of the clients. */
  readonly nodes: MachineInterface | undefined;
  /** Our own addresses: nodes send notices to that of their family. */
  readonly own: OwnAddresses;
}

/**
 * Finds the interfaces and our own address.
 * @param virtual the virtual addresses, none of which is our own
 * @param nodes the addresses of the nodes
 * @throws BatonError BATON_INTERFACE for an interface that does not exist or cannot be used
 */
export function findInterfaces(
  options: InterfaceOptions,
  virtual: readonly Address[],
  nodes: readonly Address[],
): MachineInterfaces {
  const { interface: name, nodeInterface, address } = options;
  const clients = { name, info: requireInterface(name) };
  if (nodeInterface === undefined) {
    const own = ownAddresses(name, clients.info, address, virtual, nodes);
    return { clients, nodes: undefined, own };
  }
  return placed(nodeInterface, () => {
    const side = { name: nodeInterface.name, info: requireInterface(nodeInterface.name) };
    if (side.info.index === clients.info.index) {
      throw new BatonError(
        'BATON_INTERFACE',
        `is another name of ${name}, expected another interface`,
        {
          where: side.name,
        },
      );
    }
    const own = ownAddresses(side.name, side.info, address, virtual, nodes);
    return { clients, nodes: side, own };
  });
}

/**
 * Takes the locks of all interfaces of a balancer.
 * @param patience how long to wait while another process holds a lock, in ms
 * @throws BatonError BATON_IN_USE while another balancer works on one of them
 */
export async function lockInterfaces(names: readonly string[], patience?: number): Promise<Lock> {
  const locks: Lock[] = [];
  const release = async (): Promise<void> => {
    const [failure] = await runAll(
      locks
        .splice(0)
        .reverse()
        .map((lock) => () => lock.release()),
    );
    if (failure !== undefined) throw failure;
  };
  try {
    for (const name of names) locks.push(await takeLock('balancer', name, patience));
  } catch (error) {
    await release();
    throw error;
  }
  return { release };
}

/** Watches interfaces while they are in use. */
export class InterfaceWatch {
  private readonly interfaces: readonly MachineInterface[];
  private readonly warn: (message: string) => void;
  private readonly down = new Set<string>();

  constructor(interfaces: readonly MachineInterface[], warn: (message: string) => void) {
    this.interfaces = interfaces;
    this.warn = warn;
  }

  /**
   * Checks the interfaces once. Returns the names of those that came up again.
   * @throws BatonError BATON_INTERFACE when one is gone, or another one has its name: only a new
   *   start helps
   */
  look(): string[] {
    return this.interfaces.flatMap(({ name, info }) => {
      const now = native().interfaceInfo(name);
      if (now === undefined || now.index !== info.index) {
        const message =
          now === undefined ? 'the interface is gone' : 'the interface was replaced by another one';
        throw new BatonError('BATON_INTERFACE', message, {
          where: name,
          hint: 'start the balancer again',
        });
      }
      const wasDown = this.down.has(name);
      if (now.up !== wasDown) return [];
      if (now.up) this.down.delete(name);
      else this.down.add(name);
      this.warn(`interface ${name} is ${now.up ? 'up again' : 'down'}`);
      return now.up ? [name] : [];
    });
  }
}

/** Runs `find`, and adds the place in the config to what it throws. */
function placed<Result>({ where }: NamedInterface, find: () => Result): Result {
  try {
    return find();
  } catch (error) {
    if (!(error instanceof BatonError)) throw error;
    const { code, hint, cause } = error;
    throw new BatonError(
      code,
      error.where === undefined ? error.message : `${error.where}: ${error.message}`,
      {
        where,
        cause,
        ...(hint === undefined ? {} : { hint }),
      },
    );
  }
}
