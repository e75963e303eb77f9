/**
 * Shared by the tests of the XDP program: the program with maps as the balancer fills them, runs of
 * it over one frame (BPF_PROG_TEST_RUN), and what it counted and wrote during a run.
 *
 * Frames of a test run arrive on lo, queue 0. The worker sockets belong to an AF_XDP pool on lo.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { addressNumber, build, macBytes, type PacketSpec } from '../../lab/packet.js';
import {
  HEAD_WAYS,
  JUDGED_HEAD_BYTES,
  movesEntries,
  movesParts,
} from '../../src/datapath/heads-layout.js';
import {
  CONTROL,
  INLINE_SERVER_BYTES,
  INLINE_SERVERS,
  NO_SERVER,
  NODE_BYTES,
  SERVER_RETIRED,
  SHARED_LAYOUT,
  NODE as XDP_NODE,
} from '../../src/datapath/xdp-layout.js';
import { carryBytes, type Via } from '../../src/engine/farm.js';
import type { ForwardSizes } from '../../src/engine/forward/tables.js';
import type { HeadMemory } from '../../src/engine/moving/judged-heads.js';
import { KERNEL_EVENT_WORDS } from '../../src/engine/table/kernel-event.js';
import { indexWordsFor } from '../../src/engine/table/session-index.js';
import {
  SESSION_RECORD,
  SESSION_RECORD_BYTES,
  SessionAction,
  sessionHash,
  sessionWorker,
} from '../../src/engine/table/session-record.js';
import { SessionState, SessionTable } from '../../src/engine/table/session-table.js';
import { hostU32 } from '../../src/host/bpf-object.js';
import { type BpfObject, native, type RecordRing, type XdpPool } from '../../src/host/native.js';
import { addressBytes, counted, join8, portBytes, project } from './shim-fixture.js';
import {
  BALANCER,
  CLIENT,
  CLIENT_ISN,
  clock,
  KEY,
  LO,
  MSS,
  MTU,
  NODE,
  type Outcome,
  PORTS,
  SECRET,
  SEEDS,
  SERVER_ISN,
  syn,
  VIRTUAL,
  WINDOW,
  WINDOW_SHIFT,
} from './xdp-packets.js';

const RING_BYTES = 4096;
/** Ethernet, IPv4 and TCP without options. */
const FRAME_HEADERS = 54;
const MOST_EVENTS = 256;
/** The secret of the digests of heads. */
export const HEAD_KEY = Uint8Array.from({ length: 16 }, (_, index) => index * 13 + 5);

/** struct kernel_event of bpf/lib/session.h, byte by byte. */
export const KERNEL_EVENT = {
  client: 0,
  portServer: 4,
  clientIsn: 8,
  serverIsn: 12,
  tsOffset: 16,
  tsval: 20,
  mss: 24,
  window: 26,
  scales: 28,
  flags: 29,
  mac: 30,
} as const;
export const KERNEL_EVENT_BYTES = 36;

