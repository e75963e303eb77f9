/** Runs a workload of many connections through an engine in memory. */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Counters } from '../../src/base/counters.js';
import { FrameFlags } from '../../src/datapath/datapath.js';
import { Directory } from '../../src/directory/directory.js';
import { directoryImage } from '../../src/directory/directory-image.js';
import { type NodeShare, nodeMemory } from '../../src/directory/node-memory.js';
import { NodeStates, ownStates } from '../../src/directory/node-states.js';
import { RequestAnswers } from '../../src/directory/request-answers.js';
import { RequestDispatcher } from '../../src/directory/request-dispatcher.js';
import { Engine } from '../../src/engine/engine.js';
import { inSlots } from '../../src/engine/farm.js';
import { HandoffCandidates } from '../../src/engine/handoff/candidates.js';
import { NodeTable } from '../../src/engine/node-table.js';
import { sessionHash, sessionWorker } from '../../src/engine/table/session-record.js';
import { SipHash } from '../../src/wire/siphash.js';
import { MemoryDatapath } from './memory.js';
import {
  BALANCER_ADDRESS,
  clientAddress,
  clientKey,
  type Frames,
  frameOffset,
  layOut,
  layOutNotices,
  NoticeType,
  readTemplate,
  type Template,
  withFields,
  workloadBytes,
} from './workload.js';

/** Room for sessions, in all engines together. */
const SESSIONS = 1_000_000;
/** Frames between two ticks, as in a batch of a datapath. */
const BATCH = 256;
/** Kinds of frames: SYN, ACK and request of the client, two notices of the node. */
const KINDS = 5;
export const NODES = 3;
const SEEDS = { client: 0xb0b1b2b3, port: 0x08131e29, nonce: 0xdce7f2fd };
const CAPTURE = join(fileURLToPath(import.meta.url), '../../../../test/fixtures/captures/get.pcap');

/** The memory that engines with a common workload share. */
export function sharedNodes(workers: number): SharedArrayBuffer {
  return nodeMemory(NODES, workers);
}

export class Run {
  readonly datapath: MemoryDatapath;
  readonly counters = new Counters();
  readonly engine: Engine;
  /** The numbers of this engine's clients within the whole workload. */
  readonly clients: Uint32Array;
  private readonly nodes: NodeTable;
  private readonly template: Template;
  private readonly key = Uint8Array.from({ length: 16 }, (_, i) => i * 7);
  private readonly hash = new SipHash(this.key);
  private now = 1;

  /**
   * @param connections number of connections of the whole workload
   * @param share the share of this engine; by default everything
   * @param fields more field lines for each request, with their CR LF
   */
  constructor(connections: number, share?: NodeShare, fields = '') {
    const { worker, workers } = share ?? { worker: 0, workers: 1 };
    this.clients = Uint32Array.from({ length: connections }, (_, client) => client).filter(
      (client) => {
        const hash = sessionHash(
          clientAddress(client),
          clientKey(client),
          SEEDS.client,
          SEEDS.port,
        );
        return sessionWorker(hash, workers) === worker;
      },
    );
    this.datapath = new MemoryDatapath(workloadBytes(this.clients.length, KINDS));
    this.template = withFields(readTemplate(CAPTURE), fields);
    const nodes = Array.from({ length: NODES }, (_, node) => ({
      address: 0x0a630003 + node,
      weight: 1,
    }));
    const states = share === undefined ? ownStates(nodes) : new NodeStates(share);
    for (let node = 0; node < NODES; node++) states.setWeight(node, 1);
    this.nodes = new NodeTable(inSlots(nodes), states);
    for (let node = 0; node < NODES; node++)
      this.nodes.setMac(node, Uint8Array.of(2, 0, 0, 0, 0, node + 1));
    const resources = [
      { host: undefined, path: '/', nodes: [0, 1, 2] },
      ...Array.from({ length: 1000 }, (_, i) => ({
        host: undefined,
        path: `/part-${i}/`,
        nodes: [i % NODES],
      })),
    ];
    const dispatcher = new RequestDispatcher({
      directory: new Directory(directoryImage(resources)),
      predictors: ['least-connections'],
      candidates: new HandoffCandidates(this.nodes),
      headBytes: 16_384,
    });
    const { template } = this;
    this.engine = new Engine(
      {
        now: this.now,
        address: BALANCER_ADDRESS,
        mac: Uint8Array.of(2, 0, 0, 0, 0, 0xff),
        mtu: 1500,
        key: this.key,
        secret: Uint8Array.from({ length: 32 }, (_, i) => i * 11),
        seeds: SEEDS,
        shard: { worker, workers },
        virtualServers: inSlots([{ address: template.server, port: template.port }]),
        answers: new RequestAnswers(Date.now),
        limits: {
          sessions: Math.ceil(SESSIONS / workers),
          halfOpen: 65_536,
          headBytes: 16_384,
          heads: 65_536,
          handoffTries: 2,
          synAckTries: 5,
        },
        timeouts: {
          synAck: 1000,
          head: 10_000,
          handoff: 300,
          answer: 1_000,
          idle: 900_000,
          closing: 60_000,
          linger: 5000,
        },
        initialSequence: () => template.serverIsn,
      },
      this.nodes,
      dispatcher,
      this.datapath,
      this.counters,
    );
  }

