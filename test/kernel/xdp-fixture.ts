/**
 * Shared by the tests of the XDP program: the program with maps as the balancer fills them, runs of
 * it over one frame (BPF_PROG_TEST_RUN), and what it counted and wrote during a run.
 *
 * Frames of a test run arrive on lo, queue 0. The worker sockets belong to an AF_XDP pool on lo.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { addressNumber, build, macBytes, type PacketSpec, type TcpSpec } from '../../lab/packet.js';
import {
  CONTROL,
  INLINE_SERVER_BYTES,
  INLINE_SERVERS,
  NODE_BYTES,
  SHARED_LAYOUT,
  NODE as XDP_NODE,
} from '../../src/datapath/xdp-layout.js';
import { HeadStore } from '../../src/engine/head-store.js';
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

export const Verdict = { aborted: 0, drop: 1, pass: 2, tx: 3, redirect: 4 } as const;

export const KEY = Uint8Array.from({ length: 16 }, (_, index) => index * 11 + 1);
export const SECRET = Uint8Array.from({ length: 32 }, (_, index) => index * 5 + 3);
export const CLIENT = { address: '10.78.0.1', port: 40_000, mac: '02:00:00:00:00:01' } as const;
export const BALANCER = { address: '10.78.0.2', mac: '02:00:00:00:00:bb' } as const;
export const NODE = { address: '10.78.0.3', mac: '02:00:00:00:00:03', index: 1 } as const;
/** The second virtual server is at another port of the same address. */
export const VIRTUAL = '10.78.0.100';
export const PORTS = [80, 8443] as const;
/** Initial sequence numbers of the usual client's connection. */
export const CLIENT_ISN = 0xffff_ff00;
export const SERVER_ISN = 0x7fff_fffe;
export const MTU = 1500;
export const MSS = MTU - 76;
/** Largest request head. SYN/ACKs offer a window of HeadStore.largeBytes. */
export const HEAD_BYTES = 8192;
export const WINDOW = new HeadStore(1, HEAD_BYTES).largeBytes;
export const WINDOW_SHIFT = 7;
export const SEEDS = { client: 0x1357_9bdf, port: 0x2468_ace0, nonce: 500 } as const;
export const SYN_ALIVE_MS = 60_000;
/** Index of lo, on which frames of test runs arrive. */
export const LO = 1;
/** struct redirect_request of bpf/lib/config.h. */
export const REDIRECT_REQUEST_BYTES = 8;
export const REDIRECT_MAGIC = 0x42544f57;
const RING_BYTES = 4096;
const MOST_EVENTS = 256;

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

export interface Outcome {
  verdict: number;
  frame: Uint8Array;
  /**
   * Names of the counters that rose, each as many times as it rose; without the counter of bytes.
   */
  counters: string[];
}

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

/** ms of CLOCK_MONOTONIC, as the program and the engine count them. */
export function clock(): number {
  return Number((process.hrtime.bigint() / 1_000_000n) & 0xffff_ffffn);
}

/** A segment of the usual client, with the changes in `rest`. */
export function segment(
  tcp: TcpSpec,
  payload?: Uint8Array | string,
  rest: PacketSpec = {},
): PacketSpec {
  return {
    ...rest,
    ethernet: { source: CLIENT.mac, destination: BALANCER.mac, ...rest.ethernet },
    ip: { source: CLIENT.address, destination: VIRTUAL, ...rest.ip },
    tcp: { sourcePort: CLIENT.port, destinationPort: PORTS[0], ...tcp },
    ...(payload === undefined ? {} : { payload }),
  };
}

/** A SYN of the usual client. */
export function syn(change: PacketSpec = {}): PacketSpec {
  return segment(
    { flags: 'S', seq: 0xffff_ffff, window: 64_240, ...change.tcp },
    change.payload,
    change,
  );
}

/**
 * A notice of the usual node about the usual client's session, by default ADOPTED.
 */
