/**
 * What an engine thread gets its frames by, and where it keeps its sessions: an AF_PACKET ring and
 * memory of its own; or AF_XDP and maps, by which the kernel takes part. A composition root, of
 * engine-thread.ts.
 */
import { monotonicClock } from '../../base/clock.js';
import type { StageClock } from '../../base/stages.js';
import type { FrameTap } from '../../datapath/frame-tap.js';
import type { Inlet } from '../../datapath/inlets/inlet.js';
import { NodePort } from '../../datapath/inlets/node-port.js';
import { StackInlet } from '../../datapath/inlets/stack-inlet.js';
import { openPacketDatapath, type PacketDatapath, transmitSlots } from '../../datapath/packet.js';
import { openXdpDatapath, type XdpDatapath } from '../../datapath/xdp.js';
import { CONTROL, eventRingBytes, eventRingRecords } from '../../datapath/xdp-layout.js';
import type { Engine } from '../../engine/engine.js';
import type { EngineOptions } from '../../engine/options.js';
import { KERNEL_EVENT_WORDS } from '../../engine/table/kernel-event.js';
import { RecordReader, SESSION_RECORD_BYTES } from '../../engine/table/session-record.js';
import { type MapHandle, native, type PacketRingOptions } from '../../host/native.js';
import { ETHERNET_HEADER_BYTES } from '../../wire/ethernet.js';
import { IPV4_HEADER_BYTES } from '../../wire/ipv4.js';
import { TCP_HEADER_BYTES } from '../../wire/tcp.js';
import type {
  EarlierStart,
  EngineStart,
  NodeInterfaceStart,
  PacketStart,
  RingShare,
  XdpStart,
} from './engine-messages.js';

const WORD_BYTES = Uint32Array.BYTES_PER_ELEMENT;
/** Polls at the end, at most: more frames than sockets hold. */
const LAST_POLLS = 256;
/** Records taken from the kernel in one call. */
const RECORDS = 256;

export interface EngineDatapath {
  readonly datapath: PacketDatapath | XdpDatapath;
  /** What the datapath decides for the engine. */
  readonly options: Pick<EngineOptions, 'memory' | 'limits'>;
  /**
   * Whether frames are taken before `activated`, or wait in the ring until then. With AF_PACKET
   * clients of an earlier run send as soon as the ring is open, when no node's MAC address has been
   * told yet: they would get 503.
   */
  readonly takesAtOnce: boolean;
  /** The engine's clock, ms. */
  now(): number;
  /** Calls `onReadable` from the event loop whenever frames are ready. */
  start(onReadable: () => void): void;
  close(): void;
  /**
   * Joins the engine to it, before the first poll. Returns how many sessions of an earlier run it
   * has taken over.
   */
  join(engine: Engine): number;
  /** Shows frames to a capture from now on, or to none. */
  setTap(tap: FrameTap | undefined): void;
  /**
   * To be called when nodes' MAC addresses have been told and no XDP program of that run works:
   * takes in what it did since.
   */
  activated(engine: Engine): void;
}

/** Opens the datapath that this thread was started with. Throws what the kernel refuses. */
export function openDatapath(given: EngineStart, stages: StageClock): EngineDatapath {
  const { datapath } = given;
  const opened =
    datapath.kind === 'xdp'
      ? openXdp(given, datapath, stages)
      : openPacket(given, datapath, stages);
  for (const inlet of openInlets(given, opened.datapath)) opened.datapath.addInlet(inlet);
  return opened;
}

/** Opens the sources of frames besides the datapath's own ring, in the order of their polling. */
function openInlets(given: EngineStart, datapath: PacketDatapath | XdpDatapath): Inlet[] {
  const inlets: Inlet[] = [];
  if (given.datapath.kind === 'xdp') inlets.push(openStackInlet(given, given.datapath, datapath));
  if (given.nodeInterface !== undefined) {
    const port = openNodePort(given.nodeInterface, datapath);
    datapath.nodes = port;
    inlets.push(port);
  }
  return inlets;
}

