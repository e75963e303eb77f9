/**
 * Link layers of capture files: finds the IPv4 header in a captured frame. The numbers are the
 * LINKTYPE_ values of the tcpdump registry.
 */
import { ETHERNET, EtherType } from './ethernet.js';

export const LinkType = {
  /** BSD loopback: address family in the byte order of the machine that captured. */
  null: 0,
  ethernet: 1,
  /** Raw IP as some systems number it: OpenBSD, others, and the registry's own number. */
  rawOpenBsd: 12,
  rawOther: 14,
  raw: 101,
  /** OpenBSD loopback: address family in network byte order. */
  loop: 108,
  /** Linux "any" device. */
  linuxCooked: 113,
  rawIpv4: 228,
  linuxCooked2: 276,
} as const;

const LINUX_COOKED = { protocol: 14, payload: 16 } as const;
const LINUX_COOKED_2 = { protocol: 0, payload: 20 } as const;
const LOOPBACK_HEADER_BYTES = 4;
const FAMILY_IPV4 = 2; // AF_INET has this number on every system
const VLAN_TAG_BYTES = 4;
/** Tags of 802.1Q, of 802.1ad, and of switches from before the latter. */
const VLAN_TYPES: readonly number[] = [EtherType.vlan, 0x88a8, 0x9100];
const IP_VERSION_4 = 4;

/** Results of `ipv4Offset` that are not offsets. */
export const NoIpv4 = {
  /** The frame carries another protocol, or its link header is incomplete. */
  other: -1,
  /** The link type is not one of those above. */
  unknownLink: -2,
} as const;

/**
 * Offset in the view of the IPv4 header of the frame view[offset, offset + length), or a negative
 * value of `NoIpv4`. At least one byte of the header is there. The caller checks the rest.
 */
export function ipv4Offset(
  view: DataView,
  linkType: number,
  offset: number,
  length: number,
): number {
  const end = offset + length;
  switch (linkType) {
    case LinkType.ethernet:
      return afterEtherType(view, offset + ETHERNET.type, end);
    case LinkType.linuxCooked: {
      if (length < LINUX_COOKED.payload) return NoIpv4.other;
      return afterEtherType(view, offset + LINUX_COOKED.protocol, end);
    }
    case LinkType.linuxCooked2: {
      if (length <= LINUX_COOKED_2.payload) return NoIpv4.other;
      if (view.getUint16(offset + LINUX_COOKED_2.protocol) !== EtherType.ipv4) return NoIpv4.other;
      return version4(view, offset + LINUX_COOKED_2.payload);
    }
    case LinkType.null:
    case LinkType.loop: {
      if (length <= LOOPBACK_HEADER_BYTES) return NoIpv4.other;
      const family = view.getUint32(offset);
      const isIpv4 =
        family === FAMILY_IPV4 ||
        (linkType === LinkType.null && view.getUint32(offset, true) === FAMILY_IPV4);
      return isIpv4 ? version4(view, offset + LOOPBACK_HEADER_BYTES) : NoIpv4.other;
    }
    case LinkType.raw:
    case LinkType.rawIpv4:
    case LinkType.rawOpenBsd:
    case LinkType.rawOther:
      return length < 1 ? NoIpv4.other : version4(view, offset);
    default:
      return NoIpv4.unknownLink;
  }
}

/** Follows VLAN tags from the type field at `at`. */
function afterEtherType(view: DataView, at: number, end: number): number {
  while (at + 2 < end) {
    const type = view.getUint16(at);
    if (type === EtherType.ipv4) return version4(view, at + 2);
    if (!VLAN_TYPES.includes(type)) return NoIpv4.other;
    at += VLAN_TAG_BYTES;
  }
  return NoIpv4.other;
}

function version4(view: DataView, at: number): number {
  return view.getUint8(at) >>> 4 === IP_VERSION_4 ? at : NoIpv4.other;
}
