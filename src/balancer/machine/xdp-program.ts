/**
 * The XDP program on the balancer's interface: loads bpf/xdp/xdp.bpf.c, configures and attaches it,
 * and opens the AF_XDP sockets to which it gives frames.
 *
 *     open       loads, attaches (everything still passes to the stack), opens the sockets
 *     (engine threads map sessions and sockets, and take over the sessions of an earlier run)
 *     activate   the program begins to work; it replaces that of an earlier run atomically
 *     close      closes the descriptors; the program stays attached, and forwards without us
 */
import { randomBytes } from 'node:crypto';
import { BatonError, reasonOf } from '../../base/errors.js';
import { XDP_NAMES, type XdpCounter } from '../../base/kernel-counters.js';
import { HEAD_WAYS, headSetsFor, movesEntries } from '../../datapath/heads-layout.js';
import { xdpPoolOptions } from '../../datapath/xdp.js';
import {
  CONTROL,
  eventRingBytes,
  INDEX_LINE_WORDS,
  MAX_WORKERS,
  MAX_XDP_NODES,
  MOST_VIRTUAL_SERVERS,
  OUTPUT,
  SHARED_LAYOUT,
} from '../../datapath/xdp-layout.js';
import { mostCarryBytes } from '../../engine/farm.js';
import type { ForwardMemory, ForwardSizes } from '../../engine/forward/tables.js';
import { voidHeads } from '../../engine/moving/judged-heads.js';
import { offeredMss } from '../../engine/syn-ack-options.js';
import { indexWordsFor } from '../../engine/table/session-index.js';
import { hostU32, loadObject, sumsByName } from '../../host/bpf-object.js';
import type { Journal } from '../../host/journal/journal.js';
import {
  type BpfObject,
  type InterfaceInfo,
  native,
  type XdpPool,
  type XdpPoolOptions,
} from '../../host/native.js';
import { makePinDirectory, pinName } from '../../host/pins.js';
import { XDP_PROGRAM } from '../../host/xdp.js';
import { isAddress6, type OwnAddresses } from '../../wire/address.js';
import { Aliases } from '../../wire/alias.js';
import type { EarlierServer } from '../forward/earlier.js';
import type { KernelForwarding } from '../forward/forwarder.js';
import type { FarmSlots, NodeSlot, ServerSlot } from '../objects/farm.js';
import type { EarlierStart, RingShare, Secrets, XdpStart } from '../threads/engine-messages.js';
import { EarlierRun } from './earlier-run.js';
import { serversOf, takeCensus } from './earlier-sessions.js';
import type { MachineInterface } from './interfaces.js';
import type { MachineConfig } from './options.js';
import { sequenceSecret } from './secret.js';
import { XdpAttachment } from './xdp-attachment.js';
import { writeControl } from './xdp-control.js';
import { noSockets, requireQueues } from './xdp-errors.js';
import { XdpNodes } from './xdp-nodes.js';
import { VETH } from './xdp-probe.js';
import { XdpServers } from './xdp-servers.js';

/** Of a key that this run alone uses. */
const HEAD_KEY_BYTES = 16;

/** Maps that are pinned, so that other tools find them. */
const PINNED = [
  'control',
  'sessions',
  'session_index',
  'session_addresses',
  'nodes',
  'virtual_servers',
  'counters',
  'forward_servers',
  'forward_buckets',
  'forward_flows',
] as const;

export interface XdpOptions extends Pick<MachineConfig, 'interface' | 'workers'> {
  /** The nodes and virtual servers of the config. */
  farm: FarmSlots;
  info: InterfaceInfo;
  /** The interface by which nodes are reached; undefined: the same interface. */
  nodeInterface?: MachineInterface | undefined;
  /** Our own addresses. */
  own: OwnAddresses;
  /** 16 bytes. */
  key: Uint8Array;
  /** Of each worker: most sessions at one time, and most of them with an incomplete handshake. */
  limits: { sessions: number; halfOpen: number };
  /** Sizes of the tables of virtual servers with mode forward. */
  forward: ForwardSizes;
  seeds: Secrets['seeds'];
  /** MTU in bytes, the smaller one of the two interfaces. */
  mtu: number;
  /** The window that SYN/ACKs offer. */
  offer: { window: number; windowShift: number };
  warn: (message: string) => void;
}

