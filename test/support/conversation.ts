/**
 * Conversations with the engine: literal packets are sent and expected at times in ms, and time
 * passes only between them. They run on the memory datapath and the dispatcher of known-paths.ts.
 *
 *     const talk = new Conversation(t);
 *     talk.send(0, fromClient({ flags: 'S', seq: 1000 }));
 *     talk.expect(0, toClient({ flags: 'SA', seq: 5000, ack: 1001 }));
 *     talk.end(0);
 */

import type { Test } from 'tap';
import { addressNumber, build, macBytes, type PacketSpec, type TcpSpec } from '../../lab/packet.js';
import { type CounterName, Counters } from '../../src/base/counters.js';
import { Port, type PortNumber } from '../../src/datapath/datapath.js';
import type { NodeShare } from '../../src/directory/node-memory.js';
import { NodeStates, ownStates } from '../../src/directory/node-states.js';
import { Engine } from '../../src/engine/engine.js';
import { type EngineFarm, inSlots } from '../../src/engine/farm.js';
import { NodeTable } from '../../src/engine/node-table.js';
import type { EngineOptions, Limits, Observer, Timeouts } from '../../src/engine/options.js';
import {
  BALANCER,
  CLIENT,
  FIRST_NONCE,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  KEY,
  MANY_NODES,
  MTU,
  NODES,
  NOTICE,
  notice,
  SECRET,
  SERVER,
  toClient,
} from './conversation-frames.js';
import { KnownAnswers } from './known-answers.js';
import { HEAD_BYTES, KnownPaths, type Paths } from './known-paths.js';
import { MemoryDatapath, type SentFrame } from './memory.js';
import { describe, differences, type ParsedPacket, parse } from './packet-parse.js';
import { START } from './uptime.js';

export * from './conversation-frames.js';

/** Timers are kept in ticks of 8 ms. A timer that follows another may be late twice. */
const SLACK_MS = 20;
/** Frames that are shown before a wrong one. */
const MOST_SHOWN = 12;

export interface ConversationOptions {
  limits?: Partial<Limits>;
  timeouts?: Partial<Timeouts>;
  /** Initial sequence number, or undefined to have the engine make one by RFC 6528. */
  isn?: number | undefined;
  /** ms on the engine's clock when the conversation begins. */
  start?: number;
  mtu?: number;
  /** What the engine shares with other engines about the nodes. */
  nodes?: NodeShare;
  /** The nodes of the farm. */
  machines?: readonly { readonly address: string; readonly mac: string }[];
  /** Any other options that differ from the usual ones. */
  engine?: Partial<EngineOptions>;
}

interface Heard {
  time: number;
  sent: SentFrame;
  packet: ParsedPacket;
}

export class Conversation {
  readonly counters = new Counters();
  readonly nodes: NodeTable;
  readonly states: NodeStates;
  readonly dispatcher: KnownPaths;
  readonly datapath = new MemoryDatapath();
  readonly engine: Engine;
  /** The events of the observer, a few words each. */
  readonly events: string[] = [];
  private readonly start: number;
  /** MAC address of the nodes' interface, if it is another one. */
  private readonly nodeMac: Uint8Array | undefined;
  private readonly heard: Heard[] = [];
  /** The first frame that was as expected, and the latest ones. */
  private readonly right: Pick<Heard, 'time' | 'packet'>[] = [];
  private now = 0;
  /** The farm that is in place. */
  farm: EngineFarm;

  constructor(
    private readonly t: Test,
    options: ConversationOptions = {},
  ) {
    this.start = options.start ?? START;
    this.nodeMac = options.engine?.nodeMac;
    const machines = options.machines ?? NODES;
    const nodes = machines.map(({ address }) => ({ address: addressNumber(address), weight: 1 }));
    this.states = options.nodes === undefined ? ownStates(nodes) : new NodeStates(options.nodes);
    for (let node = 0; node < machines.length; node++) this.states.setWeight(node, 1);
    this.nodes = new NodeTable(inSlots(nodes), this.states);
    this.dispatcher = new KnownPaths(this.nodes);
    const isn = 'isn' in options ? options.isn : ISN;
    const engineOptions: EngineOptions = {
      now: this.start,
      address: addressNumber(BALANCER.address),
      mac: macBytes(BALANCER.mac),
      mtu: options.mtu ?? MTU,
      key: KEY,
      secret: SECRET,
      seeds: { client: 0, port: 0, nonce: FIRST_NONCE },
      virtualServers: inSlots([{ address: addressNumber(SERVER.address), port: SERVER.port }]),
      answers: new KnownAnswers(),
      limits: {
        sessions: 64,
        halfOpen: 32,
        headBytes: HEAD_BYTES,
        heads: 32,
        handoffTries: 2,
        synAckTries: 5,
        ...options.limits,
      },
      timeouts: {
        synAck: 1000,
        head: 10_000,
        handoff: 300,
        idle: 900_000,
        closing: 60_000,
        answer: 1_000,
        linger: 5_000,
        ...options.timeouts,
      },
      observer: this.observer(),
      ...(isn === undefined ? {} : { initialSequence: () => isn }),
      ...options.engine,
    };
    this.farm = {
      nodes: inSlots(nodes),
      servers: engineOptions.virtualServers,
      timeouts: engineOptions.timeouts,
    };
    for (const [i, { mac }] of machines.entries()) this.nodes.setMac(i, macBytes(mac));
    this.engine = new Engine(
      engineOptions,
      this.nodes,
      this.dispatcher,
      this.datapath,
      this.counters,
    );
  }

