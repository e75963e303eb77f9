/**
 * A model of a node: the shim (bpf/shim/shim.bpf.c), the kernel's TCP, and a web server. It is as
 * strict as a real node: it verifies tags, lengths and checksums, and answers a plain segment
 * without a socket with RST.
 */
import { build, type PacketSpec } from '../../lab/packet.js';
import type { ParsedPacket } from '../support/packet-parse.js';
import type { Clock } from './clock.js';
import { parsed } from './parsed.js';
import type { Random } from './random.js';
import { resetFor, type Segment } from './segment.js';
import { type Application, WebServer, type WebServerOptions } from './server.js';
import {
  FollowedAnswers,
  IxpFlag,
  lastFin,
  refusalOf,
  type ShimSession,
  turned,
} from './shim-session.js';
import { Endpoint } from './tcp-endpoint.js';

export interface NodeWorld {
  readonly clock: Clock;
  readonly key: Uint8Array;
  readonly virtualAddress: string;
  readonly virtualPort: number;
  /** No segment in this world is forged. */
  readonly trusting: boolean;
  clientMac(address: string): string;
  violation(message: string): void;
  /** The node has adopted a session: there is a new socket. */
  built(node: SimNode, packet: ParsedPacket): void;
  transmit(node: SimNode, frame: Uint8Array): void;
  /**
   * A frame of IXP of this type has arrived. Returns true when the node loses power at this moment;
   * it may also lose it soon.
   */
  dies(node: SimNode, type: number): boolean;
}

interface Socket {
  endpoint: Endpoint;
  application: Application;
}

const NOTICE = { adopted: 1, refused: 2, fin: 3, reset: 4, report: 5, left: 9 } as const;
const REASON_NO_LISTENER = 1;
const ADOPT = 1;
const SEGMENT = 2;
const LEAVE = 4;
/** In reports: this node can adopt, and sessions can leave it. */
const CAN_ADOPT = 1;
const CAN_LEAVE = 8;
const WSCALE_OK = 1;
const SACK_OK = 2;
const TSTAMP_OK = 4;
const CLIENT_CONFIRMS = 8;
const HOLD_RESET = 0x40;
const REASON_HELD_BACK = 8;
const INITIAL_WINDOW_BYTES = 14_600;
const NO_SESSION: Omit<ShimSession, 'nonce' | 'balancer' | 'balancerMac'> = {
  confirm: 0,
  asked: 0,
  answered: 0,
  sent: false,
  holdReset: false,
  noticeFrom: undefined,
  answers: undefined,
  left: undefined,
};

export interface SimNodeOptions {
  index: number;
  name: string;
  mac: string;
  address: string;
  server: WebServerOptions;
}

export class SimNode {
  private readonly entries = new Map<string, ShimSession>();
  private readonly sockets = new Map<string, Socket>();
  /** Nothing comes in or goes out. */
  down = false;
  /** The web server is not listening. */
  deaf = false;
  readonly counts = {
    adopted: 0,
    refused: 0,
    left: 0,
    stayed: 0,
    died: 0,
    forged: 0,
    strayed: 0,
    resets: 0,
  };
  private readonly start: number;

  constructor(
    readonly options: SimNodeOptions,
    private readonly world: NodeWorld,
    private readonly random: Random,
  ) {
    this.start = random.bits();
  }

  get openSockets(): number {
    return this.sockets.size;
  }

  /** The machine is switched off and forgets everything. */
  stop(): void {
    this.down = true;
    for (const { endpoint, application } of this.sockets.values()) {
      endpoint.vanish();
      application.stop();
    }
    this.sockets.clear();
    this.entries.clear();
  }

  /** Sends a report to the balancer, as the agent does every second. */
  report(balancer: string, balancerMac: string): void {
    if (this.down) return;
    this.notice(
      { ...NO_SESSION, nonce: this.start, balancer, balancerMac },
      {
        type: NOTICE.report,
        flags: CAN_ADOPT | CAN_LEAVE,
        seq: Math.floor(this.world.clock.now / 1000) >>> 0,
        virtualAddress: '0.0.0.0',
      },
    );
  }

  receive(frame: Uint8Array): void {
    if (this.down) return;
    const packet = parsed(frame, this.world.key);
    if (packet.problems.length > 0 || packet.ip === undefined) {
      this.counts.forged++;
      return;
    }
    if (packet.ixp !== undefined) this.shimIngress(packet);
    else if (packet.tcp !== undefined) this.deliver(packet);
  }

  private tuple(packet: ParsedPacket): string {
    return `${packet.ip!.source}:${packet.tcp!.sourcePort}`;
  }

  private segmentOf(packet: ParsedPacket): Segment {
    const { seq, ack, flags, window, options } = packet.tcp!;
    return { seq, ack, flags, window, options, payload: packet.payload.slice() };
  }

