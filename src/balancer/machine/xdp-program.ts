/**
 * The XDP program on the balancer's interface: bpf/xdp/xdp.bpf.c loaded, told what it has to know,
 * attached, with the AF_XDP sockets that it gives frames to.
 *
 *     open       loads, attaches (everything still passes to the stack), opens the sockets
 *     (the engine's thread maps sessions and sockets, and takes over the sessions of an earlier run)
 *     activate   from now on the program works: at one stroke in place of that of the earlier run, if there is one
 *     close      lets go; what is attached stays attached, and forwards without us
 */
import { BatonError, reasonOf } from '../../base/errors.js';
import { XDP_NAMES, type XdpCounter } from '../../base/kernel-counters.js';
import { xdpPoolOptions } from '../../datapath/xdp.js';
import {
  CONTROL,
  eventRingBytes,
  INDEX_LINE_WORDS,
  MAX_WORKERS,
  OUTPUT,
  SHARED_LAYOUT,
} from '../../datapath/xdp-layout.js';
import { indexWordsFor } from '../../engine/table/session-index.js';
import type { Journal } from '../../host/journal/journal.js';
import {
  type BpfObject,
  type InterfaceInfo,
  native,
  type XdpPool,
  type XdpPoolOptions,
} from '../../host/native.js';
import { makePinDirectory, pinName } from '../../host/pins.js';
import { addressKey, hostU32, loadObject, sumsByName } from '../../host/shim.js';
import { XDP_PROGRAM } from '../../host/xdp.js';
import type { EarlierStart, RingShare, Secrets, XdpStart } from '../threads/engine-messages.js';
import { EarlierRun } from './earlier-run.js';
import { serversOf, takeCensus } from './earlier-sessions.js';
import { serverKey } from './guard.js';
import type { MachineInterface } from './interfaces.js';
import { sequenceSecret } from './secret.js';
import { XdpAttachment } from './xdp-attachment.js';
import { writeControl } from './xdp-control.js';
import { noSockets, requireQueues } from './xdp-errors.js';
import { XdpNodes } from './xdp-nodes.js';
import { VETH } from './xdp-probe.js';

/** What is pinned, so that other tools find it. */
const PINNED = [
  'control',
  'sessions',
  'session_index',
  'nodes',
  'virtual_servers',
  'counters',
] as const;

export interface XdpOptions {
  interface: string;
  info: InterfaceInfo;
  /** Where nodes are reached; undefined: by the same interface. */
  nodeInterface?: MachineInterface | undefined;
  /** Our own address, dotted quad as all addresses here. */
  own: string;
  /** 16 bytes. */
  key: Uint8Array;
  virtualServers: readonly { address: string; port: number }[];
  /** Addresses of the nodes, by index. */
  nodes: readonly string[];
  workers: number;
  /** Of each worker: sessions at one time, and those of them whose handshake is not complete. */
  limits: { sessions: number; halfOpen: number };
  seeds: Secrets['seeds'];
  /** What SYN/ACKs offer. */
  offer: { mss: number; window: number; windowShift: number };
  warn: (message: string) => void;
}

export class XdpProgram {
  private readonly options: XdpOptions;
  private readonly journal: Journal;
  private readonly object: BpfObject;
  private readonly earlier: EarlierRun | undefined;
  private readonly driver: string;
  private readonly attachment: XdpAttachment;
  private readonly capacity: number;
  /**
   * Addresses by index: those of the config, and behind them those that only sessions of an earlier
   * run have.
   */
  private readonly nodes: readonly string[];
  private readonly nodeMap: XdpNodes;
  /** Index, here, of each virtual server of the earlier run, or -1. */
  private readonly earlierServers: Int32Array;
  private readonly indexWords: number;
  private readonly secret: Uint8Array;
  private readonly control: ArrayBuffer;
  private pool: XdpPool | undefined;
  /** Keys of map `xsks` by which the engine gets frames. */
  private readonly sockets: Uint8Array[] = [];