  /** A frame arrives at `time`. */
  send(time: number, packet: PacketSpec | Uint8Array, flags = 0): void {
    this.advance(time);
    const frame = packet instanceof Uint8Array ? packet : build(packet, KEY);
    const offset = this.datapath.place(frame, flags);
    this.engine.receive(offset, frame.length, flags, this.start + this.now);
    this.collect();
    this.datapath.flush();
  }

  /** The node's MAC address becomes this one at `time`. */
  setMac(time: number, node: number, mac: string): void {
    this.advance(time);
    this.nodes.setMac(node, macBytes(mac), this.start + this.now);
  }

  /**
   * The farm changes at `time`. What is not given stays.
   * @throws BatonError what `Engine.prepare` throws; nothing changes then
   */
  change(time: number, farm: Partial<EngineFarm>, paths?: Paths): void {
    this.advance(time);
    const next = { ...this.farm, ...farm };
    this.engine.commit(this.engine.prepare(next));
    if (paths !== undefined) this.dispatcher.use(paths);
    this.farm = next;
  }

  /** The engine's next frame is this one, sent at `time` or as little later as timers may be. */
  expect(time: number, expected: PacketSpec, port: PortNumber = Port.wire): ParsedPacket {
    while (this.heard.length === 0 && this.now < time + SLACK_MS)
      this.advance(Math.max(time, this.now + 1));
    const next = this.heard.shift();
    if (next === undefined) {
      this.t.fail(`nothing was sent at ${time} ms`, { expected });
      throw new Error(`nothing was sent at ${time} ms`);
    }
    const lines = differences(expected, next.packet);
    if (next.time < time || next.time > time + SLACK_MS)
      lines.unshift(`sent at ${next.time} ms, not ${time}`);
    if (next.sent.port !== port) lines.unshift(`sent to port ${next.sent.port}`);
    this.judge(next, lines);
    return next.packet;
  }

  /** The engine forwards the frame that was received last, with only its MAC addresses changed. */
  expectForwarded(time: number, node: number, original: PacketSpec | Uint8Array, flags = 0): void {
    const frame = (original instanceof Uint8Array ? original : build(original, KEY)).slice();
    frame.set(macBytes(MANY_NODES[node]!.mac), 0);
    frame.set(this.nodeMac ?? macBytes(BALANCER.mac), 6);
    const next = this.heard.shift();
    if (next === undefined) {
      this.t.fail(`nothing was passed on at ${time} ms`);
      return;
    }
    const { sent } = next;
    const toNode = this.nodeMac === undefined ? Port.wire : Port.nodes;
    const lines: string[] = [];
    if (!Buffer.from(frame).equals(sent.frame))
      lines.push(`expected ${describe(parse(frame, KEY))}`);
    if (sent.received === undefined) lines.push('not passed on in place');
    if (sent.flags !== flags) lines.push(`its flags are ${sent.flags}, not ${flags}`);
    if (sent.port !== toNode) lines.push(`sent to port ${sent.port}`);
    if (next.time !== time) lines.push(`sent at ${next.time} ms, not ${time}`);
    this.judge(next, lines);
  }

  /**
   * Judges a frame: `lines` say what is wrong with it. All right frames together are one assertion,
   * because there are tens of thousands of them. A wrong frame is shown with those before it.
   */
  private judge({ time, sent, packet }: Heard, lines: readonly string[]): void {
    if (lines.length > 0) {
      const hex = Buffer.from(sent.frame).toString('hex');
      const before = this.right.map(({ time, packet }) => `${time} ms: ${describe(packet)}`);
      this.t.fail(`${time} ms: ${lines.join('; ')}: ${describe(packet)}`, { hex, before });
    } else if (this.right.push({ time, packet }) === 1) {
      this.t.pass('frames are as expected');
    } else if (this.right.length > MOST_SHOWN) {
      this.right.splice(1, 1);
    }
  }

