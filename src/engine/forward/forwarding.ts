/**
 * Packets of virtual servers with mode forward, as bpf/xdp/xdp-forward.h handles them for the
 * datapath xdp. The first packet of a flow chooses a node, the others follow it. Only MAC addresses
 * change: no handshake, no timer, and nothing of a packet is read behind its ports and TCP flags.
 */
import { Counter } from '../../base/counters.js';
import { ETHERNET, ETHERNET_HEADER_BYTES, EtherType } from '../../wire/ethernet.js';
import { ICMP, isIcmpError } from '../../wire/icmp.js';
import { FRAGMENT_MASK, IPV4, IPV4_HEADER_BYTES, OFFSET_MASK, Protocol } from '../../wire/ipv4.js';
import { TCP, TCP_HEADER_BYTES, TcpFlag } from '../../wire/tcp.js';
import { UDP_HEADER_BYTES } from '../../wire/udp.js';
import type { Core } from '../core.js';
import type { ForwardCounts } from './counts.js';
import { FlowKind, FlowState, FORWARD_SERVER, NO_NODE, NodeFlag, ServerFlag } from './layout.js';
import { ForwardPorts } from './ports.js';
import { type ForwardTables, NO_FLOW, ownerOf, tickOf } from './tables.js';

export class Forwarding {
  ports = new ForwardPorts([]);
  private readonly core: Core;
  private readonly tables: ForwardTables;
  private readonly counts: ForwardCounts;
  // Of the current packet.
  private server = 0;
  private client = 0;
  private pair = 0;
  private flags = 0;
  private opens = false;

  constructor(core: Core, tables: ForwardTables, counts: ForwardCounts) {
    this.core = core;
    this.tables = tables;
    this.counts = counts;
  }

  /**
   * Handles a frame that is for no virtual server with mode handoff. Returns false if it is for
   * none with mode forward either.
   */
  receive(offset: number, length: number, frameFlags: number): boolean {
    const { counters, transmit } = this.core;
    const { view } = transmit.memory;
    if (
      this.ports.count === 0 ||
      length < ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES ||
      view.getUint16(offset + ETHERNET.type) !== EtherType.ipv4
    )
      return false;
    const ip = offset + ETHERNET_HEADER_BYTES;
    const protocol = view.getUint8(ip + IPV4.protocol);
    const address = view.getUint32(ip + IPV4.destination);
    const first = this.ports.first(address, protocol);
    if (first < 0 || view.getUint8(ip) >> 4 !== 4) return false;
    const header = (view.getUint8(ip) & 0xf) * 4;
    const total = view.getUint16(ip + IPV4.totalLength);
    const fragment = view.getUint16(ip + IPV4.flagsAndFragment) & FRAGMENT_MASK;
    this.client = view.getUint32(ip + IPV4.source);
    const isTcp = protocol === Protocol.tcp;
    const isLater = (fragment & OFFSET_MASK) !== 0;
    const least = isTcp ? TCP_HEADER_BYTES : UDP_HEADER_BYTES;
    if (
      header < IPV4_HEADER_BYTES ||
      total > length - ETHERNET_HEADER_BYTES ||
      total < header + (isLater ? 0 : least)
    ) {
      counters.count(Counter.forward_malformed);
      return true;
    }
    const identification = view.getUint16(ip + IPV4.identification) << 16;
    if (isLater) {
      const node = this.fragmentNode(first, identification >>> 0);
      if (node === NO_NODE) counters.count(Counter.forward_fragment_lost);
      else this.send(offset, length, frameFlags, first, node);
      return true;
    }
    const transport = ip + header;
    const port = view.getUint16(transport + TCP.destinationPort);
    const server = this.ports.find(address, protocol, port);
    if (server < 0) return false;
    this.server = server;
    this.pair = ((view.getUint16(transport + TCP.sourcePort) << 16) | port) >>> 0;
    this.flags = isTcp ? view.getUint8(transport + TCP.offsetAndFlags + 1) : 0;
    this.opens = !isTcp || (this.flags & (TcpFlag.syn | TcpFlag.ack)) === TcpFlag.syn;
    const node = this.nodeOf(isTcp);
    if (fragment !== 0 && node !== NO_NODE) this.noteFragment(first, identification >>> 0, node);
    this.send(offset, length, frameFlags, server, node);
    return true;
  }