  private constructor(options: XdpOptions, journal: Journal, earlier: EarlierRun | undefined) {
    this.options = options;
    this.journal = journal;
    this.earlier = earlier;
    this.earlierServers = serversOf(options.virtualServers, earlier);
    const census = takeCensus(options, earlier, this.earlierServers);
    this.nodes = [...options.nodes, ...census.departed];
    // A limit that is lower now ends no session: until enough of them have ended no new ones fit
    // in.
    this.capacity = Math.max(options.limits.sessions, census.mostOfWorker);
    this.indexWords = indexWordsFor(this.capacity);
    this.driver = native().interfaceDriver(options.interface);
    // Another key may have come with the new config: what was begun under the old one goes on.
    this.secret = earlier?.sessions?.secret ?? sequenceSecret(options.key);
    this.object = loadObject('xdp', {
      sessions: this.capacity * options.workers,
      session_index: (this.indexWords * options.workers) / INDEX_LINE_WORDS,
    });
    const attached = { ...options, driver: this.driver, earlierMode: earlier?.mode };
    this.attachment = new XdpAttachment(attached, this.object, journal);
    try {
      this.control = this.object.mapMemory('control');
      this.nodeMap = new XdpNodes(
        this.object.mapMemory('nodes'),
        this.nodes,
        options.nodeInterface?.info ?? options.info,
      );
      const ringBytes = eventRingBytes(options.limits.halfOpen);
      native().fillRings(this.object.mapFd('events'), options.workers, ringBytes);
      this.configure();
    } catch (error) {
      this.object.close();
      throw error;
    }
  }

  /**
   * Puts the program on the interface and opens the sockets. Nothing is changed for any packet yet.
   * @throws BatonError for whatever keeps XDP from working there; nothing is left attached then but
   *   what an earlier run left
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

  /** In words, why the program does not run in a better mode; '' when it is the best there is. */
  get why(): string {
    return this.attachment.why;
  }

  /** For people: where the program runs, and whether sockets share memory with the driver. */
  get how(): string {
    const { mode } = this.attachment;
    return this.pool?.zeroCopy === true ? `${mode}, zero copy` : mode;
  }

  /**
   * What each of the engine's threads is started with.
   * @param share for what comes in behind the program
   */
  engineStart(share: RingShare): XdpStart {
    const { object, pool } = this;
    if (pool === undefined) throw new BatonError('BATON_SYSTEM', 'the XDP sockets are closed');
    return {
      kind: 'xdp',
      pool: pool.id,
      share,
      // A driver in native XDP has frames of the wire alone; the stack has what GRO or the sender
      // made of them.
      uncut: this.attachment.mode === 'generic',
      capacity: this.capacity,
      indexWords: this.indexWords,
      fds: {
        control: object.mapFd('control'),
        sessions: object.mapFd('sessions'),
        index: object.mapFd('session_index'),
        events: object.mapFd('events'),
      },
      seeds: this.options.seeds,
      secret: this.secret,
      earlier: this.earlierStart(),
    };
  }

  /**
   * Addresses of nodes that are not in the config, and that sessions of an earlier run still have.
   */
  departedNodes(): readonly string[] {
    return this.nodes.slice(this.options.nodes.length);
  }

  /** Nodes whose MAC addresses an earlier run knew: until they are looked for, they hold. */
  earlierNeighbours(): { node: number; mac: Uint8Array }[] {
    const known = new Map(this.earlier?.sessions?.nodes.map((node) => [node.address, node.mac]));
    return this.nodes.flatMap((address, node) => {
      const mac = known.get(address);
      return mac === undefined ? [] : [{ node, mac }];
    });
  }

  /** A node's MAC address (six bytes), or undefined when it is not known any more. */
  setNeighbour(node: number, mac: Uint8Array | undefined): void {
    this.nodeMap.setMac(node, mac);
  }

