/**
 * The nodes of a replay. They take and confirm every session that is handed to them, and they send
 * notices of the FIN and RST that the recorded server sent. Their responses to the client need no
 * replay: they are in the capture, and would not pass through the balancer.
 *
 * The destination MAC address of a frame names its node.
 */
import { ETHERNET, ETHERNET_HEADER_BYTES, EtherType, writeMac } from '../../wire/ethernet.js';
import { IPV4, IPV4_HEADER_BYTES, Protocol, writeIpv4 } from '../../wire/ipv4.js';
import { emitIxcp, IXCP_HEADER_BYTES, IxcpType } from '../../wire/ixcp.js';
import { IXP, IXP_HEADER_BYTES, IxpType, verifyIxp } from '../../wire/ixp.js';
import { seqAdd, seqAfter, seqDiff } from '../../wire/seq.js';
import { SipHash } from '../../wire/siphash.js';
import { TCP, TCP_HEADER_BYTES, TcpFlag, tcpHeaderBytes } from '../../wire/tcp.js';
import { flowKey, type RecordedSegment } from './scan.js';

/** Bytes of a notice with its headers. */
const NOTICE_FRAME_BYTES = ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES + IXCP_HEADER_BYTES;
const WRAPPED_TCP = ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES + IXP_HEADER_BYTES;
/** Locally administered MAC addresses: 02:00:00:00:00:01 is node 0. */
const NODE_MAC_HIGH = 0x0200;
const NODE_MAC_LOW = 1;

/** The invented MAC address of a node of a replay, six bytes. */
export function replayNodeMac(node: number): Uint8Array {
  const mac = new Uint8Array(6);
  writeMac(new DataView(mac.buffer), 0, NODE_MAC_HIGH, NODE_MAC_LOW + node);
  return mac;
}

/** A session on its node. */
interface NodeSession {
  readonly node: number;
  readonly nonce: number;
  readonly client: number;
  readonly clientPort: number;
  readonly virtualAddress: number;
  readonly virtualPort: number;
  readonly balancer: number;
  /** Next sequence number that the node expects from the client. */
  next: number;
}

/** A notice on its way to the balancer. */
interface Notice {
  readonly at: number;
  readonly to: NodeSession;
  readonly type: number;
  readonly sequence: number;
  readonly acknowledgement: number;
}

/** The end of the server's direction of a connection, as a notice reports it. */
export interface ServerEnd {
  readonly type: number;
  readonly sequence: number;
  readonly acknowledgement: number;
}

export interface NodePlayerOptions {
  /** In the order of the engine's node table. */
  nodes: readonly { address: number }[];
  balancerMac: Uint8Array;
  /** Shared key, 16 bytes. */
  key: Uint8Array;
  /** Time from a frame to the arrival of the node's notice at the balancer, ms. */
  latencyMs: number;
}

/** Frames that the nodes got from the balancer. */
export interface NodeCounts {
  /**
   * IXP frames, and how many of them a node would have dropped: wrong tag, or no such session.
   */
  wrapped: number;
  refused: number;
  /**
   * Plain segments to a node that has the session, and to a node that does not. The latter must
   * never happen.
   */
  plain: number;
  stray: number;
}

export class NodePlayer {
  readonly counts: NodeCounts = { wrapped: 0, refused: 0, plain: 0, stray: 0 };
  private readonly options: NodePlayerOptions;
  private readonly hash: SipHash;
  private readonly macHigh: number;
  private readonly macLow: number;
  /** By flow, the session on the node that took it last. */
  private readonly sessions = new Map<string, NodeSession>();
  /** By flow, an end that waits until a node has the session. */
  private readonly early = new Map<string, ServerEnd>();
  /** By flow, the client's initial sequence number of the present connection. */
  private readonly began = new Map<string, number>();
  /** Flows whose present connection no node has taken yet. */
  private readonly awaited = new Set<string>();
  private readonly notices: Notice[] = [];
  private nextNotice = 0;

  constructor(options: NodePlayerOptions) {
    this.options = options;
    this.hash = new SipHash(options.key);
    const mac = new DataView(options.balancerMac.buffer, options.balancerMac.byteOffset, 6);
    this.macHigh = mac.getUint16(0);
    this.macLow = mac.getUint32(2);
  }

  /** When the next notice arrives at the balancer, in ms; or Infinity. */
  get due(): number {
    return this.notices[this.nextNotice]?.at ?? Number.POSITIVE_INFINITY;
  }

  /** Takes a frame that the engine sent to a node. */
  take(view: DataView, offset: number, length: number, now: number): void {
    const ip = offset + ETHERNET_HEADER_BYTES;
    const protocol = view.getUint8(ip + IPV4.protocol);
    const node = view.getUint32(offset + ETHERNET.destination + 2) - NODE_MAC_LOW;
    if (protocol === Protocol.ixp) this.takeWrapped(view, offset, length, node, now);
    else if (protocol === Protocol.tcp) {
      const tcp = ip + IPV4_HEADER_BYTES;
      const session = this.sessions.get(
        flowKey(
          view.getUint32(ip + IPV4.source),
          view.getUint16(tcp + TCP.sourcePort),
          view.getUint32(ip + IPV4.destination),
          view.getUint16(tcp + TCP.destinationPort),
        ),
      );
      if (session?.node === node) this.counts.plain += 1;
      else this.counts.stray += 1;
    }
  }

  /**
   * Takes a SYN of the client. A new sequence number begins a new connection, which no node has
   * yet.
   */
  clientBegins(flow: string, clientIsn: number): void {
    if (this.began.get(flow) === clientIsn) return;
    this.began.set(flow, clientIsn);
    this.early.delete(flow);
    this.awaited.add(flow);
  }

