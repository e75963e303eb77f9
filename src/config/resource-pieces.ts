/**
 * A long list of resources in pieces. A thread that handles one piece at a time can do other things
 * in between. Each piece is JSON in shared memory, so another thread gets it without a copy.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { OwnedResource, ResourceData } from './data.js';
import { type BalancerConfig, resourceEntry } from './load.js';

/** About a millisecond of work. */
const PIECE_RESOURCES = 1_000;

/** JSON of one piece, in shared memory. */
export type ResourcePiece = Uint8Array;

/** All pieces at once. */
export function packResources(resources: readonly ResourceData[]): ResourcePiece[] {
  return [...pieces(resources)].map(pack);
}

/** All pieces, with a turn of the event loop after each. */
export async function packInTurns(resources: readonly ResourceData[]): Promise<ResourcePiece[]> {
  const packed: ResourcePiece[] = [];
  for (const piece of pieces(resources)) {
    packed.push(pack(piece));
    await nextTurn();
  }
  return packed;
}

/** The list of `packResources`. */
export function unpackResources(packed: readonly ResourcePiece[]): ResourceData[] {
  return packed.flatMap(unpack);
}

/** The list of `packResources`, with a turn of the event loop after each piece. */
export async function unpackInTurns(packed: readonly ResourcePiece[]): Promise<ResourceData[]> {
  const resources: ResourceData[] = [];
  for (const piece of packed) {
    resources.push(...unpack(piece));
    await nextTurn();
  }
  return resources;
}

/** The resources as a config has them. */
export type ResourceEntries = BalancerConfig['resources'];

/**
 * The resources of a checked config, which name their holders, with the holders as indexes of
 * `nodes`; a turn of the event loop after each piece.
 */
export async function entriesInTurns(
  resources: readonly OwnedResource[],
  nodes: BalancerConfig['nodes'],
): Promise<ResourceEntries> {
  const indices = new Map(nodes.map(({ name }, index) => [name, index]));
  const entries: ResourceEntries[number][] = [];
  for (const piece of pieces(resources)) {
    for (const resource of piece) entries.push(resourceEntry(resource, indices));
    await nextTurn();
  }
  return entries;
}

function* pieces<One>(resources: readonly One[]): Generator<readonly One[]> {
  for (let at = 0; at < resources.length; at += PIECE_RESOURCES)
    yield resources.slice(at, at + PIECE_RESOURCES);
}

function pack(resources: readonly ResourceData[]): ResourcePiece {
  const text = JSON.stringify(resources);
  const bytes = Buffer.from(new SharedArrayBuffer(Buffer.byteLength(text)));
  bytes.write(text);
  return new Uint8Array(bytes.buffer);
}

function unpack(piece: ResourcePiece): ResourceData[] {
  const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
  return JSON.parse(bytes.toString()) as ResourceData[];
}