  /** Time passes until `time`, and nothing unexpected is sent. */
  quiet(time: number): void {
    this.advance(time);
    const [next] = this.heard;
    if (next !== undefined) this.t.fail(`sent at ${next.time} ms: ${describe(next.packet)}`);
    this.heard.length = 0;
  }

  /** Time passes until `time`. Returns whatever is sent meanwhile. */
  rest(time: number): ParsedPacket[] {
    this.advance(time);
    return this.heard.splice(0).map(({ packet }) => packet);
  }

  /** Ends the conversation: nothing more is sent until `time`, and this many sessions are left. */
  end(time: number, sessions?: number): void {
    this.quiet(time);
    if (sessions !== undefined)
      this.t.equal(this.engine.sessions.size, sessions, `${sessions} sessions are left`);
  }

  /** Counters that must have these values. */
  counted(values: Partial<Record<CounterName, number>>): void {
    for (const [name, value] of Object.entries(values)) {
      this.t.equal(this.counters.get(name as CounterName), value, `${name} is ${value}`);
    }
  }

  /** SYN, SYN/ACK and ACK of the usual client at `time`: without options, from 1000 and 5000. */
  handshake(time: number, syn: TcpSpec = {}, rest: PacketSpec = {}): ParsedPacket {
    const seq = syn.seq ?? 1000;
    const port = syn.sourcePort ?? CLIENT.port;
    this.send(time, fromClient({ flags: 'S', seq, ...syn }, undefined, rest));
    const answer = this.expect(
      time,
      toClient({ flags: 'SA', destinationPort: port, ack: (seq + 1) >>> 0 }, reversed(rest)),
    );
    const ack = (answer.tcp!.seq + 1) >>> 0;
    const stamps = answer.tcp!.options.timestamps;
    const options =
      stamps === undefined ? {} : { timestamps: [syn.options!.timestamps![0], stamps[0]] as const };
    this.send(
      time,
      fromClient(
        { flags: 'A', sourcePort: port, seq: (seq + 1) >>> 0, ack, options },
        undefined,
        rest,
      ),
    );
    return answer;
  }

  /** A session of the usual client that node 0 has taken: GET /0, confirmed at `time`. */
  passing(time: number, path = '/0', node = 0): number {
    this.handshake(time);
    const request = get(path);
    this.send(time, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, request));
    this.expect(
      time,
      inIxp(node, { type: IXP_TYPE.adopt }, { flags: 'PA', seq: 1001, ack: ISN + 1 }, request),
    );
    this.send(time, notice(node, NOTICE.adopted, { seq: ISN + 1, ack: 1001 + request.length }));
    return 1001 + request.length;
  }

  private advance(time: number): void {
    while (this.now < time) {
      this.now = Math.min(time, this.now + 1);
      this.engine.tick(this.start + this.now);
      this.collect();
    }
  }

  private collect(): void {
    for (const sent of this.datapath.take()) {
      this.heard.push({ time: this.now, sent, packet: parse(sent.frame, KEY) });
    }
  }

  private observer(): Observer {
    const node = (index: number): string => `node ${index}`;
    const say = (text: string): void => {
      this.events.push(text);
    };
    return {
      opened: () => say('opened'),
      established: () => say('established'),
      request: (_slot, verdict, bytes, start, end) =>
        say(`request ${verdict} ${Buffer.from(bytes.subarray(start, end)).toString('latin1')}`),
      rewritten: (_slot, bytes, start, end) =>
        say(`rewritten ${Buffer.from(bytes.subarray(start, end)).toString('latin1')}`),
      handoff: (_slot, index, attempt) => say(`handoff ${node(index)} attempt ${attempt}`),
      answered: (_slot, answer) => say(`answered ${answer}`),
      adopted: (_slot, index) => say(`adopted ${node(index)}`),
      refused: (_slot, index, reason) => say(`refused ${node(index)} reason ${reason}`),
      unconfirmed: (_slot, index) => say(`unconfirmed ${node(index)}`),
      released: (_slot, index) => say(`released ${node(index)}`),
      silent: (_slot, index) => say(`silent ${node(index)}`),
      closed: (_slot, reason) => say(`closed ${reason}`),
      reported: (index, flags) => say(`reported ${node(index)} ${flags}`),
      badKey: (index) => say(`bad key ${node(index)}`),
    };
  }
}

/** The addresses of an answer to a packet with these addresses. */
function reversed(rest: PacketSpec): PacketSpec {
  return {
    ...(rest.ethernet?.source === undefined
      ? {}
      : { ethernet: { destination: rest.ethernet.source } }),
    ...(rest.ip?.source === undefined ? {} : { ip: { destination: rest.ip.source } }),
  };
}
