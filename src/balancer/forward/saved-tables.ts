/**
 * The tables of a balancer with the datapath packet, for the next one: with xdp they outlive the
 * process in the maps of its program. A balancer that is replaced writes them, and the next one
 * takes them over.
 */
import { reasonOf } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { KeptFile } from '../../host/kept-file.js';
import { toAddress } from '../../wire/address.js';
import type { EarlierBucket, EarlierFlow, EarlierServer, ForwardEndpoint } from './earlier.js';

const VERSION = 1;
const ROLE = 'forward';
/** Numbers of a flow and of a bucket in the file. */
const FLOW_NUMBERS = 6;
const BUCKET_NUMBERS = 2;

interface Saved {
  readonly version: number;
  readonly servers: readonly {
    readonly at: ForwardEndpoint;
    readonly flows: readonly number[];
    readonly buckets: readonly number[];
  }[];
}

/** Writes what a run knows. Throws BatonError when the file cannot be written. */
export function saveTables(interfaceName: string, servers: readonly EarlierServer[]): void {
  if (servers.length === 0) return;
  const saved: Saved = {
    version: VERSION,
    servers: servers.map(({ at, flows, buckets }) => ({
      at,
      flows: flows.flatMap(({ client, ports, node, kind, state, seen }) => [
        ...[client, ports, node, kind, state, seen],
      ]),
      buckets: buckets.flatMap((bucket) => (bucket ? [bucket.node, bucket.seen] : [0, 0])),
    })),
  };
  new KeptFile(ROLE, interfaceName).write(JSON.stringify(saved));
}

/** Takes what an earlier run has written, and removes the file. Empty when there is nothing. */
export function takeSaved(interfaceName: string, log: Pick<Log, 'warn'>): EarlierServer[] {
  const file = new KeptFile(ROLE, interfaceName);
  try {
    const text = file.read();
    if (text === undefined) return [];
    file.remove();
    const saved = JSON.parse(text) as Saved;
    if (saved.version !== VERSION) throw new Error(`its version is ${saved.version}`);
    return saved.servers.map(({ at, flows, buckets }) => ({
      at: { ...at, address: toAddress(at.address) },
      flows: groups(flows, FLOW_NUMBERS).map(flowOf),
      buckets: groups(buckets, BUCKET_NUMBERS).map(bucketOf),
    }));
  } catch (error) {
    log.warn(`${file.path}: cannot be used, so flows choose their nodes anew: ${reasonOf(error)}`);
    return [];
  }
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