function openStackInlet(
  { interfaceIndex }: EngineStart,
  start: XdpStart,
  datapath: PacketDatapath | XdpDatapath,
): StackInlet {
  return joinFanout(
    start.share,
    (share) => new StackInlet(native(), { interfaceIndex, ...share }, datapath, start),
  );
}

function openNodePort(
  { interfaceIndex, mtu, share: wanted }: NodeInterfaceStart,
  datapath: PacketDatapath | XdpDatapath,
): NodePort {
  return joinFanout(
    wanted,
    (share) => new NodePort(native(), { interfaceIndex, ...share }, transmitSlots(mtu), datapath),
  );
}

function openPacket(given: EngineStart, start: PacketStart, stages: StageClock): EngineDatapath {
  const { interfaceIndex, mtu, config } = given;
  const admits = given.nodeInterface !== undefined;
  const datapath = joinFanout(start.share, (share) =>
    openPacketDatapath(native(), { interfaceIndex, mtu, admits, ...share }, stages),
  );
  return {
    datapath,
    options: { limits: config.limits },
    takesAtOnce: false,
    now: monotonicClock(),
    start: (onReadable) => datapath.start(onReadable),
    close: () => datapath.close(),
    join: () => 0,
    setTap: (tap) => datapath.setTap(tap),
    activated: () => {},
  };
}

/**
 * Opens what shares frames with the other threads. They are started one after the other: the first
 * one's group is that of all.
 */
function joinFanout<Opened extends { readonly fanoutGroup: number }>(
  { filterProgramFd, fanout }: RingShare,
  open: (share: Pick<PacketRingOptions, 'filterProgramFd' | 'fanout'>) => Opened,
): Opened {
  if (fanout === undefined) return open({ filterProgramFd });
  const opened = open({
    filterProgramFd,
    fanout: { programFd: fanout.programFd, group: fanout.group[0] ?? -1 },
  });
  fanout.group[0] = opened.fanoutGroup;
  return opened;
}

function openXdp(given: EngineStart, start: XdpStart, stages: StageClock): EngineDatapath {
  const { worker, config } = given;
  const { capacity, indexWords, fds } = start;
  const control = native().openMap({ fd: fds.control }).memory();
  const datapath = openXdpDatapath(native(), start.pool, worker, stages, largestFrame(control));
  const now = monotonicClock();
  let earlier = start.earlier === undefined ? undefined : new EarlierTable(start.earlier);
  let served: Engine | undefined;
  return {
    datapath,
    options: {
      limits: { ...config.limits, sessions: capacity },
      memory: {
        records: native().openMap({ fd: fds.sessions }).memory(),
        recordsOffset: worker * capacity * SESSION_RECORD_BYTES,
        index: native().openMap({ fd: fds.index }).memory(),
        indexOffset: worker * indexWords * WORD_BYTES,
        indexWords,
        indexState: new Uint32Array(control, CONTROL.indexState + worker * WORD_BYTES, 1),
      },
    },
    now,
    takesAtOnce: true,
    start: (onReadable) => datapath.start(onReadable),
    close: () => {
      // The sockets get nothing more. What came last, and was told last, is in the records then,
      // where the next process finds it.
      for (let polls = 0; served !== undefined && polls < LAST_POLLS; polls++)
        if (!datapath.poll(served, now)) break;
      datapath.close();
    },
    join: (engine) => {
      const taken = earlier?.takeOver(engine, now()) ?? 0;
      const joined = new Kernel(
        engine,
        new Uint32Array(control),
        fds.events,
        worker,
        config.limits.halfOpen,
      );
      served = engine;
      datapath.onBatch = (clock) => joined.exchange(clock);
      return taken;
    },
    setTap: (tap) => datapath.setTap(tap),
    activated: (engine) => {
      earlier?.takeOver(engine, now());
      earlier?.takeLosses(engine, now());
      earlier?.close();
      earlier = undefined;
    },
  };
}

/**
 * Of a client that sends what it was offered: what is larger comes by the tap, as `to_engine` of
 * xdp-session.h has it.
 */
