/**
 * The shim of a simulated node takes sessions by replay of their handshakes (bpf/shim/replay.h).
 */
import type { ParsedPacket } from '../support/packet-parse.js';
import type { ListenerNumbers, SimNode, Socket } from './node.js';
import { isParked, streamNext } from './parked.js';
import { IxpFlag, NOTICE, Reason, type ShimSession, segmentOf } from './shim-session.js';

const SYN_ACK_MS = 1000;
const SYN_ACK_TRIES = 5;

/** What it needs of the shim. */
export interface ReplayShim {
  /** The four-tuple has this session now. */
  begin(tuple: string, session: ShimSession): void;
  newSession(packet: ParsedPacket): ShimSession;
  answer(
    entry: ShimSession,
    packet: ParsedPacket,
    type: number,
    reason: number,
    taken?: number,
  ): void;
}

export class Replays {
  constructor(
    private readonly node: SimNode,
    private readonly shim: ReplayShim,
  ) {}

  /** A frame of REPLAY: its SYN is for the listener. */
  play(
    tuple: string,
    entry: ShimSession | undefined,
    socket: Socket | undefined,
    packet: ParsedPacket,
  ): void {
    const { node } = this;
    const { session, confirm } = packet.ixp!;
    const { flags, seq } = packet.tcp!;
    if (flags !== 'S' || packet.payload.length > 0) return;
    const first = (seq + 1) >>> 0;
    const same = entry?.nonce === session;
    const { left } = entry ?? {};
    if (same && left !== undefined && ((confirm - left.at) | 0) <= 0) return;
    const returns =
      same &&
      socket !== undefined &&
      isParked(entry!, socket.endpoint) &&
      first !== entry!.began &&
      ((confirm - entry!.parked!.at) | 0) > 0;
    const again = same && entry!.resumed && first === entry!.began;
    if (entry !== undefined && same && left === undefined && !returns && !again) {
      if (socket?.endpoint.state === 'open') {
        const next = streamNext(entry, socket.endpoint);
        const hasAll = ((next - confirm) | 0) >= 0;
        this.shim.answer(
          entry,
          packet,
          hasAll ? NOTICE.adopted : NOTICE.synAck,
          0,
          hasAll ? next : first,
        );
        return;
      }
      if (socket !== undefined || entry.sent) {
        this.shim.answer(entry, packet, NOTICE.rst, 0, first);
        return;
      }
      if (entry.waiting !== undefined) {
        this.shim.answer(entry, packet, NOTICE.synAck, 0, first);
        return;
      }
    }
    const fresh = this.shim.newSession(packet);
    fresh.began = first;
    if (node.deaf) {
      node.counts.refused++;
      this.shim.answer(fresh, packet, NOTICE.refused, Reason.noListener, first);
      return;
    }
    node.removeSocket(tuple);
    this.shim.begin(tuple, fresh);
    fresh.replayed = true;
    this.answerSyn(fresh, packet, first);
  }

  /** The listener answers the SYN, and again until it has the request or gives up. */
  private answerSyn(entry: ShimSession, packet: ParsedPacket, first: number): void {
    const { node } = this;
    const { ack } = packet.tcp!;
    const { scales, tsecr } = packet.ixp!;
    const own = node.listen();
    entry.waiting = own;
    const { translation } = entry;
    translation.server = (ack - (own.isn + 1)) >>> 0;
    translation.clock = (tsecr - own.tsval) >>> 0;
    translation.window = (packet.ixp!.flags & IxpFlag.scaled) === 0 ? 0 : own.scale - (scales & 15);
    translation.echo = own.tsval;
    const say = (left: number): void => {
      if (entry.waiting !== own || node.down) return;
      if (left === 0) {
        entry.waiting = undefined;
        return;
      }
      this.shim.answer(entry, packet, NOTICE.synAck, 0, first);
      node.world.clock.after(SYN_ACK_MS, () => say(left - 1));
    };
    say(SYN_ACK_TRIES);
  }

  /** The request reaches the listener that has answered the SYN. */
  complete(tuple: string, entry: ShimSession, own: ListenerNumbers, packet: ParsedPacket): void {
    const { node } = this;
    if (node.deaf) return;
    entry.asked++;
    if (((packet.ixp!.confirm - entry.confirm) | 0) > 0) entry.confirm = packet.ixp!.confirm;
    const segment = entry.translation.inward(segmentOf(packet));
    const { timestamps } = segment.options;
    if (segment.ack !== (own.isn + 1) >>> 0)
      node.world.violation('a handshake with a wrong number');
    if (timestamps !== undefined && timestamps[1] !== own.tsval) return;
    entry.waiting = undefined;
    node.adopt(tuple, packet, segment, own);
  }
}