  /** What the kernel's TCP does with a segment. */
  private deliver(packet: ParsedPacket): void {
    const tuple = this.tuple(packet);
    const segment = this.segmentOf(packet);
    const socket = this.sockets.get(tuple);
    if (socket !== undefined) {
      socket.endpoint.receive(segment);
      return;
    }
    this.counts.strayed++;
    const reset = resetFor(segment);
    if (reset !== undefined) this.shimEgress(tuple, reset);
  }

  private shimIngress(packet: ParsedPacket): void {
    const ixp = packet.ixp!;
    const tcp = packet.tcp!;
    const tuple = this.tuple(packet);
    const isKnown = ixp.type === ADOPT || ixp.type === SEGMENT || ixp.type === LEAVE;
    if (ixp.version !== 1 || ixp.length !== 36 || !isKnown) {
      this.world.violation(`${this.options.name}: IXP with a wrong version, length or type`);
      return;
    }
    if (this.world.dies(this, ixp.type)) return;
    const entry = this.entries.get(tuple);
    const socket = this.sockets.get(tuple);
    if (ixp.type === LEAVE) {
      this.leave(tuple, entry, packet);
      return;
    }
    const same = entry?.nonce === ixp.session;
    const { left } = entry ?? {};
    // A session that moved on and comes back brings bytes that it has not had here.
    if (same && left !== undefined && (ixp.type === SEGMENT || ((ixp.confirm - left.at) | 0) <= 0))
      return;
    const known = same && left === undefined;
    // An established socket answers a SYN with a challenge ACK; one in TIME-WAIT would accept it.
    if (ixp.type === SEGMENT && tcp.flags.includes('S') && socket?.endpoint.state === 'time-wait')
      return;
    if (ixp.type === ADOPT) {
      if (!tcp.flags.includes('A') || /[SR]/.test(tcp.flags)) return;
      if (tcp.flags.includes('F') && packet.payload.length === 0) return;
    }
    if (entry !== undefined && known && ixp.type === SEGMENT && (ixp.flags & IxpFlag.head) !== 0)
      entry.answers?.expectHead(ixp.tsval);
    if (entry !== undefined && known && socket !== undefined) {
      const { receiveNext } = socket.endpoint;
      if (
        ixp.type === ADOPT &&
        socket.endpoint.state !== 'time-wait' &&
        ((receiveNext - ixp.confirm) | 0) >= 0
      ) {
        this.answer(entry, packet, NOTICE.adopted, 0, receiveNext);
        return;
      }
      entry.asked++;
      if (((ixp.confirm - entry.confirm) | 0) > 0) entry.confirm = ixp.confirm;
      this.deliver(packet);
      return;
    }
    if (ixp.type === SEGMENT) return;
    const fresh: ShimSession = {
      nonce: ixp.session,
      balancer: ixp.balancer,
      balancerMac: packet.ethernet.source,
      confirm: ixp.confirm,
      asked: 1,
      answered: 0,
      sent: false,
      holdReset: (ixp.flags & HOLD_RESET) !== 0,
      noticeFrom:
        (ixp.flags & CLIENT_CONFIRMS) !== 0 ? (tcp.ack + INITIAL_WINDOW_BYTES) >>> 0 : undefined,
      answers:
        (ixp.flags & IxpFlag.follow) !== 0
          ? new FollowedAnswers(tcp.ack, (ixp.flags & IxpFlag.head) !== 0 ? 1 : 0)
          : undefined,
      left: undefined,
    };
    // A request that a socket has answered must not be sent a second time.
    if (entry !== undefined && known && entry.sent) {
      this.answer(fresh, packet, NOTICE.reset, 0);
      return;
    }
    if (this.deaf) {
      this.counts.refused++;
      this.answer(fresh, packet, NOTICE.refused, REASON_NO_LISTENER);
      return;
    }
    // The shim removes an older socket of this four-tuple by an RST that only that socket sees.
    if (socket !== undefined) {
      socket.endpoint.vanish();
      socket.application.stop();
      this.sockets.delete(tuple);
    }
    this.entries.set(tuple, fresh);
    this.adopt(tuple, packet);
  }

  /** A frame of LEAVE. */
  private leave(tuple: string, entry: ShimSession | undefined, packet: ParsedPacket): void {
    const { seq, ack } = packet.tcp!;
    const { session, balancer, tsval } = packet.ixp!;
    const { endpoint } = this.sockets.get(tuple) ?? {};
    const reason = refusalOf(entry, endpoint, { nonce: session, seq, ack, requests: tsval });
    const about = entry ?? { ...NO_SESSION, balancer, balancerMac: packet.ethernet.source };
    if (reason !== 0 || entry === undefined) {
      this.counts.stayed++;
      this.answer({ ...about, nonce: session }, packet, NOTICE.refused, reason);
      return;
    }
    if (entry.left === undefined) {
      this.counts.left++;
      entry.left = { at: seq, since: this.world.clock.now };
      endpoint?.receive(lastFin(seq, ack));
    }
    this.answer(entry, packet, NOTICE.left, 0);
  }

