/**
 * Checks every frame that enters or leaves the engine, and every socket that a node builds, against
 * the rules of the design. It sees what no part of the real system sees: both ends of every
 * connection.
 */

import { ETHERNET, flagBits, IXP, PROTOCOL_TCP, type TcpOptionsSpec } from '../../lab/packet.js';
import type { Counters } from '../../src/base/counters.js';
import { FrameFlags, Port } from '../../src/datapath/datapath.js';
import type { SentFrame } from '../support/memory.js';
import { describe, type ParsedPacket } from '../support/packet-parse.js';
import { checkAttributes, IxpTypes } from './attributes.js';
import type { ClientConnection } from './client.js';
import { type Renamed, type Resource, renamedSlice, renamedStream } from './content.js';
import type { Handshake, Offer } from './handshakes.js';
import { parsed } from './parsed.js';

const NOT_RENAMED: Renamed = { asked: 0, line: new Uint8Array(0), more: 0 };

export interface CheckerWorld {
  readonly counters: Counters;
  readonly key: Uint8Array;
  readonly virtualAddress: string;
  readonly balancerAddress: string;
  readonly balancerMac: string;
  readonly mtu: number;
  readonly resources: readonly Resource[];
  /** No segment in this world is forged. */
  readonly trusting: boolean;
  /** Sessions move between requests. */
  readonly migrates: boolean;
  violation(message: string): void;
  nodeByMac(mac: string): { name: string; address: string } | undefined;
  clientMac(address: string): string | undefined;
  connection(tuple: string, isn: number): ClientConnection | undefined;
}

const ADOPTED = 1;
const REFUSED = 2;
const FIN = 3;
const LEFT = 9;
const PARKED = 10;
const ENDED = 11;
/** From this reason on, REFUSED answers LEAVE. */
const UNKNOWN_SESSION = 4;
/** Beyond any window: a segment there is forged. */
const FAR = 1 << 24;
/** The socket of a parked session has sent something of its own accord. */
const HELD_PARKED = 9;
const KNOWN_IXCP = new Set([6, 7]);
const SYN = flagBits('S');

export class Checker {
  private readonly syns = new Map<string, Map<number, Offer>>();
  private readonly handshakes = new Map<string, Handshake>();
  /** Every confirmation that the engine received, as tuple/nonce/node address. */
  private readonly confirmed = new Set<string>();
  readonly counts = {
    adopts: 0,
    wrapped: 0,
    wrappedSyns: 0,
    replays: 0,
    forwarded: 0,
    answers: 0,
    withdrawn: 0,
    leaves: 0,
    synAcks: 0,
    acks: 0,
    resets: 0,
    icmp: 0,
  };

  constructor(private readonly world: CheckerWorld) {}