export class XdpProgram implements KernelForwarding {
  private readonly options: XdpOptions;
  private readonly journal: Journal;
  private readonly object: BpfObject;
  private readonly earlier: EarlierRun | undefined;
  private readonly driver: string;
  private readonly attachment: XdpAttachment;
  private readonly capacity: number;
  /**
   * There is memory for the addresses of IPv6 clients, because a virtual server had an IPv6 address
   * at the start.
   */
  readonly servesIpv6: boolean;
  /** Nodes that are not in the config and still have sessions of an earlier run, retired. */
  readonly departed: readonly NodeSlot[];
  /** The tables of virtual servers with mode forward. */
  readonly memory: ForwardMemory;
  private readonly nodeMap: XdpNodes;
  private readonly servers: XdpServers;
  /** Our slot of each virtual server of the earlier run, or -1. */
  private readonly earlierServers: Int32Array;
  private readonly indexWords: number;
  /** Sets of heads of each worker; 0: the program forwards no heads by itself. */
  private readonly headSets: number;
  private readonly secret: Uint8Array;
  private readonly control: ArrayBuffer;
  private takesEarlier: (() => void) | undefined;
  private pool: XdpPool | undefined;
  /** Keys of the sockets in map `xsks`. */
  private readonly sockets: Uint8Array[] = [];

  private constructor(options: XdpOptions, journal: Journal, earlier: EarlierRun | undefined) {
    this.options = options;
    this.journal = journal;
    this.earlier = earlier;
    this.earlierServers = serversOf(options.farm.servers, earlier);
    const census = takeCensus(options, earlier, this.earlierServers);
    this.departed = census.departed;
    // A lower limit than before ends no session. New ones find room when enough old ones have
    // ended.
    this.capacity = Math.max(options.limits.sessions, census.mostOfWorker);
    this.indexWords = indexWordsFor(this.capacity);
    this.headSets = headSetsFor(options.farm.servers);
    this.servesIpv6 = options.farm.servers.some(({ address }) => isAddress6(address));
    this.driver = native().interfaceDriver(options.interface);
    // The new config may have another key. Handshakes that began under the old one can complete.
    this.secret = earlier?.sessions?.secret ?? sequenceSecret(options.key);
    this.object = loadObject('xdp', {
      sessions: this.capacity * options.workers,
      session_index: (this.indexWords * options.workers) / INDEX_LINE_WORDS,
      session_addresses: this.servesIpv6 ? this.capacity * options.workers : 1,
      forward_buckets: options.forward.buckets,
      forward_flows: options.forward.sets,
      heads: Math.max(1, this.headSets * HEAD_WAYS * options.workers),
      moves: this.headSets === 0 ? 1 : movesEntries(this.capacity, options.workers),
    });
    const attached = { ...options, driver: this.driver, earlierMode: earlier?.mode };
    this.attachment = new XdpAttachment(attached, this.object, journal);
    const aliases = new Aliases(options.key);
    try {
      this.control = this.object.mapMemory('control');
      this.nodeMap = new XdpNodes(
        this.object.mapMemory('nodes'),
        options.nodeInterface?.info ?? options.info,
        options.info,
        options.mtu,
        options.own,
        aliases,
      );
      this.servers = new XdpServers(this.object, this.control, aliases);
      this.memory = {
        servers: this.object.mapMemory('forward_servers'),
        buckets: this.object.mapMemory('forward_buckets'),
        flows: this.object.mapMemory('forward_flows'),
        nodes: this.object.mapMemory('forward_nodes'),
      };
      const ringBytes = eventRingBytes(options.limits.halfOpen);
      native().fillRings(this.object.mapFd('events'), options.workers, ringBytes);
      this.configure();
    } catch (error) {
      this.object.close();
      throw error;
    }
  }

  /**
   * Attaches the program to the interface and opens the sockets. No packet is affected yet.
   * @throws BatonError for anything that keeps XDP from working there. Nothing stays attached then,
   *   except the program of an earlier run.
   */
  static async open(options: XdpOptions, journal: Journal): Promise<XdpProgram> {
    const { index, mtu } = options.info;
    const pool = xdpPoolOptions(native(), { name: options.interface, index, mtu }, options.workers);
    requireQueues(options.interface, pool.queues);
    const earlier = EarlierRun.find(options.interface, options.info.index, options.warn);
    let program: XdpProgram | undefined;
    try {
      program = new XdpProgram(options, journal, earlier);
      if (earlier === undefined) await program.attachment.attachFirst();
      else await program.attachment.checkNodeInterface();
      program.openSockets(pool);
      return program;
    } catch (error) {
      program?.close();
      earlier?.close();
      if (earlier === undefined) await journal.withdraw({ kind: 'xdp', mode: 'native' });
      throw error;
    }
  }

