/** The shim of a simulated node (bpf/shim/shim.bpf.c): what it does with IXP, and its notices. */
import type { PacketSpec } from '../../lab/packet.js';
import type { ParsedPacket } from '../support/packet-parse.js';
import type { SimNode, Socket } from './node.js';
import {
  countPayload,
  hasEnded,
  heldBack,
  isParked,
  park,
  resume,
  resumeRefusal,
  streamNext,
} from './parked.js';
import { Replays } from './replays.js';
import type { Segment } from './segment.js';
import {
  FollowedAnswers,
  freshSession,
  IxpFlag,
  lastFin,
  NOTICE,
  Reason,
  refusalOf,
  type ShimSession,
  segmentOf,
  turned,
} from './shim-session.js';

const Type = { adopt: 1, segment: 2, leave: 4, park: 5, resume: 6, awake: 7, replay: 8 } as const;
const KNOWN_TYPES: ReadonlySet<number> = new Set(Object.values(Type));
const REASON_HELD_BACK = 8;
const REASON_PARKED = 9;
/**
 * In reports: this node can adopt; sessions can leave it; it can keep their sockets; it takes
 * sessions by replay.
 */
const CAN_ADOPT = 1;
const CAN_LEAVE = 8;
const CAN_PARK = 0x100;
const CAN_REPLAY = 0x400;
const CLIENT_CONFIRMS = 8;
const INITIAL_WINDOW_BYTES = 14_600;

export class Shim {
  private readonly entries = new Map<string, ShimSession>();
  private readonly replays: Replays;

  constructor(
    private readonly node: SimNode,
    private readonly start: number,
  ) {
    this.replays = new Replays(node, {
      begin: (tuple, session) => this.entries.set(tuple, session),
      newSession: (packet) => this.newSession(packet),
      answer: (...about) => this.answer(...about),
    });
  }

  forget(): void {
    this.entries.clear();
  }

  private get abilities(): number {
    const { options, world } = this.node;
    const adopts = options.kernel === 'replays' ? 0 : CAN_ADOPT;
    return adopts | CAN_LEAVE | (world.parks ? CAN_PARK : 0) | CAN_REPLAY;
  }

  report(balancer: string, balancerMac: string): void {
    const { world } = this.node;
    this.notice(freshSession({ nonce: this.start, balancer, balancerMac }), {
      type: NOTICE.report,
      flags: this.abilities,
      seq: Math.floor(world.clock.now / 1000) >>> 0,
      virtualAddress: '0.0.0.0',
    });
  }

  /** A segment in plain form. */
  receivePlain(packet: ParsedPacket): void {
    const tuple = tupleOf(packet);
    this.give(tuple, this.entries.get(tuple), segmentOf(packet));
  }

  /** A frame of IXP. */
  receive(packet: ParsedPacket): void {
    const { node } = this;
    const ixp = packet.ixp!;
    const tuple = tupleOf(packet);
    if (ixp.version !== 1 || ixp.length !== 36 || !KNOWN_TYPES.has(ixp.type)) {
      node.world.violation(`${node.options.name}: IXP with a wrong version, length or type`);
      return;
    }
    if (node.world.dies(node, ixp.type)) return;
    const entry = this.entries.get(tuple);
    const socket = node.socketOf(tuple);
    switch (ixp.type) {
      case Type.leave:
      case Type.park:
        this.leave(entry, socket, packet);
        return;
      case Type.awake:
        if (entry?.nonce === ixp.session && entry.parked?.at === packet.tcp!.seq)
          entry.parked.awake = true;
        return;
      case Type.replay:
        this.replays.play(tuple, entry, socket, packet);
        return;
      case Type.resume:
        if (this.resumes(tuple, entry, socket, packet)) return;
    }
    this.adoptOrGive(tuple, entry, socket, packet);
  }

