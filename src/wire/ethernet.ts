/** Ethernet II frames. */

/** Byte offsets of the header's fields. */
export const ETHERNET = { destination: 0, source: 6, type: 12, payload: 14 } as const;
export const ETHERNET_HEADER_BYTES = 14;

export const EtherType = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd } as const;

/** Writes a MAC address given as its upper 16 and lower 32 bits. */
export function writeMac(view: DataView, offset: number, high: number, low: number): void {
  view.setUint16(offset, high);
  view.setUint32(offset + 2, low);
}

/** The bit of a MAC address that says that the owner of the machine has made it up (IEEE 802). */
const MADE_UP = 0x02;

/** A MAC address that no interface has: that of an interface, six bytes, with one other bit. */
export function madeUpMac(mac: Uint8Array): Uint8Array {
  return mac.slice(0, 6).map((byte, index) => (index === 0 ? byte ^ MADE_UP : byte));
}

/** "02:00:00:00:00:01" */
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes.subarray(0, 6), (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** Parses a colon-separated MAC address into six bytes; undefined for any other text. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return undefined;
  return Uint8Array.from(text.split(':'), (pair) => Number.parseInt(pair, 16));
}
