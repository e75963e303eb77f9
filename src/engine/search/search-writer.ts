/**
 * Builds what the search for a connection sends: questions to nodes (docs/ixp.md, "Unknown
 * connections"), and an RST to the client if no node has the connection. There is no session.
 */
import { Counter } from '../../base/counters.js';
import { Port } from '../../datapath/datapath.js';
import { ETHERNET, ETHERNET_HEADER_BYTES, EtherType, writeMac } from '../../wire/ethernet.js';
import { IPV4_HEADER_BYTES, Protocol, writeIpv4 } from '../../wire/ipv4.js';
import { finishTcpChecksum6, IPV6, IPV6_HEADER_BYTES, writeIpv6 } from '../../wire/ipv6.js';
import { IXP, IXP_HEADER_BYTES, IXP_VERSION, IxpType, sealIxp } from '../../wire/ixp.js';
import { finishTcpChecksum, TCP_HEADER_BYTES, TcpFlag, writeTcp } from '../../wire/tcp.js';
import { Carrier } from '../carrier.js';
import type { Core } from '../core.js';
import type { LostConnections } from './lost-connections.js';

const IP = ETHERNET_HEADER_BYTES;
/** The least MSS of IXP. No node reads it in a question. */
const ANY_MSS = 536;

export class SearchWriter {
  private readonly core: Core;
  private readonly lost: LostConnections;
  private readonly carrier: Carrier;

  constructor(core: Core, lost: LostConnections) {
    this.core = core;
    this.lost = lost;
    this.carrier = new Carrier(core);
  }

  /** Asks a node, whose MAC address is known, whether it has the connection. */
  ask(entry: number, node: number): boolean {
    const { core, lost } = this;
    const { transmit, hash } = core;
    const ipBytes = core.servers.ipBytes[this.serverOf(entry)]!;
    const length = IP + ipBytes + IXP_HEADER_BYTES + TCP_HEADER_BYTES;
    const frame = core.reserve(length + core.nodes.carryBytes);
    if (frame < 0) return false;
    const { view } = transmit.memory;
    const ixp = frame + IP + ipBytes;
    const tcp = ixp + IXP_HEADER_BYTES;
    const port = lost.portServer[entry]! >>> 16;
    const serverPort = core.servers.port[this.serverOf(entry)]!;
    const sequence = lost.sequence[entry]!;
    const acknowledgement = lost.acknowledgement[entry]!;
    const bytes = TCP_HEADER_BYTES;
    if (ipBytes === IPV6_HEADER_BYTES) {
      view.setUint16(frame + ETHERNET.type, EtherType.ipv6);
      writeIpv6(view, frame + IP, IXP_HEADER_BYTES + bytes, Protocol.ixp);
      this.writeAddresses6(entry, frame + IP + IPV6.source, frame + IP + IPV6.destination);
    } else {
      view.setUint16(frame + ETHERNET.type, EtherType.ipv4);
      const server = core.servers.address[this.serverOf(entry)]!;
      writeIpv4(view, frame + IP, length - IP, Protocol.ixp, lost.client[entry]!, server);
    }
    writeTcp(view, tcp, port, serverPort, sequence, acknowledgement, bytes, TcpFlag.ack, 0);
    this.finishChecksum(entry, frame + IP, tcp);
    view.setUint8(ixp + IXP.version, IXP_VERSION);
    view.setUint8(ixp + IXP.type, IxpType.query);
    view.setUint8(ixp + IXP.length, IXP_HEADER_BYTES);
    view.setUint8(ixp + IXP.service, 0);
    view.setUint32(ixp + IXP.session, lost.question[entry]!);
    view.setUint32(ixp + IXP.balancer, core.ownTowards(node));
    view.setUint32(ixp + IXP.confirm, sequence);
    view.setUint16(ixp + IXP.mss, ANY_MSS);
    view.setUint16(ixp + IXP.flags, 0);
    view.setUint32(ixp + IXP.tsval, 0);
    view.setUint32(ixp + IXP.tsecr, 0);
    sealIxp(view, frame + IP, ixp, hash);
    if (core.nodes.carried[node] !== 0)
      this.carrier.commit(frame, length, node, lost.question[entry]!);
    else {
      core.addressTo(frame, node);
      transmit.commit(frame, length, core.portTo(node));
    }
    core.counters.count(Counter.sent);
    return true;
  }

  /** An RST in answer to the connection's last segment (RFC 9293 section 3.10.7.1). */
  reset(entry: number): void {
    const { core, lost } = this;
    const server = this.serverOf(entry);
    const ipBytes = core.servers.ipBytes[server]!;
    const frame = core.reserve(IP + ipBytes + TCP_HEADER_BYTES);
    if (frame < 0) return;
    const { view } = core.transmit.memory;
    const tcp = frame + IP + ipBytes;
    const port = lost.portServer[entry]! >>> 16;
    const sequence = lost.acknowledgement[entry]!;
    const bytes = TCP_HEADER_BYTES;
    writeMac(view, frame + ETHERNET.destination, lost.macHigh[entry]!, lost.macLow[entry]!);
    writeMac(view, frame + ETHERNET.source, core.macHigh, core.macLow);
    if (ipBytes === IPV6_HEADER_BYTES) {
      view.setUint16(frame + ETHERNET.type, EtherType.ipv6);
      writeIpv6(view, frame + IP, bytes, Protocol.tcp);
      this.writeAddresses6(entry, frame + IP + IPV6.destination, frame + IP + IPV6.source);
    } else {
      view.setUint16(frame + ETHERNET.type, EtherType.ipv4);
      const from = core.servers.address[server]!;
      writeIpv4(view, frame + IP, ipBytes + bytes, Protocol.tcp, from, lost.client[entry]!);
    }
    writeTcp(view, tcp, core.servers.port[server]!, port, sequence, 0, bytes, TcpFlag.rst, 0);
    this.finishChecksum(entry, frame + IP, tcp);
    core.transmit.commit(frame, tcp + bytes - frame, Port.wire);
    core.counters.count(Counter.sent);
    core.counters.count(Counter.reset_sent);
  }

  private serverOf(entry: number): number {
    return this.lost.portServer[entry]! & 0xffff;
  }

  private writeAddresses6(entry: number, client: number, server: number): void {
    const { view } = this.core.transmit.memory;
    this.lost.addresses.write(entry, view, client);
    this.core.servers.writeAddress(this.serverOf(entry), view, server);
  }

  /** The sum is the same in both directions. */
  private finishChecksum(entry: number, ip: number, tcp: number): void {
    const { core, lost } = this;
    const { view } = core.transmit.memory;
    const server = this.serverOf(entry);
    if (core.servers.ipBytes[server] === IPV4_HEADER_BYTES) {
      const address = core.servers.address[server]!;
      finishTcpChecksum(view, tcp, TCP_HEADER_BYTES, lost.client[entry]!, address);
    } else finishTcpChecksum6(view, ip, tcp, TCP_HEADER_BYTES, Protocol.tcp);
  }
}