  private adopt(tuple: string, packet: ParsedPacket): void {
    const ixp = packet.ixp!;
    const tcp = packet.tcp!;
    const world = this.world;
    this.counts.adopted++;
    world.built(this, packet);
    const scaled = (ixp.flags & WSCALE_OK) !== 0;
    const stamped = (ixp.flags & TSTAMP_OK) !== 0;
    const endpoint = new Endpoint({
      clock: world.clock,
      random: this.random,
      hooks: {
        transmit: (segment) => this.shimEgress(tuple, segment),
        receive: (bytes) => application.receive(bytes),
        remoteClosed: () => application.remoteClosed(),
        ended: () => {
          application.stop();
          if (this.sockets.get(tuple)?.endpoint === endpoint) this.sockets.delete(tuple);
        },
        violation: (message) => world.violation(`${this.options.name}, ${tuple}: ${message}`),
      },
      isn: (tcp.ack - 1) >>> 0,
      mss: 1460,
      windowScale: scaled ? ixp.scales & 15 : undefined,
      sack: (ixp.flags & SACK_OK) !== 0,
      timestamps: stamped,
      receiveBuffer: 64_000,
      // The socket's TSval continues from what the client has seen.
      timestampOffset: (ixp.tsecr - Math.floor(world.clock.now)) >>> 0,
      mangle: false,
      timeWaitMs: 10_000,
      maxRetries: 8,
      trusting: world.trusting,
    });
    const application = new WebServer(this.options.server, endpoint, tuple, this.random);
    this.sockets.set(tuple, { endpoint, application });
    endpoint.adopt((tcp.seq - 1) >>> 0, {
      mss: ixp.mss,
      scale: scaled ? ixp.scales >> 4 : undefined,
      sack: (ixp.flags & SACK_OK) !== 0,
      recent: stamped ? ixp.tsval : undefined,
    });
    endpoint.receive(this.segmentOf(packet));
    application.begin();
  }

  private shimEgress(tuple: string, segment: Segment): void {
    if (this.down) return;
    const [client = '', port = ''] = tuple.split(':');
    const entry = this.entries.get(tuple);
    if (entry?.left !== undefined) {
      this.turn(tuple, turned(entry.left, segment, this.world.clock.now));
      return;
    }
    if (entry !== undefined) {
      entry.answers?.take(segment);
      const about = { client, clientPort: Number(port), seq: segment.seq, ack: segment.ack };
      entry.sent = true;
      if (segment.payload.length > 0) entry.holdReset = false;
      if (entry.holdReset && /[RF]/.test(segment.flags)) {
        this.notice(entry, { type: NOTICE.reset, reason: REASON_HELD_BACK, ...about });
        return;
      }
      if (segment.flags.includes('R')) {
        this.counts.resets++;
        this.notice(entry, { type: NOTICE.reset, ...about });
      } else {
        const clientConfirms =
          entry.noticeFrom !== undefined &&
          entry.asked === 1 &&
          ((segment.seq - entry.noticeFrom) | 0) < 0;
        if (entry.asked !== entry.answered && !clientConfirms) {
          this.notice(entry, { type: NOTICE.adopted, ...about });
          if (((segment.ack - entry.confirm) | 0) >= 0) entry.answered = entry.asked;
        }
        if (segment.flags.includes('F')) this.notice(entry, { type: NOTICE.fin, ...about });
      }
    }
    const { seq, ack, flags, window, options, payload } = segment;
    this.emit({
      ethernet: { source: this.options.mac, destination: this.world.clientMac(client) },
      ip: { source: this.world.virtualAddress, destination: client },
      tcp: {
        sourcePort: this.world.virtualPort,
        destinationPort: Number(port),
        seq,
        ack,
        flags,
        window,
        options,
      },
      payload,
    });
  }

  /** Gives a segment back to the socket that the session has left. */
  private turn(tuple: string, segment: Segment | undefined): void {
    const socket = this.sockets.get(tuple);
    if (segment === undefined || socket === undefined) return;
    this.world.clock.after(0, () => socket.endpoint.receive(segment));
  }

  /**
   * Answers an IXP frame with a notice: sequence numbers of a socket that took nothing, or
   * everything up to `taken`.
   */
  private answer(
    entry: ShimSession,
    packet: ParsedPacket,
    type: number,
    reason: number,
    taken?: number,
  ): void {
    const { sourcePort, seq, ack } = packet.tcp!;
    this.notice(entry, {
      type,
      reason,
      client: packet.ip!.source,
      clientPort: sourcePort,
      seq: ack,
      ack: taken ?? seq,
    });
  }

  private notice(entry: ShimSession, fields: NonNullable<PacketSpec['ixcp']>): void {
    this.emit({
      ethernet: { source: this.options.mac, destination: entry.balancerMac },
      ip: { source: this.options.address, destination: entry.balancer },
      ixcp: {
        session: entry.nonce,
        virtualAddress: this.world.virtualAddress,
        virtualPort: this.world.virtualPort,
        // A device may have written a checksum here: the receiver must ignore it.
        hole: 0,
        ...fields,
      },
    });
  }

  private emit(spec: PacketSpec): void {
    this.world.transmit(this, build(spec, this.world.key));
  }
}