export function notice(change: PacketSpec = {}): PacketSpec {
  return {
    ...change,
    ethernet: { source: NODE.mac, destination: BALANCER.mac, ...change.ethernet },
    ip: { source: NODE.address, destination: BALANCER.address, ...change.ip },
    ixcp: {
      type: 1,
      client: CLIENT.address,
      clientPort: CLIENT.port,
      virtualAddress: VIRTUAL,
      virtualPort: PORTS[0],
      ...change.ixcp,
    },
  };
}

/**
 * Folded sum of the TCP pseudo-header: the checksum field of an unfinished frame.
 */
export function pseudoSum(frame: Uint8Array): number {
  const view = new DataView(frame.buffer, frame.byteOffset);
  let sum = 6 + view.getUint16(16) - 20;
  for (let at = 26; at < 34; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** The frame of a sender that leaves the checksum to hardware. */
export function unfinished(spec: PacketSpec): Uint8Array {
  const frame = build(spec);
  new DataView(frame.buffer).setUint16(50, pseudoSum(frame));
  return frame;
}

/**
 * Asserts that a frame goes to the usual node through the stack: with a struct redirect_request
 * before it, and new MAC addresses.
 */
export function byStack(
  test: Test,
  outcome: Outcome,
  frame: Uint8Array,
  counters: readonly string[],
  by = LO,
): void {
  const { verdict } = outcome;
  const request = new DataView(outcome.frame.buffer, outcome.frame.byteOffset);
  test.strictSame(
    { verdict, magic: request.getUint32(0, true), by: request.getUint32(4, true) },
    { verdict: Verdict.pass, magic: REDIRECT_MAGIC, by },
  );
  test.strictSame([...outcome.frame.subarray(REDIRECT_REQUEST_BYTES)], [...onward(frame)]);
  test.strictSame(outcome.counters.toSorted(), [...counters, 'forwarded_by_stack'].toSorted());
}

/** The frame with a VLAN tag. */
export function tagged(frame: Uint8Array, tci: number, type = 0x8100): Uint8Array {
  const tag = Uint8Array.of(type >>> 8, type & 255, tci >>> 8, tci & 255);
  return join8(frame.subarray(0, 12), tag, frame.subarray(12));
}

/** The frame with the MAC addresses that it has on its way to the node. */
export function onward(frame: Uint8Array): Uint8Array {
  const copy = frame.slice();
  copy.set(macBytes(NODE.mac), 0);
  copy.set(macBytes(BALANCER.mac), 6);
  return copy;
}

export interface FastOptions {
  workers?: number;
  /** Sessions of each worker. */
  capacity?: number;
  /** False: as with more virtual servers than fit into `control`, the two are in the map only. */
  inlineServers?: boolean;
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
    this.node(NODE.index, { mac: NODE.mac, interface: LO });
  }

  /** xdp_control.index_state of a worker. */
  indexState(worker: number): Uint32Array {
    return new Uint32Array(this.control.buffer, CONTROL.indexState + worker * 4, 1);
  }

  /** Sets a node, with the usual node's address. Interface 0: not resolved. */
  node(index: number, node: { mac: string; interface: number; redirect?: boolean }): void {
    const at = index * NODE_BYTES;
    new Uint8Array(this.nodes.buffer).set(addressBytes(NODE.address), at + XDP_NODE.address);
    new Uint8Array(this.nodes.buffer).set(join8(macBytes(node.mac), macBytes(BALANCER.mac)), at);
    this.nodes.setUint32(at + XDP_NODE.redirect, node.redirect ? 1 : 0, true);
    this.nodes.setUint32(at + XDP_NODE.interface, node.interface, true);
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
  ) {
    const table = this.tables[0]!;
    const slot = table.insert(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0, 1);
    table.setNode(slot, NODE.index);
    table.setClientIsn(slot, CLIENT_ISN);
    table.setServerIsn(slot, SERVER_ISN);
    table.setReceiveNext(slot, (CLIENT_ISN + 1) >>> 0);
    table.setClientAck(slot, SERVER_ISN + 1);
    change(table, slot);
    table.setState(slot, SessionState.passing);
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
    word(CONTROL.layout, SHARED_LAYOUT);
  }
}