function largestFrame(control: ArrayBuffer): number {
  const mss = new DataView(control).getUint16(CONTROL.mss, true);
  return ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES + TCP_HEADER_BYTES + mss;
}

/** What the engine and the XDP program tell each other, batch by batch. */
class Kernel {
  private readonly engine: Engine;
  private readonly events: ReturnType<ReturnType<typeof native>['openRecordRing']>;
  private readonly control: Uint32Array;
  private readonly halfOpen: number;
  private readonly records = new Uint32Array(RECORDS * KERNEL_EVENT_WORDS);
  /** Records that may be waiting to be read. */
  private readonly waiting: number;
  /** So much room for half-open sessions must be left for SYNs to be answered without cookies. */
  private readonly leastRoom: number;
  private cookieAt = 0;

  constructor(
    engine: Engine,
    control: Uint32Array,
    eventsFd: number,
    worker: number,
    halfOpen: number,
  ) {
    this.engine = engine;
    this.control = control;
    this.events = native().openRecordRing(eventsFd, worker, KERNEL_EVENT_WORDS);
    this.halfOpen = CONTROL.halfOpen / WORD_BYTES + worker;
    this.waiting = eventRingRecords(eventRingBytes(halfOpen));
    // For those that the engine has not been told of yet. Where the ring buffer, which has a least
    // size, holds more than the limit, the limit may be exceeded by what it holds: else every
    // client would get a cookie.
    this.leastRoom = Math.min(this.waiting + RECORDS, Math.floor(halfOpen / 3));
  }

  /**
   * To be called when the frames of a batch have been received and none has been looked at: the SYN
   * of whoever sent one of them is told by then.
   */
  exchange(now: number): void {
    const { engine, control, records } = this;
    const cookieAt = control[CONTROL.cookieAt / WORD_BYTES]!;
    if (cookieAt !== this.cookieAt) {
      this.cookieAt = cookieAt;
      engine.cookieSent(cookieAt);
    }
    let count = RECORDS;
    // Not more than were waiting: whoever writes as fast as this reads must not keep the engine
    // here.
    for (let left = this.waiting + RECORDS; left > 0 && count === RECORDS; left -= RECORDS) {
      count = this.events.drain(records);
      for (let at = 0; at < count * KERNEL_EVENT_WORDS; at += KERNEL_EVENT_WORDS)
        engine.kernelEvent(records, at, now);
      // Each time round: a flood fills the buffer as fast as it is emptied.
      control[this.halfOpen] = engine.halfOpenRoom <= this.leastRoom ? 1 : 0;
    }
    control[CONTROL.aliveAt / WORD_BYTES] = now;
  }
}

/** The sessions of an earlier run, which its XDP program may be forwarding still. */
class EarlierTable {
  private readonly map: MapHandle;

  constructor(private readonly start: EarlierStart) {
    this.map = native().openMap({ fd: start.fd });
  }

  /** Takes over what is not known yet, and brings the rest up to date. Returns how many are new. */
  takeOver(engine: Engine, now: number): number {
    const { count, servers, nodes } = this.start;
    const old = new RecordReader(this.map.memory(), 0, count);
    const before = engine.sessions.size;
    for (let slot = 0; slot < count; slot++) {
      // Most of the table may never have been used.
      if (old.state(slot) === 0) continue;
      const server = servers[old.portServer(slot) & 0xffff] ?? -1;
      const node = nodes[old.node(slot)] ?? -1;
      if (server < 0) continue;
      if (!engine.takeOver(old, slot, node, server, now)) break;
    }
    return engine.sessions.size - before;
  }

  /** To be called when all have been taken over: notes those that cannot go on. */
  takeLosses(engine: Engine, now: number): void {
    const { count, servers } = this.start;
    const old = new RecordReader(this.map.memory(), 0, count);
    for (let slot = 0; slot < count; slot++) {
      const server = old.state(slot) === 0 ? -1 : (servers[old.portServer(slot) & 0xffff] ?? -1);
      if (server >= 0) engine.takeLoss(old, slot, server, now);
    }
  }

  close(): void {
    this.map.close();
  }
}