  /** The engine is about to receive a frame. */
  onReceived(frame: Uint8Array, flags: number): void {
    const packet = parsed(frame, this.world.key);
    const vouched = (flags & (FrameFlags.checksumPartial | FrameFlags.checksumValid)) !== 0;
    // A damaged frame counts as lost.
    const harmless = (problem: string): boolean =>
      problem.startsWith('TCP option') || (vouched && problem === 'wrong TCP checksum');
    if (!packet.problems.every(harmless)) return;
    const { ip, tcp, ixcp } = packet;
    if (ip === undefined) return;
    if (tcp !== undefined && packet.ixp === undefined && flagBits(tcp.flags) === SYN) {
      const tuple = `${ip.source}:${tcp.sourcePort}`;
      const syns = this.syns.get(tuple) ?? new Map<number, Offer>();
      const offer = syns.get(tcp.seq) ?? { options: tcp.options, values: new Set() };
      if (tcp.options.timestamps !== undefined) offer.values.add(tcp.options.timestamps[0]);
      syns.set(tcp.seq, offer);
      this.syns.set(tuple, syns);
    }
    // A FIN comes from a socket, so it confirms too.
    if (ixcp !== undefined && (ixcp.type === ADOPTED || ixcp.type === FIN)) {
      this.confirmed.add(`${ixcp.client}:${ixcp.clientPort}/${ixcp.session}/${ip.source}`);
    }
    if (ixcp !== undefined && (ixcp.type === LEFT || ixcp.type === PARKED)) {
      // The session is no longer this node's: not even an ACK may reach it in plain form.
      const tuple = `${ixcp.client}:${ixcp.clientPort}`;
      this.confirmed.delete(`${tuple}/${ixcp.session}/${ip.source}`);
      const handshake = this.handshakes.get(tuple);
      if (handshake?.nonce === ixcp.session) handshake.asked.delete(ip.source);
    }
    if (ixcp !== undefined && (ixcp.type === ENDED || ixcp.reason === HELD_PARKED)) {
      // The session can leave this node here, and the node need not be asked.
      const handshake = this.handshakes.get(`${ixcp.client}:${ixcp.clientPort}`);
      if (handshake?.nonce === ixcp.session) handshake.idle.set(ip.source, [ixcp.ack, ixcp.seq]);
    }
    if (ixcp !== undefined && ixcp.type === REFUSED && ixcp.reason < UNKNOWN_SESSION) {
      const handshake = this.handshakes.get(`${ixcp.client}:${ixcp.clientPort}`);
      if (handshake?.nonce === ixcp.session) handshake.asked.delete(ip.source);
    }
    if (tcp !== undefined && packet.ixp === undefined)
      this.onAcknowledged(`${ip.source}:${tcp.sourcePort}`, packet);
  }

  /**
   * A client that acknowledges data, or reports it by SACK, has it from a node. If only one node
   * got an ADOPT, that node has the session.
   */
  private onAcknowledged(tuple: string, packet: ParsedPacket): void {
    const handshake = this.handshakes.get(tuple);
    const { seq, ack, flags, options } = packet.tcp!;
    if (handshake === undefined || handshake.asked.size !== 1 || !flags.includes('A')) return;
    const [, answerFrom] = handshake.starts.at(-1)!;
    // It may also have bytes behind a gap.
    const end = options.sack?.[0]?.[1] ?? ack;
    if (distance(ack, answerFrom) <= 0 && distance(end, answerFrom) <= 0) return;
    if (Math.abs(distance(seq, handshake.clientIsn)) > FAR) return;
    const [node] = handshake.asked;
    this.confirmed.add(`${tuple}/${handshake.nonce}/${node}`);
  }

  /** The engine has sent a frame. `wire` is the frame as it leaves, its checksum finished. */
  onSent(sent: SentFrame, wire: Uint8Array): void {
    const packet = parsed(wire, this.world.key);
    if (sent.received !== undefined) this.onForwarded(sent, packet);
    else {
      for (const problem of packet.problems) {
        // The node judges options that an attacker put into a segment.
        if (this.world.trusting || !problem.startsWith('TCP option')) this.blame(packet, problem);
      }
      if (packet.trailer.length > 0)
        this.blame(packet, `${packet.trailer.length} bytes behind the datagram`);
      if (wire.length > this.world.mtu + ETHERNET) this.blame(packet, 'larger than the MTU');
      if (packet.ethernet.source !== this.world.balancerMac)
        this.blame(packet, 'not from our MAC address');
      if (packet.ip !== undefined) this.onBuilt(sent, packet);
    }
  }

  /** A node has made a socket from an ADOPT (rule 2). */
  onSocket(node: string, packet: ParsedPacket): void {
    const handshake = this.handshakes.get(this.clientOf(packet));
    if (handshake === undefined || packet.ixp!.session !== handshake.nonce) return;
    if (!handshake.starts.some(([seq]) => seq === packet.tcp!.seq))
      this.blame(packet, `${node} starts past a hole`);
  }

  private blame(packet: ParsedPacket, message: string): void {
    this.world.violation(`${message}: ${describe(packet)}`);
  }

  private clientOf(packet: ParsedPacket): string {
    return `${packet.ip!.source}:${packet.tcp!.sourcePort}`;
  }

