/**
 * The engine over a capture in memory, one thread: handoffs and pass-through packets per second,
 * growth of the heap, bytes of session table. Part of `npm run bench`; alone:
 *
 *     node --expose-gc dist/bench/replay/engine.bench.js [--json]
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Counters } from '../../src/base/counters.js';
import { FrameFlags } from '../../src/datapath/datapath.js';
import { Directory } from '../../src/directory/directory.js';
import { RequestDispatcher } from '../../src/directory/dispatcher.js';
import { Engine } from '../../src/tcp/engine.js';
import { NodeTable } from '../../src/tcp/node-table.js';
import { SipHash } from '../../src/wire/siphash.js';
import { machine, median, report, whole } from '../report.js';
import { MemoryDatapath } from './memory.js';
import {
  BALANCER_ADDRESS,
  clientAddress,
  clientPort,
  type Frames,
  frameOffset,
  layOut,
  layOutNotices,
  NoticeType,
  readTemplate,
  type Template,
  workloadBytes,
} from './workload.js';

/** Connections of one round, rounds, and pass-through packets of one round. */
const CONNECTIONS = 20_000;
const ROUNDS = 11;
/** They are compiled while they run: not counted. */
const WARM_UP_ROUNDS = 2;
const PACKETS = 2_000_000;
const HEAP_PACKETS = 10_000_000;
const SESSIONS = 1_000_000;
/** Frames between two looks at the timers, as a datapath's batch would have. */
const BATCH = 256;
const CAPTURE = '../../../test/fixtures/captures/get.pcap';

interface EngineFigures {
  handoffsPerSecond: number[];
  confirmedPerSecond: number[];
  packetsPerSecond: number[];
  heapGrowthBytes: number;
  heapPackets: number;
  tableBytesPerSession: number;
  enginePerSession: number;
}

class Run {
  readonly datapath = new MemoryDatapath(workloadBytes(CONNECTIONS, 5));
  readonly nodes = new NodeTable([3, 4, 5].map((last) => ({ address: 0x0a630000 + last, weight: 1 })));
  readonly key = Uint8Array.from({ length: 16 }, (_, i) => i * 7);
  readonly counters = new Counters();
  readonly engine: Engine;
  readonly template: Template;
  private readonly hash = new SipHash(this.key);
  private now = 1;

  constructor(capture: string) {
    this.template = readTemplate(capture);
    for (let node = 0; node < this.nodes.count; node++) {
      this.nodes.setMac(node, Uint8Array.of(2, 0, 0, 0, 0, node + 1));
    }
    const resources = [
      { host: undefined, path: '/', nodes: [0, 1, 2] },
      ...Array.from({ length: 1000 }, (_, i) => ({ host: undefined, path: `/part-${i}/`, nodes: [i % 3] })),
    ];
    const dispatcher = new RequestDispatcher({
      directory: new Directory(resources),
      predictors: ['least-connections'],
      nodes: this.nodes,
      headBytes: 16_384,
    });
    const { template } = this;
    this.engine = new Engine(
      {
        address: BALANCER_ADDRESS,
        mac: Uint8Array.of(2, 0, 0, 0, 0, 0xff),
        mtu: 1500,
        key: this.key,
        secret: Uint8Array.from({ length: 32 }, (_, i) => i * 11),
        virtualServers: [{ address: template.server, port: template.port }],
        limits: {
          sessions: SESSIONS,
          halfOpen: 65_536,
          headBytes: 16_384,
          heads: 65_536,
          handoffTries: 2,
          synAckTries: 5,
        },
        timeouts: { synAck: 1000, head: 10_000, handoff: 300, idle: 900_000, closing: 60_000, linger: 5000 },
        initialSequence: () => template.serverIsn,
      },
      this.nodes,
      dispatcher,
      this.datapath,
      this.counters,
    );
  }

  /** Feeds frames in order, with a look at the timers after each batch. Seconds that it took. */
  feed(...kinds: Frames[]): number {
    const { engine } = this;
    const count = kinds[0]?.count ?? 0;
    const started = process.hrtime.bigint();
    for (let index = 0; index < count; index++) {
      for (const frames of kinds) {
        engine.receive(frameOffset(frames, index), frames.length, 0, this.now);
      }
      if (index % BATCH === 0) {
        this.now += 0.1;
        engine.tick(this.now);
      }
    }
    return Number(process.hrtime.bigint() - started) / 1e9;
  }

  /** Passes `packets` of the client's bare ACKs through. Seconds that it took. */
  pass(frames: Frames, packets: number): number {
    const { engine } = this;
    const started = process.hrtime.bigint();
    for (let done = 0; done < packets; done += BATCH) {
      this.now += 0.1;
      for (let i = 0; i < BATCH; i++) {
        const index = (done + i) % frames.count;
        engine.receive(frameOffset(frames, index), frames.length, FrameFlags.checksumValid, this.now);
      }
      engine.tick(this.now);
    }
    return Number(process.hrtime.bigint() - started) / 1e9;
  }