  /** What SYN/ACKs of the earlier run do not offer, IxpFlag bits; undefined: there is none. */
  earlierWithheld(): number | undefined {
    return this.earlier?.withheld();
  }

  /** SYN/ACKs do not offer these options from now on: IxpFlag bits. */
  withhold(options: number): void {
    new Uint8Array(this.control)[CONTROL.withheld] = options;
  }

  /** The program begins to work, and goes on where that of an earlier run was. */
  async activate(): Promise<void> {
    this.chooseTransmitPath();
    Atomics.store(new Uint32Array(this.control), CONTROL.layout / 4, SHARED_LAYOUT);
    if (this.earlier !== undefined) {
      // Cookies that it has sent meanwhile must be believed, too.
      const cookieAt = this.earlier.cookieAt();
      if (cookieAt !== 0) new Uint32Array(this.control)[CONTROL.cookieAt / 4] = cookieAt;
      await this.attachment.attach();
      this.earlier.close();
    }
    try {
      await this.journal.pins(pinName(this.options.interface), () => this.pin());
    } catch (error) {
      // Other tools do not find the maps by name then; that is all.
      this.options.warn(reasonOf(error));
    }
  }

  /**
   * Says how frames go back where they came from. A veth sends what XDP_TX gives it at once only
   * while its other end runs a program, too; by redirection it is enough that the other end polls,
   * but a packet costs more. To be called now and then: that program is somebody else's.
   */
  chooseTransmitPath(): void {
    const stack = this.attachment.mode === 'generic';
    const redirects = this.driver === VETH && !stack && !this.peerRunsXdp();
    new Uint8Array(this.control)[CONTROL.output] =
      (redirects ? OUTPUT.redirect : 0) + (stack ? OUTPUT.generic : 0);
    this.nodeMap.setRedirects(redirects);
  }

  /** What the program has counted since it was loaded. */
  counters(): Record<XdpCounter, number> {
    return sumsByName(this.object, XDP_NAMES);
  }

  /** Its run time, while the sysctl kernel.bpf_stats_enabled is on. */
  runTime(): { runNanoseconds: number; runCount: number } {
    const { runNanoseconds, runCount } = this.object.programInfo(XDP_PROGRAM);
    return { runNanoseconds, runCount };
  }

  /**
   * From now on the engine gets nothing more: the program does without it, and notes what it would
   * have told.
   */
  withdrawSockets(): void {
    for (const key of this.sockets.splice(0)) this.object.mapDelete('xsks', key);
  }

  closeSockets(): void {
    this.pool?.close();
    this.pool = undefined;
  }

  /** What is attached stays attached. */
  close(): void {
    this.closeSockets();
    this.earlier?.close();
    this.object.close();
  }

  private configure(): void {
    const { options, object } = this;
    const { info, virtualServers } = options;
    writeControl(this.control, {
      ...options,
      mac: info.mac,
      capacity: this.capacity,
      indexWords: this.indexWords,
      secret: this.secret,
      // Cookies that an earlier run sent must still be believed.
      cookieAt: this.earlier?.cookieAt() ?? 0,
    });
    for (const [index, server] of virtualServers.entries()) {
      object.mapUpdate('virtual_servers', serverKey(server), hostU32(index));
      object.mapUpdate('virtual_addresses', addressKey(server.address), hostU32(1));
    }
    for (const { index } of [info, options.nodeInterface?.info ?? info]) {
      object.mapUpdate('ports', hostU32(index), hostU32(index));
    }
    for (const { node, mac } of this.earlierNeighbours()) this.setNeighbour(node, mac);
  }

  private peerRunsXdp(): boolean {
    try {
      return native().peerRunsXdp(this.options.info.index);
    } catch {
      return false; // in a namespace that we may not look into
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
    return {
      fd: sessions.fd,
      count: sessions.count,
      servers: this.earlierServers,
      nodes: Int32Array.from(sessions.nodes, (node) => this.nodes.indexOf(node.address)),
    };
  }
}