  private onForwarded(sent: SentFrame, packet: ParsedPacket): void {
    const received = sent.received!;
    if (Buffer.compare(sent.frame.subarray(12), received.subarray(12)) !== 0) {
      const at = received.findIndex((byte, i) => i >= 12 && byte !== sent.frame[i]);
      this.blame(packet, `byte ${at} was changed on the way`);
      return;
    }
    const node = this.world.nodeByMac(packet.ethernet.destination);
    if (packet.ethernet.source !== this.world.balancerMac)
      this.blame(packet, 'forwarded with a wrong source');
    if (sent.port !== Port.wire) this.blame(packet, 'forwarded to the wrong port');
    if (node === undefined) {
      this.blame(packet, 'forwarded to no node');
      return;
    }
    if (packet.icmp !== undefined) {
      this.counts.icmp++;
      return;
    }
    if (packet.ip?.protocol !== PROTOCOL_TCP || packet.tcp === undefined) return;
    this.counts.forwarded++;
    // Rule 1: a node gets plain segments of a session only after it has confirmed that session.
    const tuple = this.clientOf(packet);
    const nonce = this.handshakes.get(tuple)?.nonce;
    if (nonce === undefined || !this.confirmed.has(`${tuple}/${nonce}/${node.address}`)) {
      this.blame(packet, `in plain form to ${node.name}, which has not confirmed (rule 1)`);
    }
  }

  private onBuilt(sent: SentFrame, packet: ParsedPacket): void {
    const { ip, tcp } = packet;
    if (ip!.ttl < 32) this.blame(packet, `TTL ${ip!.ttl}`);
    if (ip!.moreFragments || ip!.tos !== 0) this.blame(packet, 'odd IPv4 fields');
    if (packet.ixp !== undefined) {
      this.onWrapped(sent, packet);
      return;
    }
    if (packet.ixcp !== undefined) {
      if (!KNOWN_IXCP.has(packet.ixcp.type))
        this.blame(packet, 'IXCP that a balancer does not send');
      return;
    }
    if (tcp === undefined) {
      this.blame(packet, 'neither TCP nor IXP nor IXCP');
      return;
    }
    if (tcp.urgent !== 0) this.blame(packet, 'urgent pointer');
    if (ip!.source !== this.world.virtualAddress)
      this.blame(packet, 'not from the virtual address');
    const mac = this.world.clientMac(ip!.destination);
    if (mac !== undefined && mac !== packet.ethernet.destination)
      this.blame(packet, 'to the wrong MAC address');
    const tuple = `${ip!.destination}:${tcp.destinationPort}`;
    if (tcp.flags.includes('S')) {
      this.onSynAck(tuple, packet);
      return;
    }
    if (tcp.flags.includes('R')) {
      this.counts.resets++;
      return;
    }
    this.counts.acks++;
    const handshake = this.handshakes.get(tuple);
    if (!/^F?P?A$/.test(tcp.flags) || handshake === undefined) {
      this.blame(packet, 'unexpected segment to a client');
      return;
    }
    this.onAnswer(handshake, packet);
    this.acknowledges(tuple, handshake.clientIsn, tcp.ack, packet);
    if ((handshake.agreed.timestamps !== undefined) !== (tcp.options.timestamps !== undefined)) {
      this.blame(packet, 'timestamps are not as agreed');
    }
  }

  /**
   * An ACK of the engine, or a part of its own answer: bytes never change, FIN has one place, and
   * no segment is larger than the client asked for.
   */
  private onAnswer(handshake: Handshake, packet: ParsedPacket): void {
    const { tcp, payload } = packet;
    const { answer } = handshake;
    // After a move, only where the client is says where our own answer begins.
    if (this.world.migrates && answer.bytes.length === 0 && !answer.fin) {
      if (payload.length === 0 && !tcp!.flags.includes('F')) return;
      answer.from = tcp!.seq;
    }
    const at = distance(tcp!.seq, answer.from);
    const end = at + payload.length;
    const known = answer.bytes.length + (answer.fin ? 1 : 0);
    if (at < 0 || at > known) this.blame(packet, 'wrong sequence number to a client');
    for (let i = 0; i < payload.length; i++) {
      if (at + i === answer.bytes.length && !answer.fin) answer.bytes.push(payload[i]!);
      if (answer.bytes[at + i] !== payload[i]) {
        this.blame(packet, `byte ${at + i} of the answer is another one`);
        return;
      }
    }
    if (tcp!.flags.includes('F')) {
      if (!answer.fin) this.counts.answers++;
      if (end !== answer.bytes.length) this.blame(packet, 'FIN before the end of the answer');
      answer.fin = true;
    }
    const options = tcp!.options.timestamps === undefined ? 0 : 12;
    if (payload.length > 0 && payload.length + options > Math.max(48, handshake.offered.mss ?? 536))
      this.blame(packet, 'larger than the MSS of the client');
  }