  /**
   * Takes a segment of the recorded server that ends its direction. It waits until a node has the
   * session.
   */
  serverEnds(segment: RecordedSegment, now: number): void {
    const flow = flowKey(
      segment.destination,
      segment.destinationPort,
      segment.source,
      segment.sourcePort,
    );
    const type = (segment.flags & TcpFlag.rst) !== 0 ? IxcpType.rst : IxcpType.fin;
    this.serverEnded(
      flow,
      { type, sequence: segment.sequence, acknowledgement: segment.acknowledgement },
      now,
    );
  }

  /**
   * Takes the end of the server's direction, for instance from a recorded notice: a capture that
   * was taken on a balancer does not contain the server's own segments.
   */
  serverEnded(flow: string, ending: ServerEnd, now: number): void {
    const session = this.sessions.get(flow);
    if (session === undefined || this.awaited.has(flow)) this.early.set(flow, ending);
    else this.notify(session, ending, now);
  }

  /** Writes the next notice as a frame at `offset` and returns its length. */
  writeNotice(view: DataView, offset: number): number {
    const notice = this.notices[this.nextNotice];
    if (notice === undefined) return 0;
    this.nextNotice += 1;
    const { to } = notice;
    const source = this.options.nodes[to.node]?.address;
    if (source === undefined) return 0;
    writeMac(view, offset + ETHERNET.destination, this.macHigh, this.macLow);
    writeMac(view, offset + ETHERNET.source, NODE_MAC_HIGH, NODE_MAC_LOW + to.node);
    view.setUint16(offset + ETHERNET.type, EtherType.ipv4);
    const ip = offset + ETHERNET_HEADER_BYTES;
    writeIpv4(view, ip, IPV4_HEADER_BYTES + IXCP_HEADER_BYTES, Protocol.ixcp, source, to.balancer);
    emitIxcp(
      view,
      ip + IPV4_HEADER_BYTES,
      source,
      to.balancer,
      {
        type: notice.type,
        session: to.nonce,
        client: to.client,
        virtualAddress: to.virtualAddress,
        clientPort: to.clientPort,
        virtualPort: to.virtualPort,
        sequence: notice.sequence,
        acknowledgement: notice.acknowledgement,
      },
      this.hash,
    );
    return NOTICE_FRAME_BYTES;
  }

  private takeWrapped(
    view: DataView,
    offset: number,
    length: number,
    node: number,
    now: number,
  ): void {
    this.counts.wrapped += 1;
    const ip = offset + ETHERNET_HEADER_BYTES;
    const ixp = ip + IPV4_HEADER_BYTES;
    const tcp = offset + WRAPPED_TCP;
    if (length < WRAPPED_TCP + TCP_HEADER_BYTES || !verifyIxp(view, ip, ixp, this.hash)) {
      this.counts.refused += 1;
      return;
    }
    const client = view.getUint32(ip + IPV4.source);
    const virtualAddress = view.getUint32(ip + IPV4.destination);
    const clientPort = view.getUint16(tcp + TCP.sourcePort);
    const virtualPort = view.getUint16(tcp + TCP.destinationPort);
    const flow = flowKey(client, clientPort, virtualAddress, virtualPort);
    const nonce = view.getUint32(ixp + IXP.session);
    const sequence = view.getUint32(tcp + TCP.sequence);
    const flags = view.getUint8(tcp + TCP.offsetAndFlags + 1);
    const payload = ip + view.getUint16(ip + IPV4.totalLength) - tcp - tcpHeaderBytes(view, tcp);
    const end = seqAdd(sequence, payload + ((flags & TcpFlag.fin) === 0 ? 0 : 1));
    let session = this.sessions.get(flow);
    const known = session !== undefined && session.nonce === nonce && session.node === node;
    if ((flags & TcpFlag.rst) !== 0) {
      if (known) this.sessions.delete(flow);
      return;
    }
    if (session === undefined || !known) {
      if (view.getUint8(ixp + IXP.type) !== IxpType.adopt) {
        this.counts.refused += 1;
        return;
      }
      const balancer = view.getUint32(ixp + IXP.balancer);
      session = {
        node,
        nonce,
        client,
        clientPort,
        virtualAddress,
        virtualPort,
        balancer,
        next: sequence,
      };
      this.sessions.set(flow, session);
      this.awaited.delete(flow);
    }
    // The balancer asks whether the node still has the session (docs/ixp.md). The capture does not
    // say what the server would have done by then. An answer each time would keep the session for
    // ever.
    const bare = payload === 0 && (flags & (TcpFlag.syn | TcpFlag.fin)) === 0;
    if (known && bare && view.getUint8(ixp + IXP.type) === IxpType.segment) return;
    // Bytes beyond a gap are not acknowledged.
    if (seqDiff(sequence, session.next) <= 0 && seqAfter(end, session.next)) session.next = end;
    const confirmed = {
      type: IxcpType.adopted,
      sequence: view.getUint32(tcp + TCP.acknowledgement),
    };
    this.notify(session, { ...confirmed, acknowledgement: session.next }, now);
    const early = this.early.get(flow);
    if (early !== undefined) {
      this.early.delete(flow);
      this.notify(session, early, now);
    }
  }

  /** The latency is the same for all notices, so the queue stays in order of time. */
  private notify(to: NodeSession, notice: ServerEnd, now: number): void {
    this.notices.push({ at: now + this.options.latencyMs, to, ...notice });
  }
}
