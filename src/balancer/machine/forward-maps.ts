/**
 * The ports of virtual servers with mode forward in the maps of guard or XDP program:
 * `forward_addresses` and `forward_ranges` of bpf/lib/forward-ports.h. Packets are looked up in
 * them while they change. So a change goes into the half of the ranges that no address uses; then
 * one address after the other begins to use it.
 */
import { BatonError } from '../../base/errors.js';
import {
  FORWARD_ADDRESS,
  FORWARD_ADDRESS_BYTES,
  FORWARD_RANGE,
  FORWARD_RANGE_BYTES,
  FORWARD_SPAN,
  FORWARD_SPAN_BYTES,
  INLINE_SPAN,
  INLINE_SPAN_BYTES,
  INLINE_SPANS,
  MOST_FORWARD_RANGES,
  SPAN_COUNT_SHIFT,
  SPAN_TRANSPORT_SHIFT,
} from '../../engine/forward/layout.js';
import type { BpfObject } from '../../host/native.js';
import { type Address, addressBytes, toAddress } from '../../wire/address.js';
import { Protocol } from '../../wire/ipv4.js';
import type { ForwardEndpoint } from '../forward/earlier.js';
import type { ServerSlot } from '../objects/farm.js';

/** Where clients reach a virtual server with mode forward. */
export type ForwardPlace = Pick<ServerSlot, 'slot' | 'address' | 'transport' | 'ports'>;

interface Range {
  readonly from: number;
  readonly to: number;
  readonly slot: number;
}

export class ForwardMaps {
  private readonly object: BpfObject;
  private readonly ranges: DataView;
  /** The half that is in use. */
  private half = 0;
  /** The keys that the map has, by text. */
  private readonly keys = new Map<string, Uint8Array>();
  private written = '';
  /** The first keys and values once more, one element each; undefined: the object has none. */
  private readonly entries: BigInt64Array | undefined;
  /** By entry, the name of its key; undefined: free. */
  private readonly holders: (string | undefined)[] = Array(INLINE_SPANS).fill(undefined);

  /** @param hasEntries the object has the map `inline_spans`, which is empty */
  constructor(object: BpfObject, hasEntries: boolean) {
    this.object = object;
    this.ranges = new DataView(object.mapMemory('forward_ranges'));
    if (hasEntries) this.entries = new BigInt64Array(object.mapMemory('inline_spans'));
  }

  /**
   * Makes the maps hold the ports of these virtual servers and no others; those with mode handoff
   * are left out. Throws the system's error when a map is full; then another call completes or
   * undoes what was begun.
   * @throws BatonError BATON_CONFIG when there are too many ranges
   */
  set(servers: readonly ServerSlot[]): void {
    const spans = rangesOf(servers.filter(({ mode }) => mode === 'forward'));
    const text = JSON.stringify([...spans.values()].map(({ key, ranges }) => [[...key], ranges]));
    if (text === this.written) return;
    this.written = '';
    const { object, ranges } = this;
    for (const [name, key] of this.keys) {
      if (spans.has(name)) continue;
      this.clearEntry(name);
      object.mapDelete('forward_addresses', key);
      this.keys.delete(name);
    }
    this.half = 1 - this.half;
    let next = this.half * MOST_FORWARD_RANGES;
    for (const [name, { key, ranges: list }] of spans) {
      const first = next;
      for (const { from, to, slot } of list) {
        const at = next * FORWARD_RANGE_BYTES;
        ranges.setUint16(at + FORWARD_RANGE.from, from, LITTLE);
        ranges.setUint16(at + FORWARD_RANGE.to, to, LITTLE);
        ranges.setUint32(at + FORWARD_RANGE.slot, slot, LITTLE);
        next += 1;
      }
      const span = new DataView(new ArrayBuffer(FORWARD_SPAN_BYTES));
      span.setUint32(FORWARD_SPAN.first, first, LITTLE);
      span.setUint32(FORWARD_SPAN.count, list.length, LITTLE);
      object.mapUpdate('forward_addresses', key, new Uint8Array(span.buffer));
      this.keys.set(name, key);
      this.writeEntry(name, key, first, list.length);
    }
    this.written = text;
  }