  /** A segment of the kernel's TCP. */
  send(tuple: string, raw: Segment): void {
    const { node } = this;
    const entry = this.entries.get(tuple);
    if (entry === undefined) {
      node.toClient(tuple, raw);
      return;
    }
    if (entry.left !== undefined) {
      this.turn(tuple, turned(entry.left, raw, node.world.clock.now));
      return;
    }
    const endpoint = node.socketOf(tuple)?.endpoint;
    const segment = entry.translation.outward(raw);
    const about = aboutSegment(tuple, segment);
    const waits = endpoint !== undefined ? isParked(entry, endpoint) : entry.parked !== undefined;
    const held = waits ? heldBack(entry, segment) : undefined;
    if (held !== undefined) {
      node.counts.held++;
      const seq = held === 'rst' ? segment.seq : entry.parked!.end;
      this.notice(entry, { type: NOTICE[held], reason: REASON_PARKED, ...about, seq });
      return;
    }
    entry.answers?.take(segment);
    entry.sent = true;
    if (segment.payload.length > 0) entry.holdReset = false;
    if (entry.holdReset && /[RF]/.test(segment.flags)) {
      this.notice(entry, { type: NOTICE.rst, reason: REASON_HELD_BACK, ...about });
      return;
    }
    this.tell(entry, segment, about);
    if (endpoint !== undefined && (hasEnded(entry, endpoint) || (waits && isRepeated(segment))))
      this.ended(entry, about);
    node.toClient(tuple, segment);
  }