  /** The engine acknowledges only bytes that the client has sent. */
  private acknowledges(tuple: string, isn: number, ack: number, packet: ParsedPacket): void {
    const connection = this.world.connection(tuple, isn);
    if (connection === undefined) return;
    const position = (ack - isn) >>> 0;
    if (position > connection.endpoint.sent.length + 2)
      this.blame(packet, 'acknowledges what was never sent');
  }

  private onSynAck(tuple: string, packet: ParsedPacket): void {
    const tcp = packet.tcp!;
    this.counts.synAcks++;
    const clientIsn = (tcp.ack - 1) >>> 0;
    const offer = this.syns.get(tuple)?.get(clientIsn);
    if (tcp.flags !== 'SA' || offer === undefined) {
      this.blame(packet, 'SYN/ACK for no SYN');
      return;
    }
    const { options } = tcp;
    const offered = offer.options;
    if (options.mss === undefined || options.mss > this.world.mtu - 40 - IXP.length) {
      this.blame(packet, 'the MSS leaves no room for IXP');
    }
    if (options.windowScale !== undefined && offered.windowScale === undefined)
      this.blame(packet, 'scale not offered');
    if (options.sackPermitted && !offered.sackPermitted) this.blame(packet, 'SACK not offered');
    if (options.timestamps !== undefined) {
      if (offered.timestamps === undefined) this.blame(packet, 'timestamps not offered');
      else if (!offer.values.has(options.timestamps[1])) this.blame(packet, 'wrong TSecr');
    }
    const known = this.handshakes.get(tuple);
    if (known?.clientIsn === clientIsn && known.serverIsn === tcp.seq) {
      if (JSON.stringify(shape(known.agreed)) !== JSON.stringify(shape(options)))
        this.blame(packet, 'SYN/ACK changed');
      return;
    }
    this.handshakes.set(tuple, {
      clientIsn,
      serverIsn: tcp.seq,
      agreed: options,
      offered,
      starts: [[(clientIsn + 1) >>> 0, (tcp.seq + 1) >>> 0]],
      nonce: undefined,
      renamed: undefined,
      asked: new Set(),
      idle: new Map(),
      answer: { from: (tcp.seq + 1) >>> 0, bytes: [], fin: false },
    });
  }

