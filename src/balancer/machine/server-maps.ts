/**
 * The virtual servers in the maps of guard or XDP program: `virtual_servers` and
 * `virtual_addresses` of bpf/lib/virtual-servers.h. Packets are looked up in them while they
 * change: what stays is never absent. The first map has no virtual servers with mode forward
 * (forward-maps.ts), the second has their addresses.
 */
import { hostU32 } from '../../host/bpf-object.js';
import type { BpfObject } from '../../host/native.js';
import {
  type Address,
  addressBytes,
  type Endpoint,
  formatEndpoint,
  isAddress6,
} from '../../wire/address.js';
import type { Aliases } from '../../wire/alias.js';
import type { ServerSlot } from '../objects/farm.js';

/**
 * struct guard_server, the key of maps `virtual_servers`: bytes of address and port as in a packet,
 * with the alias in place of an IPv6 address.
 */
export const GUARD_SERVER = { address: 0, port: 4, family: 6, bytes: 8 } as const;
const FAMILY_IPV6 = 6;

export class ServerMaps {
  private readonly object: BpfObject;
  private readonly aliases: Aliases;
  private readonly toValue: (server: ServerSlot) => number;
  /** What the map has: by endpoint as text, its key and value. */
  private readonly servers = new Map<string, { key: Uint8Array; value: number }>();
  private readonly addresses = new Set<Address>();

  /** @param toValue the value of a virtual server in the map */
  constructor(object: BpfObject, aliases: Aliases, toValue: (server: ServerSlot) => number) {
    this.object = object;
    this.aliases = aliases;
    this.toValue = toValue;
  }

  /**
   * Makes the maps hold these virtual servers and no others. Servers that leave do so first,
   * because another one may have the slot now. Throws the system's error when a map is full; then
   * another call completes or undoes what was begun.
   */
  set(servers: readonly ServerSlot[]): void {
    const { object } = this;
    const wanted = new Map(handingOff(servers).map((server) => [formatEndpoint(server), server]));
    const addresses = new Set(servers.map((server) => server.address));
    for (const [text, { key }] of this.servers) {
      if (wanted.has(text)) continue;
      object.mapDelete('virtual_servers', key);
      this.servers.delete(text);
    }
    for (const address of this.addresses) {
      if (addresses.has(address)) continue;
      object.mapDelete(mapOf(address), addressBytes(address));
      this.addresses.delete(address);
    }
    for (const [text, server] of wanted) {
      const value = this.toValue(server);
      if (this.servers.get(text)?.value === value) continue;
      const key = serverKey(server, this.aliases);
      object.mapUpdate('virtual_servers', key, hostU32(value));
      this.servers.set(text, { key, value });
    }
    for (const address of addresses) {
      if (this.addresses.has(address)) continue;
      const number = isAddress6(address) ? aliasBytes(this.aliases.of(address)) : hostU32(1);
      object.mapUpdate(mapOf(address), addressBytes(address), number);
      this.addresses.add(address);
    }
  }
}

/** Those with mode handoff. */
export function handingOff(servers: readonly ServerSlot[]): ServerSlot[] {
  return servers.filter(({ mode }) => mode === 'handoff');
}

/** A virtual server as the key of a map `virtual_servers`. */
export function serverKey({ address, port }: Endpoint, aliases: Aliases): Uint8Array {
  const key = new Uint8Array(GUARD_SERVER.bytes);
  const view = new DataView(key.buffer);
  view.setUint32(GUARD_SERVER.address, aliases.of(address));
  view.setUint16(GUARD_SERVER.port, port);
  if (isAddress6(address)) view.setUint16(GUARD_SERVER.family, FAMILY_IPV6, true);
  return key;
}

/** The map that has a virtual address. */
function mapOf(address: Address): string {
  return isAddress6(address) ? 'ipv6_aliases' : 'virtual_addresses';
}

/** An alias as in keys of BPF maps: four bytes, network byte order. */
function aliasBytes(alias: number): Uint8Array {
  const bytes = new Uint8Array(Uint32Array.BYTES_PER_ELEMENT);
  new DataView(bytes.buffer).setUint32(0, alias);
  return bytes;
}