  /** The notices that a segment for the client causes. */
  private tell(entry: ShimSession, segment: Segment, about: PacketSpec['ixcp']): void {
    if (segment.flags.includes('R')) {
      this.node.counts.resets++;
      this.notice(entry, { type: NOTICE.rst, ...about });
      return;
    }
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

  private ended(entry: ShimSession, about: PacketSpec['ixcp']): void {
    const { at, end } = entry.parked!;
    const answers = entry.answers!.ended & 0xffff;
    this.notice(entry, { type: NOTICE.ended, ...about, seq: end, ack: at, flags: answers });
  }

  /** Gives a segment to the kernel's TCP, in the numbers of the socket. */
  private give(tuple: string, entry: ShimSession | undefined, segment: Segment): void {
    const { node } = this;
    const endpoint = node.socketOf(tuple)?.endpoint;
    if (entry === undefined || entry.left !== undefined) {
      node.deliver(tuple, segment);
      return;
    }
    if (endpoint === undefined) {
      // Nothing but an ADOPT completes the handshake of a listener.
      if (entry.waiting === undefined) node.deliver(tuple, entry.translation.inward(segment));
      return;
    }
    const wasParked = isParked(entry, endpoint);
    const end = (segment.seq + segment.payload.length) >>> 0;
    const isNew = ((end - streamNext(entry, endpoint)) | 0) > 0;
    if (isNew && segment.payload.length > 0 && !/[RS]/.test(segment.flags))
      countPayload(entry, wasParked, end);
    node.deliver(tuple, entry.translation.inward(segment));
  }

  private adoptOrGive(
    tuple: string,
    entry: ShimSession | undefined,
    socket: Socket | undefined,
    packet: ParsedPacket,
  ): void {
    const { node } = this;
    const ixp = packet.ixp!;
    const tcp = packet.tcp!;
    const isSegment = ixp.type === Type.segment;
    const same = entry?.nonce === ixp.session;
    const { left } = entry ?? {};
    // A session that moved on and comes back brings bytes that it has not had here.
    if (same && left !== undefined && (isSegment || ((ixp.confirm - left.at) | 0) <= 0)) return;
    const waits = same && socket !== undefined && isParked(entry!, socket.endpoint);
    // It does not know yet where the stream is, or has nothing that the balancer knows of.
    if (waits && isSegment && ((tcp.seq - entry!.parked!.at) | 0) > 0) return;
    const returns = waits && ixp.type === Type.adopt && ((ixp.confirm - entry!.parked!.at) | 0) > 0;
    const known = same && left === undefined && !returns;
    // An established socket answers a SYN with a challenge ACK; one in TIME-WAIT would accept it.
    if (isSegment && tcp.flags.includes('S') && socket?.endpoint.state === 'time-wait') return;
    if (!isSegment) {
      if (!tcp.flags.includes('A') || /[SR]/.test(tcp.flags)) return;
      if (tcp.flags.includes('F') && packet.payload.length === 0) return;
    }
    if (entry !== undefined && known && isSegment && (ixp.flags & IxpFlag.head) !== 0)
      entry.answers?.expectHead(ixp.tsval);
    if (entry !== undefined && known && socket !== undefined) {
      const next = streamNext(entry, socket.endpoint);
      const hasAll = ((next - ixp.confirm) | 0) >= 0;
      if (!isSegment && socket.endpoint.state !== 'time-wait' && hasAll) {
        this.answer(entry, packet, NOTICE.adopted, 0, next);
        return;
      }
      entry.asked++;
      if (((ixp.confirm - entry.confirm) | 0) > 0) entry.confirm = ixp.confirm;
      this.give(tuple, entry, segmentOf(packet));
      return;
    }
    const { waiting } = entry ?? {};
    if (isSegment) {
      if (known && tcp.flags.includes('R')) entry!.waiting = undefined;
      return;
    }
    if (known && entry?.replayed && !entry.sent) {
      if (waiting !== undefined) this.replays.complete(tuple, entry, waiting, packet);
      return;
    }
    const fresh = this.newSession(packet);
    // A request that a socket has answered must not be sent a second time.
    const isLater = entry !== undefined && ((tcp.seq - entry.began) | 0) > 0;
    if (entry !== undefined && known && entry.sent && !isLater) {
      this.answer(fresh, packet, NOTICE.rst, 0);
      return;
    }
    if (node.deaf) {
      node.counts.refused++;
      this.answer(fresh, packet, NOTICE.refused, Reason.noListener);
      return;
    }
    if (node.options.kernel !== 'adopts') {
      node.counts.refused++;
      this.answer(fresh, packet, NOTICE.refused, Reason.unable);
      return;
    }
    // The shim removes an older socket of this four-tuple by an RST that only that socket sees.
    node.removeSocket(tuple);
    this.entries.set(tuple, fresh);
    node.adopt(tuple, packet, segmentOf(packet));
  }

  /** The session of an ADOPT. */
  private newSession(packet: ParsedPacket): ShimSession {
    const ixp = packet.ixp!;
    const tcp = packet.tcp!;
    const session = freshSession({
      nonce: ixp.session,
      balancer: ixp.balancer,
      balancerMac: packet.ethernet.source,
    });
    session.confirm = ixp.confirm;
    session.began = tcp.seq;
    session.asked = 1;
    this.expect(session, packet);
    if ((ixp.flags & CLIENT_CONFIRMS) !== 0)
      session.noticeFrom = (tcp.ack + INITIAL_WINDOW_BYTES) >>> 0;
    if ((ixp.flags & IxpFlag.follow) === 0) session.answers = undefined;
    return session;
  }

  /** What the flags of ADOPT and RESUME say about the answers. */
  private expect(session: ShimSession, packet: ParsedPacket): void {
    const { flags, confirm } = packet.ixp!;
    session.holdReset = (flags & IxpFlag.holdReset) !== 0;
    session.answers = new FollowedAnswers(packet.tcp!.ack, (flags & IxpFlag.head) !== 0 ? 1 : 0);
    session.tells =
      (flags & IxpFlag.tell) !== 0
        ? { requests: 1, isUnknown: false, oneUntil: confirm }
        : undefined;
  }

  /** A frame of RESUME. Returns false if it repeats one, and its segment is for the socket. */
  private resumes(
    tuple: string,
    entry: ShimSession | undefined,
    socket: Socket | undefined,
    packet: ParsedPacket,
  ): boolean {
    const { node } = this;
    const ixp = packet.ixp!;
    const { seq, ack, options } = packet.tcp!;
    const endpoint = socket?.endpoint;
    if (entry?.nonce === ixp.session && entry.place !== undefined) {
      if (((seq - entry.place) | 0) < 0) return true;
      const isParkedHere = endpoint !== undefined && isParked(entry, endpoint);
      if (entry.place === seq && entry.tells !== undefined && !isParkedHere && entry.resumed)
        return false;
    }
    const reason = resumeRefusal(entry, endpoint, ixp.session);
    if (reason !== 0 || entry === undefined || endpoint === undefined) {
      node.counts.refused++;
      const about = { balancer: ixp.balancer, balancerMac: packet.ethernet.source };
      const session = freshSession({ nonce: ixp.session, ...about });
      this.answer(session, packet, NOTICE.refused, reason);
      return true;
    }
    node.counts.resumed++;
    const echoed = options.timestamps?.[1];
    resume(entry, endpoint, { seq, ack, tsecr: ixp.tsecr, echoed });
    entry.resumed = true;
    entry.began = seq;
    entry.confirm = ixp.confirm;
    entry.asked++;
    entry.sent = false;
    entry.noticeFrom = undefined;
    this.expect(entry, packet);
    this.give(tuple, entry, segmentOf(packet));
    return true;
  }

  /** A frame of LEAVE or PARK. */
  private leave(
    entry: ShimSession | undefined,
    socket: Socket | undefined,
    packet: ParsedPacket,
  ): void {
    const { node } = this;
    const { seq, ack } = packet.tcp!;
    const { session, balancer, tsval, type } = packet.ixp!;
    const endpoint = socket?.endpoint;
    if (entry?.nonce === session && entry.place !== undefined && ((seq - entry.place) | 0) < 0)
      return;
    const parks = type === Type.park;
    const waits = entry?.nonce === session && endpoint !== undefined && isParked(entry, endpoint);
    const ends = waits && !parks && entry.left === undefined;
    const asked = { nonce: session, seq, ack, requests: tsval };
    const hasLeft = entry?.nonce === session && entry.left !== undefined;
    const refusal = parks && hasLeft ? Reason.ending : refusalOf(entry, endpoint, asked);
    const reason = ends ? 0 : refusal;
    const about =
      entry ?? freshSession({ nonce: session, balancer, balancerMac: packet.ethernet.source });
    if (reason !== 0 || entry === undefined) {
      node.counts.stayed++;
      this.answer({ ...about, nonce: session }, packet, NOTICE.refused, reason);
      return;
    }
    if (parks && endpoint !== undefined) {
      if (!waits) {
        node.counts.parked++;
        park(entry, endpoint);
        entry.tells = { requests: tsval, isUnknown: false, oneUntil: seq };
      }
      endpoint.receive({ ...lastFin(endpoint.receiveNext, endpoint.writeNext), flags: 'A' });
      this.answer(entry, packet, NOTICE.parked, 0);
      return;
    }
    if (entry.left === undefined && endpoint !== undefined) {
      node.counts.left++;
      entry.left = { at: seq, since: node.world.clock.now };
      entry.parked = undefined;
      endpoint.receive(lastFin(endpoint.receiveNext, endpoint.writeNext));
    }
    this.answer(entry, packet, NOTICE.left, 0);
  }

  /** Gives a segment back to the socket that the session has left. */
  private turn(tuple: string, segment: Segment | undefined): void {
    const socket = this.node.socketOf(tuple);
    if (segment === undefined || socket === undefined) return;
    this.node.world.clock.after(0, () => socket.endpoint.receive(segment));
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
    const { node } = this;
    node.emit({
      ethernet: { source: node.options.mac, destination: entry.balancerMac },
      ip: { source: node.options.address, destination: entry.balancer },
      ixcp: {
        session: entry.nonce,
        virtualAddress: node.world.virtualAddress,
        virtualPort: node.world.virtualPort,
        // A device may have written a checksum here: the receiver must ignore it.
        hole: 0,
        ...fields,
      },
    });
  }
}

function tupleOf(packet: ParsedPacket): string {
  return `${packet.ip!.source}:${packet.tcp!.sourcePort}`;
}

function aboutSegment(tuple: string, { seq, ack }: Segment): NonNullable<PacketSpec['ixcp']> {
  const [client = '', port = ''] = tuple.split(':');
  return { client, clientPort: Number(port), seq, ack };
}

/** Whether a segment of a parked socket repeats payload. */
function isRepeated({ payload }: Segment): boolean {
  return payload.length > 0;
}
