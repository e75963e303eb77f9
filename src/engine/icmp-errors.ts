/** ICMP errors about packets that nodes sent from a virtual address. They go on to the node. */
import { Counter } from '../base/counters.js';
import { ICMP, ICMP_INNER_TRANSPORT_BYTES, isIcmpError, isIcmpv6Error } from '../wire/icmp.js';
import { IPV4, IPV4_HEADER_BYTES, Protocol, VERSION_4_WORDS_5 } from '../wire/ipv4.js';
import { checksum6, IPV6, IPV6_HEADER_BYTES, isVersion6 } from '../wire/ipv6.js';
import { Carrier } from './carrier.js';
import type { Core } from './core.js';
import { PORT_OF_IPV6 } from './segment.js';
import { SessionState } from './table/session-table.js';

export class IcmpErrors {
  private readonly core: Core;
  private readonly carrier: Carrier;

  constructor(core: Core) {
    this.core = core;
    this.carrier = new Carrier(core);
  }

  /**
   * An ICMP error about a packet from a virtual address belongs to the node that sent the packet:
   * path MTU discovery (RFC 1191) happens there.
   */
  receive(): void {
    const core = this.core;
    const { segment, servers, sessions, counters } = core;
    const view = segment.view;
    const inner = segment.tcp + ICMP.inner;
    if (!servers.hasAddress(segment.destination)) {
      counters.count(Counter.drop_not_ours);
      return;
    }
    if (
      segment.end - inner < IPV4_HEADER_BYTES + ICMP_INNER_TRANSPORT_BYTES ||
      !isIcmpError(view.getUint8(segment.tcp)) ||
      view.getUint8(inner) !== VERSION_4_WORDS_5
    ) {
      counters.count(Counter.drop_malformed_icmp);
      return;
    }
    if (core.forwarding?.receiveError(inner) === true) return;
    if (view.getUint8(inner + IPV4.protocol) !== Protocol.tcp) {
      counters.count(Counter.drop_malformed_icmp);
      return;
    }
    // The inner packet went from the virtual server to the client.
    const ports = view.getUint32(inner + IPV4_HEADER_BYTES);
    const server = servers.find(view.getUint32(inner + IPV4.source), ports >>> 16);
    const key = ((ports << 16) | server) >>> 0;
    const slot = server < 0 ? -1 : sessions.find(view.getUint32(inner + IPV4.destination), key);
    this.forward(slot);
  }

  /**
   * The same for ICMPv6 (RFC 4443, RFC 8201). The checksum covers the whole error, so that a
   * damaged one does not count.
   */
  receive6(): void {
    const { segment, servers, sessions, counters } = this.core;
    const { view, tcp, end, ip } = segment;
    const inner = tcp + ICMP.inner;
    const ports = inner + IPV6_HEADER_BYTES;
    if (!servers.hasAddress(segment.destination)) {
      counters.count(Counter.drop_not_ours);
      return;
    }
    if (
      end - ports < ICMP_INNER_TRANSPORT_BYTES ||
      !isIcmpv6Error(view.getUint8(tcp)) ||
      !isVersion6(view.getUint8(inner)) ||
      view.getUint8(inner + IPV6.nextHeader) !== Protocol.tcp ||
      checksum6(view, ip, Protocol.icmpv6, tcp, end - tcp) !== 0
    ) {
      counters.count(Counter.drop_malformed_icmp);
      return;
    }
    // The inner packet went from the virtual server to the client.
    const from = inner + IPV6.source;
    const to = inner + IPV6.destination;
    const port = view.getUint16(ports) | PORT_OF_IPV6;
    const server = servers.find(this.core.aliases.at(view, from), port);
    const key = ((view.getUint16(ports + 2) << 16) | server) >>> 0;
    const known = server >= 0 && servers.isAt(server, view, from);
    const slot = known ? sessions.find(this.core.aliases.at(view, to), key) : -1;
    this.forward(slot >= 0 && sessions.clients.is(slot, view, to) ? slot : -1);
  }

  /** Sends the current error to the node of this session; counts it if there is none. */
  private forward(slot: number): void {
    const { core } = this;
    const { sessions, counters } = core;
    // A node that has not confirmed may already have sent a packet that was too large: where the
    // client is to confirm, the node sends no notice.
    if (
      slot < 0 ||
      sessions.state(slot) < SessionState.handing ||
      !core.reachable(sessions.node(slot))
    ) {
      counters.count(Counter.drop_malformed_icmp);
      return;
    }
    if (!this.carrier.forwardSegment(slot)) return;
    counters.count(Counter.icmp_forwarded);
  }
}