  /**
   * Sends an ICMP error about a packet of such a virtual server to the node that sent the packet.
   * `core.segment` has the error. Returns false if it is about none.
   *
   * @param inner offset of the packet in it, whose IPv4 header has no options and whose transport
   *   header has eight bytes at least
   */
  receiveError(inner: number): boolean {
    const { segment, counters } = this.core;
    const { view } = segment;
    if (this.ports.count === 0 || !isIcmpError(view.getUint8(inner - ICMP.inner))) return false;
    const protocol = view.getUint8(inner + IPV4.protocol);
    // The inner packet went from the virtual server to the client.
    const ports = view.getUint32(inner + IPV4_HEADER_BYTES);
    const server = this.ports.find(view.getUint32(inner + IPV4.source), protocol, ports >>> 16);
    if (server < 0) return false;
    this.server = server;
    this.client = view.getUint32(inner + IPV4.destination);
    this.pair = ((ports << 16) | (ports >>> 16)) >>> 0;
    const node = this.known();
    if (node === NO_NODE) {
      counters.count(Counter.forward_icmp_lost);
      return true;
    }
    counters.count(Counter.forward_icmp);
    this.send(segment.offset, segment.length, segment.frameFlags, server, node);
    return true;
  }

  /** The node of the packet, which is chosen now if it opens a flow; or NO_NODE. */
  private nodeOf(isTcp: boolean): number {
    const { tables, server, client, pair } = this;
    if (tables.serverWord(server, FORWARD_SERVER.buckets) === 0) return this.flowNode();
    const opensTcp = isTcp && this.opens;
    if (opensTcp && this.isClosed()) return NO_NODE;
    const bucket = tables.bucketOf(server, client, pair >>> 16);
    tables.setBucketSeen(bucket, tickOf(this.core.clock));
    const node = this.keeping(tables.bucketNode(bucket));
    if (opensTcp && node !== NO_NODE) this.counts.flow(server, node);
    return node;
  }

  private flowNode(): number {
    const { tables, core, server, client, pair, flags } = this;
    const owner = ownerOf(server, FlowKind.flow);
    const hash = tables.flowHash(client, pair, owner);
    const flow = tables.find(client, pair, owner, hash);
    const tick = tickOf(core.clock);
    if (flow !== NO_FLOW) {
      const ended = (tables.state(flow) & (FlowState.fin | FlowState.rst)) !== 0;
      const node = tables.node(flow);
      if (
        !(ended && (flags & TcpFlag.syn) !== 0) &&
        (tables.nodeFlags(node) & NodeFlag.keeps) !== 0
      ) {
        const isNewState = tables.raise(flow, stateAfter(flags));
        if (tables.setSeen(flow, tick) || isNewState) this.keepSticky(tick);
        return node;
      }
    }
    if (this.isClosed()) return NO_NODE;
    const node = this.choose(hash, tick);
    if (node === NO_NODE) return NO_NODE;
    if (this.opens) this.counts.flow(server, node);
    else core.counters.count(Counter.forward_unknown);
    if (flow !== NO_FLOW) tables.renew(flow, owner, node, tick);
    else if ((flags & TcpFlag.rst) === 0)
      this.count(tables.add(client, pair, owner, hash, node, tick));
    return node;
  }

