/**
 * What an engine thread gets its frames by, and where it keeps its sessions: an AF_PACKET ring and memory of its
 * own; or AF_XDP and maps, by which the kernel takes part. A composition root, of engine-thread.ts.
 */
import { randomBytes } from 'node:crypto';
import { native } from './base/native.js';
import type { StageClock } from './base/stages.js';
import type { EarlierStart, EngineStart, PacketStart, XdpStart } from './control/engine-messages.js';
import { openPacketDatapath, type PacketDatapath } from './datapath/packet.js';
import { openXdpDatapath, type XdpDatapath } from './datapath/xdp.js';
import { CONTROL } from './datapath/xdp-layout.js';
import type { Engine } from './tcp/engine.js';
import type { EngineOptions } from './tcp/options.js';
import { RecordReader, SESSION_RECORD_BYTES } from './tcp/session-record.js';
import { SYN_RECORD_WORDS } from './tcp/syn-record.js';

const SECRET_BYTES = 32;
const WORD_BYTES = Uint32Array.BYTES_PER_ELEMENT;
/** SYNs taken from the kernel in one call. */
const SYNS = 256;

export interface EngineDatapath {
  readonly datapath: PacketDatapath | XdpDatapath;
  /** What the datapath decides for the engine. */
  readonly options: Pick<EngineOptions, 'secret' | 'seeds' | 'shard' | 'memory' | 'limits'>;
  /** The engine's clock, ms. */
  now(): number;
  /** Joins the engine to it, before the first poll. Returns how many sessions of an earlier run it has taken over. */
  join(engine: Engine): number;
}

/** Opens the datapath that this thread was started with. Throws what the kernel refuses. */
export function openDatapath(given: EngineStart, stages: StageClock): EngineDatapath {
  const { datapath } = given;
  return datapath.kind === 'xdp' ? openXdp(given, datapath, stages) : openPacket(given, datapath, stages);
}

function openPacket(given: EngineStart, start: PacketStart, stages: StageClock): EngineDatapath {
  const { interfaceIndex, mtu, config } = given;
  return {
    datapath: openPacketDatapath(
      native(),
      { interfaceIndex, mtu, filterProgramFd: start.filterProgramFd },
      stages,
    ),
    options: {
      secret: randomBytes(SECRET_BYTES),
      seeds: { client: randomU32(), port: randomU32(), nonce: randomU32() },
      limits: config.limits,
    },
    now: () => performance.now(),
    join: () => 0,
  };
}

function openXdp(given: EngineStart, start: XdpStart, stages: StageClock): EngineDatapath {
  const { worker, workers, capacity, indexWords, fds, seeds, secret } = start;
  const { limits } = given.config;
  const share = (count: number): number => Math.ceil(count / workers);
  const datapath = openXdpDatapath(native(), start.pool, worker, stages);
  // CLOCK_MONOTONIC, by which the kernel writes times into sessions. The thread's own clock runs with it.
  const ahead = Number(process.hrtime.bigint() / 1_000_000n) - performance.now();
  const now = (): number => performance.now() + ahead;
  return {
    datapath,
    options: {
      secret,
      seeds: { ...seeds, nonce: randomU32() },
      shard: { worker, workers },
      limits: { ...limits, sessions: capacity, halfOpen: share(limits.halfOpen), heads: share(limits.heads) },
      memory: {
        records: native().openMap({ fd: fds.sessions }).memory(),
        recordsOffset: worker * capacity * SESSION_RECORD_BYTES,
        index: native().openMap({ fd: fds.index }).memory(),
        indexOffset: worker * indexWords * WORD_BYTES,
        indexWords,
      },
    },
    now,
    join: (engine) => {
      const taken = start.earlier === undefined ? 0 : takeOver(engine, start.earlier, now());
      const kernel = new Kernel(engine, fds.control, fds.syns, worker);
      datapath.onBatch = (clock) => kernel.exchange(clock);
      return taken;
    },
  };
}

/** What the engine and the XDP program tell each other, batch by batch. */
class Kernel {
  private readonly engine: Engine;
  private readonly syns: ReturnType<ReturnType<typeof native>['openSynRing']>;
  private readonly control: Uint32Array;
  private readonly halfOpen: number;
  private readonly records = new Uint32Array(SYNS * SYN_RECORD_WORDS);
  private cookieAt = 0;

  constructor(engine: Engine, control: number, syns: number, worker: number) {
    this.engine = engine;
    this.control = new Uint32Array(native().openMap({ fd: control }).memory());
    this.syns = native().openSynRing(syns, worker, SYN_RECORD_WORDS);
    this.halfOpen = CONTROL.halfOpen / WORD_BYTES + worker;
  }

  /**
   * To be called when the frames of a batch have been received and none has been looked at: the SYN of whoever
   * sent one of them is told by then.
   */
  exchange(now: number): void {
    const { engine, control, records } = this;
    const cookieAt = control[CONTROL.cookieAt / WORD_BYTES]!;
    if (cookieAt !== this.cookieAt) {
      this.cookieAt = cookieAt;
      engine.cookieSent(cookieAt);
    }
    let count: number;
    do {
      count = this.syns.drain(records);
      for (let at = 0; at < count * SYN_RECORD_WORDS; at += SYN_RECORD_WORDS) engine.opened(records, at, now);
    } while (count === SYNS);
    control[CONTROL.aliveAt / WORD_BYTES] = now;
    control[this.halfOpen] = engine.stateless ? 1 : 0;
  }
}

function takeOver(engine: Engine, earlier: EarlierStart, now: number): number {
  const map = native().openMap({ fd: earlier.fd });
  try {
    const old = new RecordReader(map.memory(), 0, earlier.count);
    const before = engine.sessions.size;
    for (let slot = 0; slot < earlier.count; slot++) {
      // Most of the table may never have been used.
      if (old.state(slot) === 0) continue;
      const server = earlier.servers[old.portServer(slot) & 0xffff] ?? -1;
      const node = earlier.nodes[old.node(slot)] ?? -1;
      if (server < 0 || node < 0) continue;
      if (!engine.takeOver(old, slot, node, server, now)) break;
    }
    return engine.sessions.size - before;
  } finally {
    map.close();
  }
}

function randomU32(): number {
  return randomBytes(WORD_BYTES).readUInt32LE();
}