  /** Writes an entry with one store, because the program reads it at any time. */
  private writeEntry(name: string, key: Uint8Array, first: number, count: number): void {
    const known = this.holders.indexOf(name);
    const at = known < 0 ? this.holders.indexOf(undefined) : known;
    if (this.entries === undefined || at < 0) return;
    const transport = new DataView(key.buffer).getUint32(FORWARD_ADDRESS.transport, LITTLE);
    const entry = new DataView(new ArrayBuffer(INLINE_SPAN_BYTES));
    new Uint8Array(entry.buffer).set(
      key.subarray(FORWARD_ADDRESS.address, FORWARD_ADDRESS.transport),
      INLINE_SPAN.address,
    );
    const span = (transport << SPAN_TRANSPORT_SHIFT) | (count << SPAN_COUNT_SHIFT) | first;
    entry.setUint32(INLINE_SPAN.span, span, LITTLE);
    Atomics.store(this.entries, at, entry.getBigInt64(0, LITTLE));
    this.holders[at] = name;
  }

  private clearEntry(name: string): void {
    const at = this.holders.indexOf(name);
    if (this.entries === undefined || at < 0) return;
    Atomics.store(this.entries, at, 0n);
    this.holders[at] = undefined;
  }
}

/** Whether this machine has the lowest byte of a number first. */
const LITTLE = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** The ranges of each address and transport, in ascending order. */
function rangesOf(
  places: readonly ForwardPlace[],
): Map<string, { key: Uint8Array; ranges: Range[] }> {
  const spans = new Map<string, { key: Uint8Array; ranges: Range[] }>();
  let count = 0;
  for (const { slot, address, transport, ports } of places) {
    const name = `${address}/${transport}`;
    const span = spans.get(name) ?? { key: spanKey(address, transport), ranges: [] };
    span.ranges.push(...ports.map(({ from, to }) => ({ from, to, slot })));
    count += ports.length;
    spans.set(name, span);
  }
  if (count > MOST_FORWARD_RANGES) {
    throw new BatonError(
      'BATON_CONFIG',
      `the virtual servers with mode forward have ${count} ranges of ports: there is room for ${MOST_FORWARD_RANGES}`,
    );
  }
  for (const { ranges } of spans.values()) ranges.sort((a, b) => a.from - b.from);
  return spans;
}

function spanKey(address: Address, transport: ForwardPlace['transport']): Uint8Array {
  const key = new Uint8Array(FORWARD_ADDRESS_BYTES);
  key.set(addressBytes(address), FORWARD_ADDRESS.address);
  const protocol = transport === 'udp' ? Protocol.udp : Protocol.tcp;
  new DataView(key.buffer).setUint32(FORWARD_ADDRESS.transport, protocol, LITTLE);
  return key;
}

/** The place of each virtual server in such maps, by slot: its lowest port. */
export function readPlaces(
  addresses: readonly { key: Uint8Array; value: Uint8Array }[],
  ranges: ArrayBuffer,
): Map<number, ForwardEndpoint> {
  const places = new Map<number, ForwardEndpoint>();
  const view = new DataView(ranges);
  for (const { key, value } of addresses) {
    const keyView = new DataView(key.buffer, key.byteOffset, key.byteLength);
    const span = new DataView(value.buffer, value.byteOffset, value.byteLength);
    const address = toAddress(keyView.getUint32(FORWARD_ADDRESS.address));
    const protocol = keyView.getUint32(FORWARD_ADDRESS.transport, LITTLE);
    const first = span.getUint32(FORWARD_SPAN.first, LITTLE);
    const count = span.getUint32(FORWARD_SPAN.count, LITTLE);
    for (let at = first; at < first + count; at++) {
      const slot = view.getUint32(at * FORWARD_RANGE_BYTES + FORWARD_RANGE.slot, LITTLE);
      const port = view.getUint16(at * FORWARD_RANGE_BYTES + FORWARD_RANGE.from, LITTLE);
      const transport = protocol === Protocol.udp ? 'udp' : 'tcp';
      if (!places.has(slot)) places.set(slot, { address, transport, port });
    }
  }
  return places;
}