  layOutClient(): { syn: Frames; ack: Frames; request: Frames } {
    const { view } = this.datapath.memory;
    const { template } = this;
    return {
      syn: layOut(view, 0, template.syn, CONNECTIONS),
      ack: layOut(view, workloadBytes(CONNECTIONS, 1), template.ack, CONNECTIONS),
      request: layOut(view, workloadBytes(CONNECTIONS, 2), template.request, CONNECTIONS),
    };
  }

  notices(type: number, kind: number): Frames {
    const offset = workloadBytes(CONNECTIONS, kind);
    const { sessions } = this.engine;
    const { view } = this.datapath.memory;
    return layOutNotices(view, offset, type, this.template, sessions, this.nodes, this.hash, CONNECTIONS);
  }

  /** Lets every session that has ended go. */
  drain(): void {
    for (let step = 0; step < 1000 && this.engine.sessions.size > 0; step++) {
      this.now += 50;
      this.engine.tick(this.now);
    }
    if (this.engine.sessions.size > 0) throw new Error('sessions are left');
  }
}

function heapUsed(): number {
  const { gc } = globalThis;
  if (gc === undefined) throw new Error('needs node --expose-gc');
  gc();
  gc();
  const { heapUsed, external, arrayBuffers } = process.memoryUsage();
  return heapUsed + external + arrayBuffers;
}

function measureEngine(): EngineFigures {
  const run = new Run(join(fileURLToPath(import.meta.url), '..', CAPTURE));
  const figures: EngineFigures = {
    handoffsPerSecond: [],
    confirmedPerSecond: [],
    packetsPerSecond: [],
    heapGrowthBytes: 0,
    heapPackets: HEAP_PACKETS,
    tableBytesPerSession: run.engine.sessions.bytesPerSession,
    enginePerSession: run.engine.bytesPerSession,
  };
  for (let round = 0; round < ROUNDS; round++) {
    const { syn, ack, request } = run.layOutClient();
    const handedBefore = run.counters.get('handoffs');
    const handing = run.feed(syn, ack, request);
    if (run.counters.get('handoffs') - handedBefore !== CONNECTIONS)
      throw new Error('not all were handed over');
    const adopted = run.notices(NoticeType.adopted, 3);
    const confirming = run.feed(adopted);
    if (run.engine.sessions.find(clientAddress(0), (clientPort(0) << 16) >>> 0) < 0)
      throw new Error('no session');
    const forwardedBefore = run.datapath.forwarded;
    const packets = Math.ceil(PACKETS / BATCH) * BATCH;
    const passing = run.pass(ack, packets);
    if (run.datapath.forwarded - forwardedBefore !== packets) throw new Error('not all were forwarded');
    if (round >= WARM_UP_ROUNDS) {
      figures.handoffsPerSecond.push(CONNECTIONS / handing);
      figures.confirmedPerSecond.push(CONNECTIONS / (handing + confirming));
      figures.packetsPerSecond.push(packets / passing);
    }
    if (round === ROUNDS - 1) {
      const before = heapUsed();
      run.pass(ack, HEAP_PACKETS);
      figures.heapGrowthBytes = heapUsed() - before;
    }
    run.feed(run.notices(NoticeType.rst, 4));
    run.drain();
  }
  return figures;
}

const HEADINGS = ['what', 'goal', 'median', 'range'];

function rowsOf(figures: EngineFigures): string[][] {
  const rate = (values: readonly number[]): string[] => [
    whole(median(values)),
    `${whole(Math.min(...values))} to ${whole(Math.max(...values))}`,
  ];
  return [
    ['pass-through packets/s', 'at least 3,000,000', ...rate(figures.packetsPerSecond)],
    ['handoffs/s, SYN to IXP', 'at least 150,000', ...rate(figures.handoffsPerSecond)],
    ['handoffs/s, SYN to confirmed', '', ...rate(figures.confirmedPerSecond)],
    [
      `heap growth over ${whole(figures.heapPackets)} packets, bytes`,
      'none',
      whole(figures.heapGrowthBytes),
      '',
    ],
    ['session table, bytes per session', 'at most 256', figures.tableBytesPerSession.toFixed(1), ''],
    ['the same with timers and lists', 'at most 256', figures.enginePerSession.toFixed(1), ''],
  ];
}

const figures = measureEngine();
if (process.argv.includes('--json')) {
  process.stdout.write(`${JSON.stringify(figures)}\n`);
} else {
  const title = `The engine over a capture (get.pcap, ${whole(CONNECTIONS)} clients) in memory, one thread: ${ROUNDS - WARM_UP_ROUNDS} rounds.\n${machine()}`;
  report(title, HEADINGS, rowsOf(figures), ['goal']);
}
