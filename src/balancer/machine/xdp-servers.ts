/**
 * The virtual servers as the XDP program finds them (find_server of bpf/xdp/xdp-session.h): all in
 * its maps, and the first few in `control` too, which costs a packet less. The program reads while
 * we write, and must not miss a server that stays. Therefore a server keeps its entry in `control`
 * as long as it is in use, and the number of servers falls only after all of them have entries.
 */
import {
  CONTROL,
  INLINE_SERVER_BYTES,
  INLINE_SERVERS,
  NO_SERVER,
  SERVER_ACKS_UP,
  SERVER_RETIRED,
} from '../../datapath/xdp-layout.js';
import type { BpfObject } from '../../host/native.js';
import { formatEndpoint, isAddress6 } from '../../wire/address.js';
import type { Aliases } from '../../wire/alias.js';
import type { ServerSlot } from '../objects/farm.js';
import { ForwardMaps } from './forward-maps.js';
import { handingOff, ServerMaps, serverKey } from './server-maps.js';

export class XdpServers {
  private readonly aliases: Aliases;
  private readonly maps: ServerMaps;
  private readonly forward: ForwardMaps;
  /** Virtual servers with mode forward. */
  private readonly forwards: Uint32Array;
  private readonly count: Uint32Array;
  /** Those with an IPv6 address. */
  private readonly ipv6: Uint32Array;
  /** An entry is one element, so that one store writes it. */
  private readonly entries: BigInt64Array;
  /** By entry, the endpoint of its server as text; undefined: free. */
  private readonly holders: (string | undefined)[] = Array(INLINE_SERVERS).fill(undefined);

  /** @param control memory of the map `control` */
  constructor(object: BpfObject, control: ArrayBuffer, aliases: Aliases) {
    this.aliases = aliases;
    this.maps = new ServerMaps(object, aliases, serverValue);
    this.forward = new ForwardMaps(object, true);
    this.forwards = new Uint32Array(control, CONTROL.forwards, 1);
    this.count = new Uint32Array(control, CONTROL.servers, 1);
    this.ipv6 = new Uint32Array(control, CONTROL.ipv6, 1);
    this.entries = new BigInt64Array(control, CONTROL.inlineServers, INLINE_SERVERS);
    for (let entry = 0; entry < INLINE_SERVERS; entry++) this.write(entry, undefined);
  }

  /**
   * Makes the program know these virtual servers and no others. Throws as ServerMaps.set and
   * ForwardMaps.set do.
   */
  set(servers: readonly ServerSlot[]): void {
    const handoff = handingOff(servers);
    // An inline entry has no room for the family, so IPv6 is always looked up.
    const inline = handoff.filter(({ address }) => !isAddress6(address));
    const wanted = new Map(inline.map((server) => [formatEndpoint(server), server]));
    for (const [entry, holder] of this.holders.entries()) {
      if (holder !== undefined && !wanted.has(holder)) this.write(entry, undefined);
    }
    this.maps.set(servers);
    this.forward.set(servers);
    for (const [entry, holder] of this.holders.entries()) {
      if (holder !== undefined) this.write(entry, wanted.get(holder));
    }
    for (const [text, server] of wanted) {
      if (this.holders.includes(text)) continue;
      const free = this.holders.indexOf(undefined);
      if (free < 0) break;
      this.write(free, server);
    }
    Atomics.store(this.count, 0, inline.length);
    Atomics.store(this.ipv6, 0, handoff.length - inline.length);
    Atomics.store(this.forwards, 0, servers.length - handoff.length);
  }

  private write(entry: number, server: ServerSlot | undefined): void {
    const bytes = new Uint8Array(INLINE_SERVER_BYTES);
    if (server !== undefined) bytes.set(serverKey(server, this.aliases));
    const value = server === undefined ? NO_SERVER : serverValue(server);
    new Uint16Array(bytes.buffer)[INLINE_SERVER_BYTES / Uint16Array.BYTES_PER_ELEMENT - 1] = value;
    Atomics.store(this.entries, entry, new BigInt64Array(bytes.buffer)[0] ?? 0n);
    this.holders[entry] = server === undefined ? undefined : formatEndpoint(server);
  }
}

/** A virtual server as `find_server` returns it. */
function serverValue({ slot, retired, protocol }: ServerSlot): number {
  return slot | (retired ? SERVER_RETIRED : 0) | (protocol === 'tcp' ? SERVER_ACKS_UP : 0);
}