  /** Feeds frames in order, with a tick after each batch. */
  feed(...kinds: Frames[]): void {
    const { engine } = this;
    const count = kinds[0]?.count ?? 0;
    for (let index = 0; index < count; index++) {
      for (const frames of kinds) {
        engine.receive(frameOffset(frames, index), frames.length, 0, this.now);
      }
      if (index % BATCH === 0) {
        this.now += 0.1;
        engine.tick(this.now);
      }
    }
  }

  /**
   * Passes bare ACKs of the clients through the engine. `packets` is a multiple of a batch.
   * @throws Error if a packet is not forwarded
   */
  pass(frames: Frames, packets: number): void {
    const { engine, datapath } = this;
    const before = datapath.forwarded;
    for (let done = 0; done < packets; done += BATCH) {
      this.now += 0.1;
      for (let i = 0; i < BATCH; i++) {
        const index = (done + i) % frames.count;
        engine.receive(
          frameOffset(frames, index),
          frames.length,
          FrameFlags.checksumValid,
          this.now,
        );
      }
      engine.tick(this.now);
    }
    if (datapath.forwarded - before !== packets) throw new Error('a packet was not forwarded');
  }

  layOutClients(): { syn: Frames; ack: Frames; request: Frames } {
    const { view } = this.datapath.memory;
    const { template, clients } = this;
    const at = (kind: number): number => workloadBytes(clients.length, kind);
    return {
      syn: layOut(view, at(0), template.syn, clients),
      ack: layOut(view, at(1), template.ack, clients),
      request: layOut(view, at(2), template.request, clients),
    };
  }

  /** Lays out the notices with which the nodes confirm the sessions. */
  layOutAdopted(): Frames {
    return this.notices(NoticeType.adopted, 3);
  }

  /** Ends all sessions. */
  finish(): void {
    this.feed(this.notices(NoticeType.rst, 4));
    for (let step = 0; step < 1000 && this.engine.sessions.size > 0; step++) {
      this.now += 50;
      this.engine.tick(this.now);
    }
    if (this.engine.sessions.size > 0) throw new Error('sessions are left');
  }

  private notices(type: number, kind: number): Frames {
    const { clients, template, nodes, hash } = this;
    const offset = workloadBytes(clients.length, kind);
    const { view } = this.datapath.memory;
    return layOutNotices(view, offset, type, template, this.engine.sessions, nodes, hash, clients);
  }
}

/** Rounds a number of packets up to whole batches. */
export function wholeBatches(packets: number): number {
  return Math.ceil(packets / BATCH) * BATCH;
}

/** Start and end of work, in s on a clock that all threads share. */
export interface Span {
  start: number;
  end: number;
}

export function timed(work: () => void): Span {
  const start = process.hrtime.bigint();
  work();
  return { start: Number(start) / 1e9, end: Number(process.hrtime.bigint()) / 1e9 };
}

export function seconds({ start, end }: Span): number {
  return end - start;
}