  /** In words, why the program does not run in a better mode; '' if the mode is the best one. */
  get why(): string {
    return this.attachment.why;
  }

  /** The mode of the program, and whether sockets share memory with the driver, as text. */
  get how(): string {
    const { mode } = this.attachment;
    return this.pool?.zeroCopy === true ? `${mode}, zero copy` : mode;
  }

  /**
   * Start data of the engine threads.
   * @param share of the frames that reach the network stack behind the program
   */
  engineStart(share: RingShare): XdpStart {
    const { object, pool } = this;
    if (pool === undefined) throw new BatonError('BATON_SYSTEM', 'the XDP sockets are closed');
    return {
      kind: 'xdp',
      pool: pool.id,
      share,
      // In native XDP the driver has only frames of the wire. The stack has GSO segments too, made
      // by GRO or by the sender.
      uncut: this.attachment.mode === 'generic',
      capacity: this.capacity,
      indexWords: this.indexWords,
      fds: {
        control: object.mapFd('control'),
        sessions: object.mapFd('sessions'),
        index: object.mapFd('session_index'),
        addresses: this.servesIpv6 ? object.mapFd('session_addresses') : undefined,
        events: object.mapFd('events'),
        heads: object.mapFd('heads'),
        moves: object.mapFd('moves'),
      },
      headSets: this.headSets,
      seeds: this.options.seeds,
      secret: this.secret,
      earlier: this.earlierStart(),
    };
  }

  /** The nodes that the program can forward to when it starts. */
  private get firstNodes(): readonly NodeSlot[] {
    return [...this.options.farm.nodes, ...this.departed];
  }

  /**
   * MAC addresses of nodes from an earlier run, by slot. They are valid until the nodes are
   * resolved.
   */
  earlierNeighbours(): { node: number; mac: Uint8Array }[] {
    const known = new Map(this.earlier?.sessions?.nodes.map((node) => [node.address, node.mac]));
    return this.firstNodes.flatMap(({ slot, address }) => {
      const mac = known.get(address);
      return mac === undefined ? [] : [{ node: slot, mac }];
    });
  }

  /** Makes the program know these virtual servers and no others. Throws as ServerMaps.set does. */
  setServers(servers: readonly ServerSlot[]): void {
    this.servers.set(servers);
  }

  /** Makes the program know these nodes and no others. Those in new slots have no MAC address. */
  setNodes(nodes: readonly NodeSlot[]): void {
    this.nodeMap.set(nodes);
    const mss = offeredMss(this.options.mtu - mostCarryBytes(nodes));
    new DataView(this.control).setUint16(CONTROL.mss, mss, true);
  }

  /** Sets the MAC address (six bytes) of a node's slot; undefined: it is not known any more. */
  setNeighbour(node: number, mac: Uint8Array | undefined): void {
    this.nodeMap.setMac(node, mac);
  }

  /**
   * Options that SYN/ACKs of an earlier run do not offer, IxpFlag bits; undefined: there is none.
   */
  earlierWithheld(): number | undefined {
    return this.earlier?.withheld();
  }

  /** Sets the options that SYN/ACKs do not offer, as IxpFlag bits. */
  withhold(options: number): void {
    new Uint8Array(this.control)[CONTROL.withheld] = options;
  }

  /** A change of the nodes: what the engines have told the program about heads is void. */
  voidHeads(): void {
    voidHeads(new Uint32Array(this.control, CONTROL.headGeneration, 1));
  }

  /** Starts the program, in place of that of an earlier run. */
  async activate(): Promise<void> {
    this.chooseTransmitPath();
    Atomics.store(new Uint32Array(this.control), CONTROL.layout / 4, SHARED_LAYOUT);
    if (this.earlier !== undefined) {
      // Cookies that it has sent since the start of this run must be accepted too.
      const cookieAt = this.earlier.cookieAt();
      if (cookieAt !== 0) new Uint32Array(this.control)[CONTROL.cookieAt / 4] = cookieAt;
      await this.attachment.attach();
      this.takesEarlier?.();
      this.earlier.close();
    }
    try {
      await this.journal.pins(pinName(this.options.interface), () => this.pin());
    } catch (error) {
      // Only other tools need the pins.
      this.options.warn(reasonOf(error));
    }
  }

