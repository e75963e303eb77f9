/**
 * A session whose handshake is replayed to a node of a test (shim-node.ts), by a client that knows
 * only the numbers of the stream.
 */
import type { Socket } from 'node:net';
import type { PacketSpec, TcpOptionsSpec, TcpSpec } from '../../lab/packet.js';
import { describe, type ParsedPacket } from '../support/packet-parse.js';
import { ACK, handoff, SEQ, SESSION } from './shim-fixture.js';
import { Ixcp, REQUEST_END, type Session, type ShimNode } from './shim-node.js';

/** IxpFlag bits of the handshake. */
export const Flag = { scale: 1, sack: 2, timestamps: 4, all: 7 } as const;
export const CLIENT_MSS = 1200;
export const CLIENT_SCALE = 5;
const REPLAY = 8;
/** The client's TSval in its SYN. */
const CLIENT_CLOCK = 1000;
/** The balancer's TSval clock when the SYN is played. */
const CLOCK = 0xffff_ff00;
const MOST_MS = 60_000;

export interface Agreed {
  /** Default: all. */
  flags?: number;
  /** The window shift that the balancer has promised to the client. */
  promised?: number;
}

export interface Open {
  replayed: Replayed;
  socket: Socket;
  request: string;
}

export class Replayed {
  readonly port: number;
  readonly session: Session;
  private readonly flags: number;
  private readonly promised: number;
  private clientClock = CLIENT_CLOCK;
  /** The last TSval that the client has seen: at first that of the balancer's SYN/ACK. */
  private seen = CLOCK - 500;

  constructor(
    private readonly node: ShimNode,
    { flags = Flag.all, promised = 7 }: Agreed = {},
    readonly nonce = SESSION,
    port = node.nextPort++,
  ) {
    this.port = port;
    this.flags = flags;
    this.promised = promised;
    this.session = node.newSession(nonce, port);
  }

  /** Replays a handshake, hands the request over, and waits until the server has it. */
  static async open(node: ShimNode, agreed?: Agreed): Promise<Open> {
    const replayed = new Replayed(node, agreed);
    node.wire.send(replayed.syn());
    await replayed.session.expectNotice(Ixcp.synAck, { ack: SEQ, reason: 0 });
    return replayed.adopt();
  }

  /** Hands the request over, and waits until the server has it. */
  async adopt(): Promise<Open> {
    const { session } = this;
    const accepted = session.socket();
    session.adopt({ ixp: this.attributes(), tcp: { options: this.options(), window: 0x4000 } });
    await session.expectNotice(Ixcp.adopted, { seq: ACK, ack: REQUEST_END, reason: 0 });
    const { socket, request } = await accepted;
    await this.hear('the ACK of the request', { seq: ACK, ack: REQUEST_END, flags: 'A' });
    return { replayed: this, socket, request };
  }

  /** IXP_REPLAY, with these changes. */
  syn(change: PacketSpec = {}): PacketSpec {
    const { flags } = this;
    const options: TcpOptionsSpec = {
      mss: CLIENT_MSS,
      ...(flags & Flag.scale ? { windowScale: CLIENT_SCALE } : {}),
      ...(flags & Flag.sack ? { sackPermitted: true } : {}),
      ...(flags & Flag.timestamps ? { timestamps: [CLIENT_CLOCK, 0] as const } : {}),
    };
    const tcp: TcpSpec = { sourcePort: this.port, seq: SEQ - 1, ack: ACK, flags: 'S', options };
    return handoff({
      ...change,
      ixp: { session: this.nonce, type: REPLAY, ...this.attributes(), ...change.ixp },
      tcp: { ...tcp, ...change.tcp },
      payload: change.payload ?? '',
    });
  }

  /** Sends a segment of the client in plain form. */
  say(tcp: TcpSpec, payload = '', sack?: readonly (readonly [number, number])[]): void {
    const more = { flags: 'A', window: 0x4000, options: this.options(sack), ...tcp };
    this.node.wire.send({ ...this.node.plain(this.port, more), payload });
  }

  /**
   * Waits for the node's next segment with these fields, for the client.
   * @throws Error when its options are not those of the stream
   */
  async hear(what: string, tcp: TcpSpec, payload?: string): Promise<ParsedPacket> {
    const packet = await this.session.sent(what, tcp, payload);
    const { timestamps, sack } = packet.tcp!.options;
    const wrong = (reason: string): Error => new Error(`${what}, ${reason}: ${describe(packet)}`);
    if ((timestamps !== undefined) !== ((this.flags & Flag.timestamps) !== 0))
      throw wrong('timestamps');
    if (sack !== undefined && (this.flags & Flag.sack) === 0) throw wrong('SACK');
    if (timestamps === undefined) return packet;
    const step = (timestamps[0] - this.seen) | 0;
    if (step < 0 || step > MOST_MS) throw wrong(`the clock of the stream moves by ${step} ms`);
    if (timestamps[1] < CLIENT_CLOCK || timestamps[1] > this.clientClock)
      throw wrong('the echo is none of the client');
    this.seen = timestamps[0];
    return packet;
  }

  private attributes(): NonNullable<PacketSpec['ixp']> {
    const scales = (CLIENT_SCALE << 4) | this.promised;
    const { flags } = this;
    return {
      flags,
      scales,
      mss: CLIENT_MSS,
      tsval: CLIENT_CLOCK,
      tsecr: CLOCK,
      confirm: REQUEST_END,
    };
  }

  /** Options of the client's next segment. */
  private options(sack?: readonly (readonly [number, number])[]): TcpOptionsSpec {
    this.clientClock += 1;
    const stamped = (this.flags & Flag.timestamps) !== 0;
    return {
      ...(stamped ? { timestamps: [this.clientClock, this.seen] as const } : {}),
      ...(sack === undefined ? {} : { sack }),
    };
  }
}