  private choose(hash: number, tick: number): number {
    const { tables, server } = this;
    const mask = tables.serverWord(server, FORWARD_SERVER.stickyMask);
    const client = (this.client & mask) >>> 0;
    const owner = ownerOf(server, FlowKind.sticky);
    let sticky = NO_FLOW;
    if (mask !== 0) {
      sticky = tables.find(client, 0, owner, tables.flowHash(client, 0, owner));
      if (sticky !== NO_FLOW && (tables.nodeFlags(tables.node(sticky)) & NodeFlag.takes) !== 0) {
        tables.setSeen(sticky, tick);
        return tables.node(sticky);
      }
    }
    const picks = tables.serverWord(server, FORWARD_SERVER.pickCount);
    const cursor = tables.serverWord(server, FORWARD_SERVER.cursor);
    if (this.opens) tables.setServerWord(server, FORWARD_SERVER.cursor, cursor + 1);
    if (picks === 0) return NO_NODE;
    // A segment of a flow that is not known: all of them must choose the same node.
    const node = tables.pick(server, (this.opens ? cursor : hash) % picks);
    if (sticky !== NO_FLOW) tables.setNode(sticky, node, tick);
    else if (mask !== 0)
      this.count(tables.add(client, 0, owner, tables.flowHash(client, 0, owner), node, tick));
    return node;
  }

  /** A packet of a known flow: its client is remembered for longer, and does not give way first. */
  private keepSticky(tick: number): void {
    const { tables, server } = this;
    const mask = tables.serverWord(server, FORWARD_SERVER.stickyMask);
    if (mask === 0) return;
    const client = (this.client & mask) >>> 0;
    const owner = ownerOf(server, FlowKind.sticky);
    const sticky = tables.find(client, 0, owner, tables.flowHash(client, 0, owner));
    if (sticky === NO_FLOW) return;
    tables.raise(sticky, FlowState.second);
    tables.setSeen(sticky, tick);
  }

  /** The virtual server of the packet is retired, and takes no new flows. */
  private isClosed(): boolean {
    return (this.tables.serverWord(this.server, FORWARD_SERVER.flags) & ServerFlag.closed) !== 0;
  }

  /** The node, or NO_NODE if it does not keep its flows. */
  private keeping(node: number): number {
    return (this.tables.nodeFlags(node) & NodeFlag.keeps) !== 0 ? node : NO_NODE;
  }

  /** The node that has the flow, or NO_NODE. Changes nothing. */
  private known(): number {
    const { tables, server, client, pair } = this;
    if (tables.serverWord(server, FORWARD_SERVER.buckets) !== 0)
      return this.keeping(tables.bucketNode(tables.bucketOf(server, client, pair >>> 16)));
    const owner = ownerOf(server, FlowKind.flow);
    const flow = tables.find(client, pair, owner, tables.flowHash(client, pair, owner));
    return flow === NO_FLOW ? NO_NODE : this.keeping(tables.node(flow));
  }

  private fragmentNode(first: number, identification: number): number {
    const { tables, client } = this;
    const owner = ownerOf(first, FlowKind.fragment);
    const hash = tables.flowHash(client, identification, owner);
    const flow = tables.find(client, identification, owner, hash);
    return flow === NO_FLOW ? NO_NODE : this.keeping(tables.node(flow));
  }

  private noteFragment(first: number, identification: number, node: number): void {
    const { tables, client } = this;
    const owner = ownerOf(first, FlowKind.fragment);
    const hash = tables.flowHash(client, identification, owner);
    const flow = tables.find(client, identification, owner, hash);
    const tick = tickOf(this.core.clock);
    if (flow !== NO_FLOW) tables.renew(flow, owner, node, tick);
    else this.count(tables.add(client, identification, owner, hash, node, tick));
  }

  private count(evicted: boolean): void {
    if (evicted) this.core.counters.count(Counter.forward_evicted);
  }

  private send(
    offset: number,
    length: number,
    frameFlags: number,
    server: number,
    node: number,
  ): void {
    const { core } = this;
    if (node === NO_NODE || !core.reachable(node)) {
      core.counters.count(Counter.forward_no_node);
      return;
    }
    core.addressTo(offset, node);
    core.transmit.forward(offset, length, frameFlags, core.portTo(node));
    this.counts.packet(server, node, length);
  }
}

/** FlowState bits that a packet with these TCP flags raises, if its flow is known. */
function stateAfter(flags: number): number {
  let state: number = FlowState.second;
  if ((flags & TcpFlag.fin) !== 0) state |= FlowState.fin;
  if ((flags & TcpFlag.rst) !== 0) state |= FlowState.rst;
  return state;
}
