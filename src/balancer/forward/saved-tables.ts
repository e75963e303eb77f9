/**
 * The tables of a balancer with the datapath packet, for the next one: with xdp they outlive the
 * process in the maps of its program. A balancer that is replaced writes them, and the next one
 * takes them over. Index and MAC address are those of the interface, as in a journal.
 */
import { existsSync } from 'node:fs';
import { reasonOf } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { KeptFile } from '../../host/kept-file.js';
import { type Address, ipv4Number, toAddress } from '../../wire/address.js';
import { formatMac, parseMac } from '../../wire/ethernet.js';
import type { EarlierBucket, EarlierFlow, EarlierServer, ForwardEndpoint } from './earlier.js';

const VERSION = 2;
const ROLE = 'forward';
/** Numbers of a flow and of a bucket in the file. */
const FLOW_NUMBERS = 6;
const BUCKET_NUMBERS = 2;

/** The interface of a balancer. */
export interface Place {
  readonly interface: string;
  readonly index: number;
  /** Six bytes. */
  readonly mac: Uint8Array;
}

/** The MAC address of a node, six bytes. */
export interface EarlierNeighbour {
  readonly address: Address;
  readonly mac: Uint8Array;
}

/** What a run knows that forwards without an XDP program. */
export interface EarlierRun {
  readonly servers: readonly EarlierServer[];
  /** Nodes whose MAC addresses it knew. */
  readonly neighbours: readonly EarlierNeighbour[];
}

interface Saved {
  readonly version: number;
  readonly index: number;
  readonly mac: string;
  readonly servers: readonly {
    readonly at: Omit<ForwardEndpoint, 'address'> & { readonly address: number };
    readonly flows: readonly number[];
    readonly buckets: readonly number[];
  }[];
  readonly neighbours: readonly { readonly address: number; readonly mac: string }[];
}

const NOTHING: EarlierRun = { servers: [], neighbours: [] };

/** Writes what a run knows. Throws BatonError when the file cannot be written. */
export function saveTables(place: Place, { servers, neighbours }: EarlierRun): void {
  if (servers.length === 0) return;
  const saved: Saved = {
    version: VERSION,
    index: place.index,
    mac: formatMac(place.mac),
    servers: servers.map(({ at, flows, buckets }) => ({
      at: { ...at, address: ipv4Number(at.address) },
      flows: flows.flatMap(({ client, ports, node, kind, state, seen }) => [
        ...[client, ports, ipv4Number(node), kind, state, seen],
      ]),
      buckets: buckets.flatMap((bucket) =>
        bucket ? [ipv4Number(bucket.node), bucket.seen] : [0, 0],
      ),
    })),
    neighbours: neighbours.map(({ address, mac }) => ({
      address: ipv4Number(address),
      mac: formatMac(mac),
    })),
  };
  new KeptFile(ROLE, place.interface).write(JSON.stringify(saved));
}

/** Takes what an earlier run has written, and removes the file. Empty when there is nothing. */
export function takeSaved(place: Place, log: Pick<Log, 'warn'>): EarlierRun {
  const file = new KeptFile(ROLE, place.interface);
  try {
    const text = file.read();
    if (text === undefined) return NOTHING;
    file.remove();
    const saved = JSON.parse(text) as Saved;
    if (saved.version !== VERSION) throw new Error(`its version is ${saved.version}`);
    // Of an interface that is gone, in a network namespace that is gone.
    if (saved.index !== place.index || saved.mac !== formatMac(place.mac)) return NOTHING;
    return {
      servers: saved.servers.map(({ at, flows, buckets }) => ({
        at: { ...at, address: toAddress(at.address) },
        flows: groups(flows, FLOW_NUMBERS).map(flowOf),
        buckets: groups(buckets, BUCKET_NUMBERS).map(bucketOf),
      })),
      neighbours: saved.neighbours.flatMap(({ address, mac }) => {
        const bytes = parseMac(mac);
        return bytes === undefined ? [] : [{ address: toAddress(address), mac: bytes }];
      }),
    };
  } catch (error) {
    log.warn(`${file.path}: cannot be used, so flows choose their nodes anew: ${reasonOf(error)}`);
    return NOTHING;
  }
}

/** Removes what a run has written for the next one. Returns whether there was something. */
export function forgetSaved(interfaceName: string): boolean {
  const file = new KeptFile(ROLE, interfaceName);
  const found = existsSync(file.path);
  file.remove();
  return found;
}

function groups(numbers: readonly number[], size: number): readonly number[][] {
  return Array.from({ length: numbers.length / size }, (_, index) =>
    numbers.slice(index * size, (index + 1) * size),
  );
}

function flowOf([
  client = 0,
  ports = 0,
  node = 0,
  kind = 0,
  state = 0,
  seen = 0,
]: readonly number[]) {
  return { client, ports, node: toAddress(node), kind, state, seen } satisfies EarlierFlow;
}

function bucketOf([node = 0, seen = 0]: readonly number[]): EarlierBucket | undefined {
  return node === 0 ? undefined : { node: toAddress(node), seen };
}
