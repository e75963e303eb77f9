/**
 * An engine with the same config as the XDP program of xdp-fixture.ts, over plain memory. The
 * program must do what this engine does with the same frame in the same ms.
 */

import {
  addressNumber,
  build,
  macBytes,
  type PacketSpec,
  type TcpOptionsSpec,
} from '../../lab/packet.js';
import { type CounterName, Counters } from '../../src/base/counters.js';
import { type Dispatcher, Verdict, type VerdictCode } from '../../src/directory/dispatcher.js';
import { ownStates } from '../../src/directory/node-states.js';
import { RequestAnswers } from '../../src/directory/request-answers.js';
import { Engine } from '../../src/engine/engine.js';
import { inSlots } from '../../src/engine/farm.js';
import { NodeTable } from '../../src/engine/node-table.js';
import type { EngineOptions } from '../../src/engine/options.js';
import { indexWordsFor } from '../../src/engine/table/session-index.js';
import { SESSION_RECORD_BYTES } from '../../src/engine/table/session-record.js';
import type { SessionTable } from '../../src/engine/table/session-table.js';
import { RequestFollower } from '../../src/request/http/framing.js';
import { MemoryDatapath } from '../support/memory.js';
import { parse } from '../support/packet-parse.js';
import type { Fast } from './xdp-fixture.js';
import {
  BALANCER,
  CLIENT,
  CLIENT_ISN,
  clock,
  HEAD_BYTES,
  KEY,
  MTU,
  NODE,
  PORTS,
  SECRET,
  SEEDS,
  segment,
  VIRTUAL,
} from './xdp-packets.js';

export const REQUEST = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';
const ALLOWED = 4096;
const NO_EVENT = 1_000_000_000;

/** Takes all bytes that end like a head for a head. The usual node holds everything. */
class OneNode implements Dispatcher {
  resume = 0;
  resource = 0;
  readonly text = undefined;
  readonly textEnd = 0;
  requestStart = 0;
  requestEnd = 0;
  repeatable = false;
  headBytes = REQUEST.length;
  hasNoAnswerBody = false;
  rewritten = 0;
  pathStart = 0;
  pathEnd = 0;
  pickedBit = 1;
  readonly follower = new RequestFollower();

  inspect(bytes: Uint8Array, _start: number, end: number): VerdictCode {
    return bytes[end - 1] === 10 ? Verdict.found : Verdict.incomplete;
  }

  writePath(): void {}

  pick(): number {
    return NODE.index;
  }

  followBody(): number {
    return 0;
  }

  countRequest(): void {}

  soleHolder(): number {
    return -1;
  }

  holderBit(): number {
    return 1;
  }
}

export class Twin {
  readonly counters = new Counters();
  readonly engine: Engine;
  readonly nodes: NodeTable;
  private readonly datapath = new MemoryDatapath();
  private readonly bytes = new Uint8Array(ALLOWED * SESSION_RECORD_BYTES);

  /**
   * @param isn our initial sequence number in every session; by default as in RFC 6528.
   * @param more other options of the engine
   */
  constructor(isn?: number, more: Partial<EngineOptions> = {}) {
    const nodes = [
      { address: addressNumber('10.78.0.9'), weight: 1 },
      { address: addressNumber(NODE.address), weight: 1 },
    ];
    this.nodes = new NodeTable(inSlots(nodes), ownStates(nodes, PORTS.length));
    this.nodes.setMac(NODE.index, macBytes(NODE.mac));
    this.engine = new Engine(
      {
        now: clock(),
        address: addressNumber(BALANCER.address),
        mac: macBytes(BALANCER.mac),
        mtu: MTU,
        key: KEY,
        secret: SECRET,
        seeds: SEEDS,
        virtualServers: inSlots(PORTS.map((port) => ({ address: addressNumber(VIRTUAL), port }))),
        answers: new RequestAnswers(Date.now),
        limits: {
          sessions: ALLOWED,
          halfOpen: ALLOWED,
          headBytes: HEAD_BYTES,
          heads: 64,
          handoffTries: 2,
          synAckTries: 5,
        },
        timeouts: {
          synAck: NO_EVENT,
          head: NO_EVENT,
          handoff: NO_EVENT,
          idle: NO_EVENT,
          closing: NO_EVENT,
          answer: NO_EVENT,
          linger: NO_EVENT,
        },
        memory: {
          records: this.bytes.buffer,
          recordsOffset: 0,
          index: new ArrayBuffer(indexWordsFor(ALLOWED) * 4),
          indexOffset: 0,
          indexWords: indexWordsFor(ALLOWED),
          indexState: new Uint32Array(1),
        },
        ...(isn === undefined ? {} : { initialSequence: () => isn }),
        ...more,
      },
      this.nodes,
      new OneNode(),
      this.datapath,
      this.counters,
    );
  }

  get table(): SessionTable {
    return this.engine.sessions;
  }

  /** The frames that the engine sends when it gets this frame at `now`. */
  receive(packet: PacketSpec | Uint8Array, now = clock(), flags = 0): Uint8Array[] {
    const frame = packet instanceof Uint8Array ? packet : build(packet, KEY);
    const offset = this.datapath.place(frame, flags);
    this.engine.receive(offset, frame.length, flags, now);
    const sent = this.datapath.take().map(({ frame: bytes }) => bytes);
    this.datapath.flush();
    return sent;
  }

  /** The names of these counters that rise during `action`. */
  counted(names: readonly CounterName[], action: () => void): CounterName[] {
    const before = names.map((name) => this.counters.get(name));
    action();
    return names.filter((name, index) => this.counters.get(name) !== before[index]);
  }

  /**
   * Hands the usual client's session over with REQUEST, without a confirmation. Returns its slot,
   * and the next sequence numbers of the client and of ours.
   */
  handing(options: TcpOptionsSpec = {}, sourcePort: number = CLIENT.port): Handed {
    const [answer] = this.receive(segment({ flags: 'S', seq: CLIENT_ISN, options, sourcePort }));
    if (answer === undefined) throw new Error('no SYN/ACK');
    const first = (CLIENT_ISN + 1) >>> 0;
    const ack = (parse(answer).tcp!.seq + 1) >>> 0;
    this.receive(segment({ flags: 'PA', seq: first, ack, sourcePort }, REQUEST));
    const slot = this.table.find(addressNumber(CLIENT.address), (sourcePort << 16) >>> 0);
    return { slot, seq: (first + REQUEST.length) >>> 0, ack };
  }

  /** Inserts the same session into the program's map, with this action; returns its slot there. */
  mirror(fast: Fast, slot: number, action: number): number {
    const { table } = this;
    const there = fast.insert(table.client(slot), table.portServer(slot));
    const at = there * SESSION_RECORD_BYTES;
    new Uint8Array(fast.records.buffer).set(this.record(slot), at);
    fast.setAction(there, action);
    return there;
  }

  /** The bytes of a record. */
  record(slot: number): Uint8Array {
    return this.bytes.slice(slot * SESSION_RECORD_BYTES, (slot + 1) * SESSION_RECORD_BYTES);
  }
}

export interface Handed {
  slot: number;
  seq: number;
  ack: number;
}
