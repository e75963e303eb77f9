/** ARP for IPv4 over Ethernet (RFC 826), with the uses of RFC 5227: probe and announcement. */
import { type Address, type Address4, ipv4Number, toAddress } from './address.js';
import { ETHERNET, ETHERNET_HEADER_BYTES, EtherType } from './ethernet.js';

/** Byte offsets from the first byte of the ARP packet. */
export const ARP = {
  hardwareType: 0,
  protocolType: 2,
  hardwareLength: 4,
  protocolLength: 5,
  operation: 6,
  senderMac: 8,
  senderAddress: 14,
  targetMac: 18,
  targetAddress: 24,
} as const;

export const ArpOperation = { request: 1, reply: 2 } as const;
const ARP_BYTES = 28;
const HARDWARE_ETHERNET = 1;
/** Bytes of a whole frame that is built here. */
export const ARP_FRAME_BYTES = ETHERNET_HEADER_BYTES + ARP_BYTES;

/**
 * Builds a broadcast ARP request of `mac` for `target`. With sender 0 it is a probe (RFC 5227
 * section 2.1.1), with sender equal to target an announcement (section 2.3).
 */
export function buildArpRequest(mac: Uint8Array, sender: Address, target: Address): Uint8Array {
  const frame = new Uint8Array(ARP_FRAME_BYTES);
  const view = new DataView(frame.buffer);
  frame.fill(0xff, ETHERNET.destination, ETHERNET.source);
  frame.set(mac.subarray(0, 6), ETHERNET.source);
  view.setUint16(ETHERNET.type, EtherType.arp);
  const at = ETHERNET_HEADER_BYTES;
  view.setUint16(at + ARP.hardwareType, HARDWARE_ETHERNET);
  view.setUint16(at + ARP.protocolType, EtherType.ipv4);
  view.setUint8(at + ARP.hardwareLength, 6);
  view.setUint8(at + ARP.protocolLength, 4);
  view.setUint16(at + ARP.operation, ArpOperation.request);
  frame.set(mac.subarray(0, 6), at + ARP.senderMac);
  view.setUint32(at + ARP.senderAddress, ipv4Number(sender));
  view.setUint32(at + ARP.targetAddress, ipv4Number(target));
  return frame;
}

export interface ArpPacket {
  operation: number;
  senderMac: Uint8Array;
  senderAddress: Address4;
  targetAddress: Address4;
}

/** Parses the ARP packet in an Ethernet frame; undefined when there is no well-formed one. */
export function parseArp(frame: Uint8Array): ArpPacket | undefined {
  if (frame.length < ARP_FRAME_BYTES) return undefined;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const at = ETHERNET_HEADER_BYTES;
  if (view.getUint16(ETHERNET.type) !== EtherType.arp) return undefined;
  if (view.getUint16(at + ARP.hardwareType) !== HARDWARE_ETHERNET) return undefined;
  if (view.getUint16(at + ARP.protocolType) !== EtherType.ipv4) return undefined;
  if (view.getUint16(at + ARP.hardwareLength) !== 0x0604) return undefined;
  return {
    operation: view.getUint16(at + ARP.operation),
    senderMac: frame.slice(at + ARP.senderMac, at + ARP.senderMac + 6),
    senderAddress: toAddress(view.getUint32(at + ARP.senderAddress)),
    targetAddress: toAddress(view.getUint32(at + ARP.targetAddress)),
  };
}