/** Names of XDP_COUNTERS in bpf/lib/counters.h. */
export const XDP_COUNTERS: readonly string[] = (() => {
  const header = readFileSync(join(project, 'bpf', 'lib', 'counters.h'), 'utf8');
  const list = /XDP_COUNTERS\(X\)(.*?)\n\n/s.exec(header)?.[1] ?? '';
  return [...list.matchAll(/X\((\w+),/g)].map(([, name = '']) => name.toLowerCase());
})();

export interface KernelEvent {
  client: number;
  portServer: number;
  clientIsn: number;
  serverIsn: number;
  tsOffset: number;
  tsval: number;
  mss: number;
  window: number;
  scales: number;
  flags: number;
  mac: string;
}

export interface FastOptions {
  workers?: number;
  /** Sessions of each worker. */
  capacity?: number;
  /** False: as with more virtual servers than fit into `control`, the two are in the map only. */
  inlineServers?: boolean;
  /** Sizes of the tables of virtual servers with mode forward. */
  forward?: ForwardSizes;
  /** Sets of heads of each worker. By default the program forwards no heads by itself. */
  headSets?: number;
}

export class Fast {
  readonly object: BpfObject;
  readonly control: DataView;
  readonly workers: number;
  /** The session table of each worker, in the maps. */
  readonly tables: SessionTable[] = [];
  /** All records, of all workers. */
  readonly records: DataView;
  private readonly nodes: DataView;
  private readonly rings: RecordRing[] = [];
  private pool: XdpPool | undefined;
  private ringPort = 1;

  constructor(options: FastOptions = {}) {
    this.workers = options.workers ?? 1;
    const capacity = options.capacity ?? 64;
    const indexWords = indexWordsFor(capacity);
    this.object = native().loadBpf(join(project, 'build', 'bpf', 'xdp.bpf.o'), {
      maxEntries: {
        sessions: this.workers * capacity,
        session_index: (this.workers * indexWords) / 16,
        forward_buckets: options.forward?.buckets ?? 1,
        forward_flows: options.forward?.sets ?? 1,
        heads: this.workers * (options.headSets ?? 1) * HEAD_WAYS,
        moves: options.headSets === undefined ? 1 : movesEntries(capacity, this.workers),
      },
    });
    const { object } = this;
    native().fillRings(object.mapFd('events'), this.workers, RING_BYTES);
    for (let worker = 0; worker < this.workers; worker++) {
      this.rings.push(native().openRecordRing(object.mapFd('events'), worker, KERNEL_EVENT_WORDS));
    }
    this.control = new DataView(object.mapMemory('control'));
    this.nodes = new DataView(object.mapMemory('nodes'));
    const records = object.mapMemory('sessions');
    this.records = new DataView(records);
    const index = object.mapMemory('session_index');
    for (let worker = 0; worker < this.workers; worker++) {
      this.tables.push(
        new SessionTable(capacity, PORTS.length, SEEDS.client, SEEDS.port, {
          records,
          recordsOffset: worker * capacity * SESSION_RECORD_BYTES,
          index,
          indexOffset: worker * indexWords * 4,
          indexWords,
          indexState: this.indexState(worker),
        }),
      );
    }
    object.mapUpdate('virtual_addresses', addressBytes(VIRTUAL), hostU32(1));
    PORTS.forEach((port, server) => {
      const key = join8(addressBytes(VIRTUAL), portBytes(port), Uint8Array.of(0, 0));
      object.mapUpdate('virtual_servers', key, hostU32(server));
    });
    this.configure(capacity, indexWords, options.inlineServers ?? true);
    this.configureHeads(options.headSets ?? 0);
    this.control.setUint32(CONTROL.forwardSets, options.forward?.sets ?? 1, true);
    this.node(NODE.index, { mac: NODE.mac, interface: LO });
  }

  /** xdp_control.index_state of a worker. */
  indexState(worker: number): Uint32Array {
    return new Uint32Array(this.control.buffer, CONTROL.indexState + worker * 4, 1);
  }

  /** What the engine of a worker shares with the program about heads. */
  headMemory(worker = 0): HeadMemory {
    const { object, control } = this;
    const sets = control.getUint32(CONTROL.headSets, true);
    const capacity = control.getUint32(CONTROL.capacity, true);
    return {
      heads: object.mapMemory('heads'),
      headsOffset: worker * sets * HEAD_WAYS * JUDGED_HEAD_BYTES,
      sets,
      moves: object.mapMemory('moves'),
      ...movesParts(capacity, this.workers, worker),
      generation: new Uint32Array(control.buffer, CONTROL.headGeneration, 1),
      key: HEAD_KEY,
    };
  }

  /** Sets a node, with the usual node's address. Interface 0: not resolved. */
  node(
    index: number,
    node: { mac: string; interface: number; redirect?: boolean; via?: Via },
  ): void {
    const at = index * NODE_BYTES;
    const carry = carryBytes(node.via);
    this.nodes.setUint32(at + XDP_NODE.carry, carry, true);
    this.nodes.setUint32(at + XDP_NODE.most, MTU - carry, true);
    new Uint8Array(this.nodes.buffer).set(addressBytes(NODE.address), at + XDP_NODE.address);
    new Uint8Array(this.nodes.buffer).set(addressBytes(BALANCER.address), at + XDP_NODE.balancer);
    new Uint8Array(this.nodes.buffer).set(join8(macBytes(node.mac), macBytes(BALANCER.mac)), at);
    this.nodes.setUint32(at + XDP_NODE.redirect, node.redirect ? 1 : 0, true);
    this.nodes.setUint32(at + XDP_NODE.interface, node.interface, true);
  }

  /** Marks a virtual server with these SERVER_ flags: by default, it takes no new sessions. */
  mark(server: number, flags = SERVER_RETIRED): void {
    const value = server | flags;
    const key = join8(addressBytes(VIRTUAL), portBytes(PORTS[server]!), Uint8Array.of(0, 0));
    this.object.mapUpdate('virtual_servers', key, hostU32(value));
    const at = CONTROL.inlineServers + server * INLINE_SERVER_BYTES;
    this.control.setUint16(at + INLINE_SERVER_BYTES - 2, value, true);
  }

  /**
   * Starts or stops the engine as the program sees it: its sockets, and the time of its last tick.
   */
  engine(runs: boolean): void {
    if (runs && this.pool === undefined) {
      this.pool = native().createXdpPool({
        interfaceIndex: LO,
        queues: 1,
        workers: this.workers,
        framesPerQueue: 64,
        frameBytes: 2048,
        zeroCopy: false,
      });
      this.pool.socketFds[0]?.forEach((fd, worker) => {
        this.object.mapUpdate('xsks', hostU32(worker), hostU32(fd));
      });
    } else if (!runs && this.pool !== undefined) {
      for (let worker = 0; worker < this.workers; worker++)
        this.object.mapDelete('xsks', hostU32(worker));
      this.pool.close();
      this.pool = undefined;
    }
    this.alive(clock());
  }

  /** Runs `action` while this worker has no socket. */
  withoutSocket(worker: number, action: () => void): void {
    const fd = this.pool?.socketFds[0]?.[worker];
    if (fd === undefined) throw new Error('the engine does not run');
    this.object.mapDelete('xsks', hostU32(worker));
    action();
    this.object.mapUpdate('xsks', hostU32(worker), hostU32(fd));
  }

  /** Sets the time of the engine's last tick, in ms. */
  alive(at: number): void {
    this.control.setUint32(CONTROL.aliveAt, at >>> 0, true);
  }

  /** Inserts the usual client's session, which passes to the usual node; returns its slot. */
  session(
    action: number = SessionAction.forward,
    change: (table: SessionTable, slot: number) => void = () => {},
    state: number = SessionState.passing,
  ) {
    const table = this.tables[0]!;
    const slot = table.insert(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0, 1);
    table.setNode(slot, NODE.index);
    table.setClientIsn(slot, CLIENT_ISN);
    table.setServerIsn(slot, SERVER_ISN);
    table.setReceiveNext(slot, (CLIENT_ISN + 1) >>> 0);
    table.setClientAck(slot, SERVER_ISN + 1);
    change(table, slot);
    // A session begins in SYN-RECEIVED, and never returns to it.
    if (state !== SessionState.synReceived) table.setState(slot, state);
    this.setAction(slot, action);
    return slot;
  }

  setAction(slot: number, action: number): void {
    this.records.setUint8(slot * SESSION_RECORD_BYTES + SESSION_RECORD.action, action);
  }

  /** Inserts a session that passes to the usual node; returns its slot at its worker, or -1. */
  insert(client: number, portServer: number): number {
    const table = this.tables[this.workerOf(client, portServer)]!;
    const slot = table.insert(client, portServer, 1);
    if (slot < 0) return slot;
    table.setNode(slot, NODE.index);
    table.setState(slot, SessionState.passing);
    return slot;
  }

  hashOf(client: number, portServer: number): number {
    return sessionHash(client, portServer, SEEDS.client, SEEDS.port);
  }

  workerOf(client: number, portServer: number): number {
    return sessionWorker(this.hashOf(client, portServer), this.workers);
  }

  run(packet: PacketSpec | Uint8Array, repeat = 1): Outcome {
    const frame = packet instanceof Uint8Array ? packet : build(packet, KEY);
    let result = { verdict: 0, frame };
    const counters = counted(this.object, XDP_COUNTERS, () => {
      result = this.object.testRunXdp('baton_xdp', frame, { repeat });
    });
    return {
      verdict: result.verdict,
      frame: result.frame,
      counters: counters.filter((name) => name !== 'forwarded_bytes'),
    };
  }

  /**
   * Fills the first worker's ring buffer with events of SYNs from other ports.
   */
  fillRing(): void {
    while (this.run(syn({ tcp: { sourcePort: this.ringPort++ } })).counters[0] === 'syn_answered');
  }

  /** The events for this worker since the last call, as words. */
  eventWords(worker = 0): Uint32Array {
    const into = new Uint32Array(KERNEL_EVENT_WORDS * MOST_EVENTS);
    return into.subarray(0, this.rings[worker]!.drain(into) * KERNEL_EVENT_WORDS);
  }

  /** The same, by field. */
  events(worker = 0): KernelEvent[] {
    const into = this.eventWords(worker).slice();
    return Array.from({ length: into.length / KERNEL_EVENT_WORDS }, (_, index) => {
      const at = (field: keyof typeof KERNEL_EVENT): number =>
        index * KERNEL_EVENT_BYTES + KERNEL_EVENT[field];
      const view = new DataView(into.buffer);
      return {
        client: view.getUint32(at('client'), true),
        portServer: view.getUint32(at('portServer'), true),
        clientIsn: view.getUint32(at('clientIsn'), true),
        serverIsn: view.getUint32(at('serverIsn'), true),
        tsOffset: view.getUint32(at('tsOffset'), true),
        tsval: view.getUint32(at('tsval'), true),
        mss: view.getUint16(at('mss'), true),
        window: view.getUint16(at('window'), true),
        scales: view.getUint8(at('scales')),
        flags: view.getUint8(at('flags')),
        mac: Buffer.from(into.buffer, at('mac'), 6).toString('hex'),
      };
    });
  }

  close(): void {
    this.engine(false);
    for (const ring of this.rings) ring.close();
    this.object.close();
  }

  private configureHeads(sets: number): void {
    const { control } = this;
    control.setUint32(CONTROL.headSets, sets, true);
    control.setUint32(CONTROL.headGeneration, 1, true);
    new Uint8Array(control.buffer).set(HEAD_KEY, CONTROL.headKey);
  }

  private configure(capacity: number, indexWords: number, inlineServers: boolean): void {
    const { control } = this;
    const word = (at: number, value: number): void => control.setUint32(at, value, true);
    const bytes = new Uint8Array(control.buffer);
    word(CONTROL.workers, this.workers);
    word(CONTROL.capacity, capacity);
    word(CONTROL.indexWords, indexWords);
    word(CONTROL.clientSeed, SEEDS.client);
    word(CONTROL.portSeed, SEEDS.port);
    bytes.set(addressBytes(BALANCER.address), CONTROL.own);
    word(CONTROL.interfaces, 1);
    bytes.set(macBytes(BALANCER.mac), CONTROL.mac);
    control.setUint16(CONTROL.mss, MSS, true);
    control.setUint32(CONTROL.mostFrame, MSS + FRAME_HEADERS, true);
    control.setUint16(CONTROL.window, WINDOW, true);
    control.setUint8(CONTROL.windowShift, WINDOW_SHIFT);
    bytes.set(KEY, CONTROL.key);
    bytes.set(SECRET, CONTROL.secret);
    word(CONTROL.servers, inlineServers ? PORTS.length : INLINE_SERVERS + 1);
    PORTS.forEach((port, server) => {
      const at = CONTROL.inlineServers + server * INLINE_SERVER_BYTES;
      bytes.set(
        join8(
          addressBytes(inlineServers ? VIRTUAL : NODE.address),
          portBytes(port),
          Uint8Array.of(server, 0),
        ),
        at,
      );
    });
    for (let entry = PORTS.length; entry < INLINE_SERVERS; entry++) {
      const at = CONTROL.inlineServers + entry * INLINE_SERVER_BYTES;
      control.setUint16(at + INLINE_SERVER_BYTES - 2, NO_SERVER, true);
    }
    word(CONTROL.layout, SHARED_LAYOUT);
  }
}