  private onWrapped(sent: SentFrame, packet: ParsedPacket): void {
    const ixp = packet.ixp!;
    const tcp = packet.tcp!;
    const tuple = this.clientOf(packet);
    const node = this.world.nodeByMac(packet.ethernet.destination);
    if (node === undefined) {
      this.blame(packet, 'IXP to no node');
      return;
    }
    if (sent.port !== Port.wire) this.blame(packet, 'IXP to the wrong port');
    if (ixp.service !== 0) this.blame(packet, 'the reserved byte is not 0');
    if (ixp.version !== 1 || ixp.length !== IXP.length) this.blame(packet, 'IXP version or length');
    if (ixp.balancer !== this.world.balancerAddress)
      this.blame(packet, 'notices would go elsewhere');
    const handshake = this.handshakes.get(tuple);
    if (handshake === undefined) {
      this.blame(packet, 'IXP without a handshake');
      return;
    }
    if (tcp.flags.includes('S') && ixp.type !== IxpTypes.replay) {
      this.counts.wrappedSyns++;
      return;
    }
    handshake.nonce ??= ixp.session;
    if (ixp.session !== handshake.nonce) this.blame(packet, 'the nonce changed within a session');
    checkAttributes(this.world, handshake, packet, (message) => this.blame(packet, message));
    if (tcp.flags.includes('R')) {
      this.counts.withdrawn++;
      return;
    }
    const connection = this.world.connection(tuple, handshake.clientIsn);
    const stream = connection?.endpoint.sent;
    // A node's head ends where the client's does, so its first byte may be another.
    if (stream !== undefined && handshake.renamed === undefined) {
      handshake.renamed = renamedStream(this.world.resources, stream);
      handshake.starts[0]![0] = (handshake.clientIsn + 1 - handshake.renamed.more) >>> 0;
    }
    const renamed = handshake.renamed ?? NOT_RENAMED;
    const { more } = renamed;
    const first = (handshake.clientIsn + 1 - more) >>> 0;
    if (Math.abs(distance(tcp.seq, first)) > FAR) {
      this.blame(packet, 'a forged segment, far outside of any window, was wrapped');
      return;
    }
    if (ixp.type === IxpTypes.replay) {
      this.onReplayed(handshake, node.address, packet);
      return;
    }
    if (ixp.type === IxpTypes.adopt || ixp.type === IxpTypes.resume) {
      // What the node has confirmed was before the session left it.
      if (!handshake.asked.has(node.address))
        this.confirmed.delete(`${tuple}/${handshake.nonce}/${node.address}`);
      this.leavesIdle(handshake, node.address, packet, tcp.seq);
      handshake.asked.add(node.address);
      this.counts.adopts++;
      const starts = handshake.starts.filter(([seq]) => seq === tcp.seq);
      if (starts.length === 0) this.blame(packet, 'ADOPT not at the next expected byte (rule 2)');
      else if (!starts.some(([, ack]) => ack === tcp.ack))
        this.blame(packet, 'ADOPT with a wrong ack');
    } else if (ixp.type === IxpTypes.leave || ixp.type === IxpTypes.park) {
      this.counts.leaves++;
      handshake.starts.push([tcp.seq, tcp.ack]);
    } else this.counts.wrapped++;
    if (stream === undefined) return;
    const confirm = (ixp.confirm - first) | 0;
    if (confirm < 0 || confirm > stream.length + more + 1)
      this.blame(packet, 'confirm is outside of what the client sent');
    const at = (tcp.seq - first) | 0;
    const from = Math.max(0, at);
    const said = renamedSlice(renamed, stream, from, from + packet.payload.length);
    if (packet.payload.length > 0 && (at < 0 || Buffer.compare(said, packet.payload) !== 0)) {
      this.blame(packet, 'bytes that the client never sent there');
    }
    if (tcp.flags.includes('F') && at + packet.payload.length !== stream.length + more)
      this.blame(packet, 'FIN too early');
  }

  /** A SYN for the listener of a node stands before a byte at which the session can begin there. */
  private onReplayed(handshake: Handshake, node: string, packet: ParsedPacket): void {
    const { seq, ack, flags } = packet.tcp!;
    this.counts.replays++;
    if (flags !== 'S' || packet.payload.length > 0) this.blame(packet, 'REPLAY of another segment');
    const first = (seq + 1) >>> 0;
    this.leavesIdle(handshake, node, packet, first);
    if (!handshake.starts.some((start) => start[0] === first && start[1] === ack))
      this.blame(packet, 'REPLAY not before the next expected byte');
  }

  /** A node gets the session at `first`, and nodes that were idle there do not have it now. */
  private leavesIdle(handshake: Handshake, to: string, packet: ParsedPacket, first: number): void {
    for (const [address, [seq, ack]] of handshake.idle) {
      if (seq !== first || ack !== packet.tcp!.ack) continue;
      handshake.starts.push([seq, ack]);
      if (address === to) continue;
      handshake.asked.delete(address);
      this.confirmed.delete(`${this.clientOf(packet)}/${handshake.nonce}/${address}`);
    }
  }
}

/** The signed distance from b to a. */
function distance(a: number, b: number): number {
  return (a - b) | 0;
}

/** Options without the values that may change between two SYN/ACKs. */
function shape(options: TcpOptionsSpec): unknown {
  return { ...options, timestamps: options.timestamps !== undefined };
}
