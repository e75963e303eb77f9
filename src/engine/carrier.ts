/**
 * Takes frames for nodes across routers: in a packet from the balancer to the node's own address
 * (IxpType.carry, docs/ixp.md).
 *
 *     Ethernet | IPv4 client -> virtual address | ...
 *     Ethernet to the next router | IPv4 balancer -> node, 253 | CARRY | IPv4 client -> ... | ...
 *
 * Whatever does not fit in the link then is cut.
 */
import { Counter } from '../base/counters.js';
import { SegmentCutter } from '../datapath/cutter.js';
import { FrameFlags } from '../datapath/datapath.js';
import { ETHERNET, ETHERNET_HEADER_BYTES, EtherType } from '../wire/ethernet.js';
import { IPV4, IPV4_HEADER_BYTES, Protocol, writeIpv4 } from '../wire/ipv4.js';
import { CARRY, CARRY_BYTES, CARRY_HEADER_BYTES, IXP_VERSION, IxpType } from '../wire/ixp.js';
import { finishTcpChecksum } from '../wire/tcp.js';
import type { Core } from './core.js';

const IP = ETHERNET_HEADER_BYTES;
const CARRIED = IP + CARRY_BYTES;

export class Carrier {
  private readonly core: Core;
  private readonly cutter = new SegmentCutter();

  constructor(core: Core) {
    this.core = core;
  }

  /**
   * Sends the frame of `length` bytes in the room reserved last, which has CARRY_BYTES more.
   *
   * @param nonce of the session
   */
  commit(frame: number, length: number, node: number, nonce: number): void {
    const { bytes } = this.core.transmit.memory;
    bytes.copyWithin(frame + CARRIED, frame + IP, frame + length);
    this.finish(frame, length, node, nonce);
  }

  /**
   * Sends the current segment, or ICMP error, as it is in memory now, to the node of a session.
   * @returns false, counted, when it cannot be sent
   */
  forwardSegment(slot: number): boolean {
    const { core } = this;
    const { offset, length, frameFlags } = core.segment;
    const node = core.sessions.node(slot);
    if (core.nodes.carried[node] !== 0)
      return this.forward(offset, frameFlags, node, core.sessions.nonce(slot));
    core.addressTo(offset, node);
    core.transmit.forward(offset, length, frameFlags, core.portTo(node));
    return true;
  }

  /**
   * Sends a received frame, an IPv4 packet of the right length, with `flags` as it came.
   *
   * @param nonce of the session
   * @returns false, counted, when there is no room for it, or when it cannot be cut
   */
  private forward(offset: number, flags: number, node: number, nonce: number): boolean {
    const { core, cutter } = this;
    const { memory } = core.transmit;
    // Without the padding of a short frame.
    const length = IP + memory.view.getUint16(offset + IP + IPV4.totalLength);
    const most = core.options.mtu + IP - CARRY_BYTES;
    const whole =
      length <= most && (flags & (FrameFlags.checksumPartial | FrameFlags.segmented)) === 0;
    if (whole) {
      const frame = core.reserve(length + CARRY_BYTES);
      if (frame < 0) return false;
      memory.bytes.copyWithin(frame + CARRIED, offset + IP, offset + length);
      this.finish(frame, length, node, nonce);
      return true;
    }
    if ((flags & FrameFlags.truncated) !== 0 || !cutter.take(memory.bytes, offset, length)) {
      core.counters.count(Counter.drop_transmit_full);
      return false;
    }
    do {
      const frame = core.reserve(most + CARRY_BYTES);
      if (frame < 0) return false;
      const taken = cutter.next(memory, frame, most);
      const ip = frame + IP;
      const tcp = ip + IPV4_HEADER_BYTES;
      const source = memory.view.getUint32(ip + IPV4.source);
      const destination = memory.view.getUint32(ip + IPV4.destination);
      finishTcpChecksum(memory.view, tcp, frame + taken - tcp, source, destination);
      this.commit(frame, taken, node, nonce);
    } while (cutter.more);
    return true;
  }

  /** Writes what stands before the packet, and sends the frame. */
  private finish(frame: number, length: number, node: number, nonce: number): void {
    const { core } = this;
    const { view } = core.transmit.memory;
    core.addressTo(frame, node);
    view.setUint16(frame + ETHERNET.type, EtherType.ipv4);
    const total = length - IP + CARRY_BYTES;
    writeIpv4(view, frame + IP, total, Protocol.ixp, core.address, core.nodes.address[node]!);
    const carry = frame + IP + IPV4_HEADER_BYTES;
    view.setUint8(carry + CARRY.version, IXP_VERSION);
    view.setUint8(carry + CARRY.type, IxpType.carry);
    view.setUint8(carry + CARRY.length, CARRY_HEADER_BYTES);
    view.setUint8(carry + CARRY.length + 1, 0);
    view.setUint32(carry + CARRY.session, nonce);
    core.transmit.commit(frame, IP + total, core.nodePort);
  }
}