  /**
   * Chooses how frames leave by the interface on which they arrived: XDP_TX or redirection. XDP_TX
   * of a veth works only while its peer runs an XDP program too. Redirection only needs a peer that
   * polls, but costs more for each packet. To be called regularly, because others may change the
   * peer's program.
   */
  chooseTransmitPath(): void {
    const stack = this.attachment.mode === 'generic';
    const redirects = this.driver === VETH && !stack && !this.peerRunsXdp();
    new Uint8Array(this.control)[CONTROL.output] =
      (redirects ? OUTPUT.redirect : 0) + (stack ? OUTPUT.generic : 0);
    this.nodeMap.setRedirects(redirects);
  }

  /** The program's counters since it was loaded. */
  counters(): Record<XdpCounter, number> {
    return sumsByName(this.object, XDP_NAMES);
  }

  /** See KernelForwarding. */
  counts(): Float64Array {
    return this.object.mapSums('forward_counts', MOST_VIRTUAL_SERVERS + MAX_XDP_NODES);
  }

  /** See KernelForwarding. */
  takeEarlier(take: (earlier: readonly EarlierServer[]) => void): void {
    const { earlier } = this;
    if (earlier === undefined) return;
    this.takesEarlier = () => take(earlier.forwarding());
    this.takesEarlier();
  }

  /** The program's run time, as far as the sysctl kernel.bpf_stats_enabled was on. */
  runTime(): { runNanoseconds: number; runCount: number } {
    const { runNanoseconds, runCount } = this.object.programInfo(XDP_PROGRAM);
    return { runNanoseconds, runCount };
  }

  /**
   * From now on the engine gets no frames. The program works without it, and writes into the
   * records what it would have reported.
   */
  withdrawSockets(): void {
    for (const key of this.sockets.splice(0)) this.object.mapDelete('xsks', key);
  }

  closeSockets(): void {
    this.pool?.close();
    this.pool = undefined;
  }

  /** Closes the descriptors. The program stays attached. */
  close(): void {
    this.closeSockets();
    this.earlier?.close();
    this.object.close();
  }

  private configure(): void {
    const { options, object } = this;
    const { info } = options;
    writeControl(this.control, {
      ...options,
      mac: info.mac,
      capacity: this.capacity,
      indexWords: this.indexWords,
      forwardSets: options.forward.sets,
      headSets: this.headSets,
      headKey: randomBytes(HEAD_KEY_BYTES),
      secret: this.secret,
      // Cookies that an earlier run sent must still be accepted.
      cookieAt: this.earlier?.cookieAt() ?? 0,
    });
    this.setServers(options.farm.servers);
    this.setNodes(this.firstNodes);
    for (const { index } of [info, options.nodeInterface?.info ?? info]) {
      object.mapUpdate('ports', hostU32(index), hostU32(index));
    }
    for (const { node, mac } of this.earlierNeighbours()) this.setNeighbour(node, mac);
  }

  private peerRunsXdp(): boolean {
    try {
      return native().peerRunsXdp(this.options.info.index);
    } catch {
      return false; // The peer is in a namespace that we must not enter.
    }
  }

  private openSockets(options: XdpPoolOptions): void {
    try {
      this.pool = native().createXdpPool({
        ...options,
        zeroCopy: this.attachment.mode === 'native',
      });
    } catch (error) {
      throw noSockets(this.options.interface, error);
    }
    for (const [queue, workers] of this.pool.socketFds.entries()) {
      for (const [worker, fd] of workers.entries()) {
        const key = hostU32(queue * MAX_WORKERS + worker);
        this.object.mapUpdate('xsks', key, hostU32(fd));
        this.sockets.push(key);
      }
    }
  }

  private async pin(): Promise<void> {
    const directory = await makePinDirectory(pinName(this.options.interface));
    for (const map of PINNED) this.object.pinMap(map, `${directory}/${map}`);
    this.object.pinProgram(XDP_PROGRAM, `${directory}/${XDP_PROGRAM}`);
  }

  private earlierStart(): EarlierStart | undefined {
    const sessions = this.earlier?.sessions;
    if (sessions === undefined) return undefined;
    const ours = new Map(this.firstNodes.map((node) => [node.address, node.slot]));
    return {
      fd: sessions.fd,
      addressesFd: sessions.addressesFd,
      count: sessions.count,
      servers: this.earlierServers,
      nodes: Int32Array.from(sessions.nodes, (node) => ours.get(node.address) ?? -1),
    };
  }
}
