/**
 * The guard on the balancer's interface: loads bpf/guard/guard.bpf.c, writes the virtual servers
 * into its maps, and attaches it to the tc hook at ingress. The guard gives the engine its frames,
 * and drops them before the kernel's own stack. bpf/lib/config.h defines the layouts of keys and
 * values.
 */

import { randomBytes } from 'node:crypto';
import { GUARD_NAMES, type GuardCounter } from '../../base/kernel-counters.js';
import { hostU32, loadObject, sumsByName } from '../../host/bpf-object.js';
import type { Place } from '../../host/journal/changes.js';
import type { Journal } from '../../host/journal/journal.js';
import type { BpfObject, InterfaceInfo } from '../../host/native.js';
import { addressBytes, type OwnAddresses } from '../../wire/address.js';
import { Aliases, aliasKey } from '../../wire/alias.js';
import { madeUpMac } from '../../wire/ethernet.js';
import type { ServerSlot } from '../objects/farm.js';
import type { PacketStart, RingShare } from '../threads/engine-messages.js';
import { ForwardMaps } from './forward-maps.js';
import { ServerMaps } from './server-maps.js';

const PRIORITY = 1;
const HANDLE = 1;
const PROGRAM = 'guard_ingress';
const EGRESS_PROGRAM = 'guard_egress';
/** struct guard_local. */
const LOCAL = { on: 6, bytes: 8 } as const;
/** struct guard_own. */
const GUARD_OWN = { address: 0, address6: 4, bytes: 20 } as const;

export class Guard {
  private readonly object: BpfObject;
  private readonly servers: ServerMaps;
  private readonly forward: ForwardMaps;
  private readonly workers: number;
  /** Seeds of the session hash, and the first nonce. All that distribute sessions use the same. */
  readonly seeds = { client: randomU32(), port: randomU32(), nonce: randomU32() };

  /**
   * Loads the guard and configures it. Nothing is attached yet.
   * @param own this machine's own addresses, to which notices are sent
   * @param servers the virtual servers, also retired ones
   * @param workers number of engine threads
   * @param key shared with the nodes, 16 bytes
   * @throws BatonError BATON_SYSTEM when the kernel refuses it
   */
  constructor(own: OwnAddresses, servers: readonly ServerSlot[], workers: number, key: Uint8Array) {
    this.workers = workers;
    this.object = loadObject('guard');
    this.servers = new ServerMaps(this.object, new Aliases(key), (server) => server.slot);
    try {
      this.forward = new ForwardMaps(this.object, false);
      this.object.mapUpdate('own', hostU32(0), ownValue(own));
      const { client, port } = this.seeds;
      const sharing = Uint32Array.of(client, port, workers, ...aliasKey(key));
      this.object.mapUpdate('sharing', hostU32(0), new Uint8Array(sharing.buffer));
      this.setServers(servers);
    } catch (error) {
      this.object.close();
      throw error;
    }
  }

  /**
   * Keeps frames of these virtual servers, and of no others. Throws as ServerMaps.set and
   * ForwardMaps.set do.
   */
  setServers(servers: readonly ServerSlot[]): void {
    this.servers.set(servers);
    this.forward.set(servers);
  }

  /**
   * Start data for engine threads that get all frames by packet rings.
   * @param secret 32 bytes
   */
  engineStart(secret: Uint8Array): PacketStart {
    return { kind: 'packet', share: this.clientShare(), seeds: this.seeds, secret };
  }

  /** How the engine threads share the frames of the clients' interface. */
  clientShare(): RingShare {
    return this.ringShare('guard_filter');
  }

  /** The same for an interface by which only nodes are reached. */
  nodeShare(): RingShare {
    return this.ringShare('guard_notices');
  }

  /**
   * Attaches the program to an interface, in place of that of an earlier run: the kernel's stack
   * must not answer what clients and nodes send there.
   * @param at another interface than that of the journal
   * @throws BatonError BATON_IN_USE when a filter of another program has the same place.
   */
  async attach(journal: Journal, interfaceIndex: number, at?: Place): Promise<void> {
    const place = at === undefined ? {} : { at };
    const entry = { ...place, hook: 'ingress', priority: PRIORITY, handle: HANDLE } as const;
    await journal.filter({ ...entry, program: PROGRAM }, () =>
      this.object.attachTc(PROGRAM, interfaceIndex, 'ingress', PRIORITY, HANDLE),
    );
  }

  /**
   * Turns frames round that the engine sends to this machine itself, a node, through an interface.
   * @throws BatonError BATON_IN_USE as `attach` does
   */
  async turnRound(journal: Journal, { index, mac }: InterfaceInfo): Promise<void> {
    const value = new Uint8Array(LOCAL.bytes);
    value.set(madeUpMac(mac));
    new DataView(value.buffer).setUint16(LOCAL.on, 1, true);
    this.object.mapUpdate('local', hostU32(0), value);
    const place = { hook: 'egress', priority: PRIORITY, handle: HANDLE } as const;
    await journal.filter({ ...place, program: EGRESS_PROGRAM }, () =>
      this.object.attachTc(EGRESS_PROGRAM, index, 'egress', PRIORITY, HANDLE),
    );
  }

  /** The programs' counters since they were loaded. */
  counters(): Record<GuardCounter, number> {
    return sumsByName(this.object, GUARD_NAMES);
  }

  /** Closes the descriptors. The programs stay attached. */
  close(): void {
    this.object.close();
  }

  private ringShare(filter: string): RingShare {
    const filterProgramFd = this.object.programFd(filter);
    if (this.workers === 1) return { filterProgramFd, fanout: undefined };
    const programFd = this.object.programFd('guard_fanout');
    const group = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)).fill(-1);
    return { filterProgramFd, fanout: { programFd, group } };
  }
}

/** The value of map `own`. */
function ownValue({ ipv4, ipv6 }: OwnAddresses): Uint8Array {
  const value = new Uint8Array(GUARD_OWN.bytes);
  if (ipv4 !== undefined) value.set(addressBytes(ipv4), GUARD_OWN.address);
  if (ipv6 !== undefined) value.set(addressBytes(ipv6), GUARD_OWN.address6);
  return value;
}

function randomU32(): number {
  return randomBytes(Uint32Array.BYTES_PER_ELEMENT).readUInt32LE();
}
