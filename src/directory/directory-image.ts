/**
 * The contents of a resource directory, as plain data. Building it takes time: about a third of a
 * second for 100,000 resources. So one thread builds it in shared memory, and each engine thread
 * only makes its views of it (directory.ts).
 */
import { randomBytes } from 'node:crypto';
import { type ArrayMaker, ownArrays } from '../base/arrays.js';
import { BatonError } from '../base/errors.js';
import { SLASH } from '../request/http/tables.js';
import { type ByteEntry, type ByteTableImage, byteTableImage, rollHash } from './byte-table.js';
import { type HolderSets, holderSets } from './holders.js';
import { canonicalHost, canonicalPath, duplicates, type Resource } from './pattern.js';
import { type RewriteImage, rewriteImage } from './rewrite.js';

/** Tags of the host table. */
export const EXACT_HOST = 0;
export const WILDCARD_HOST = 1;
/**
 * Tags of a scope begin here. A scope has a tag for each of both, so that one table has all hosts.
 */
export const SCOPE_TAGS = 2;
/** The scope of the resources that are for no virtual server in particular. */
export const COMMON_SCOPE = 0;

export interface DirectoryImage {
  /** 32 bits: the offset basis of all hashes. It is secret, since clients choose what is hashed. */
  readonly seed: number;
  /**
   * Names of the virtual servers that have resources of their own. Scope s has those of
   * scopes[s - 1].
   */
  readonly scopes: readonly string[];
  /** Finds the group of a host, tagged SCOPE_TAGS * scope + EXACT_HOST or WILDCARD_HOST. */
  readonly hosts: ByteTableImage;
  /** Finds the resource of a path, tagged with a group. Resources with `alpn` are not in it. */
  readonly paths: ByteTableImage;
  /**
   * Finds the resource of an application protocol (ALPN), tagged with a group. A group that has any
   * also has an entry without bytes, which is no name of a protocol.
   */
  readonly protocols: ByteTableImage;
  readonly holders: HolderSets;
  readonly rewrites: RewriteImage;
  /** Requests for each resource, modulo 2^32. All threads that read the directory add to it. */
  readonly requests: Uint32Array;
  /**
   * Bytes of the longest exact host, and of the longest "*.host" without the "*"; 0: there is none.
   */
  readonly longestExact: number;
  readonly longestWildcard: number;
  /** Bytes of the longest path that does not end in "/"; 0: there is none. */
  readonly longestExactPath: number;
  /** Slashes of the deepest path that ends in "/"; 0: there is none. */
  readonly deepestPrefix: number;
  /** Bytes of the longest name of a protocol; 0: no resource has `alpn`. */
  readonly longestProtocol: number;
}

function hashForward(seed: number, bytes: Uint8Array): number {
  return bytes.reduce(rollHash, seed);
}

function hashBackward(seed: number, bytes: Uint8Array): number {
  return bytes.reduceRight(rollHash, seed);
}

/**
 * Builds the contents of a directory. A resource's place in `resources` is its index. To report a
 * mistake with its place in the config, call pathProblem, hostProblem and duplicates first.
 *
 * @param seed 32 bits; tests may set it
 * @throws BatonError BATON_CONFIG for an invalid pattern, and when two resources have the same host
 *   and path
 */
export function directoryImage(
  resources: readonly Resource[],
  seed = randomBytes(4).readInt32LE(),
  make: ArrayMaker = ownArrays,
): DirectoryImage {
  const [duplicate] = duplicates(resources);
  if (duplicate !== undefined) {
    const { host, path } = resources[duplicate[0]]!;
    throw new BatonError('BATON_CONFIG', `${host ?? ''}${path} occurs twice`);
  }

  const scopes = scopesOf(resources);
  const numbers = new Map(scopes.map((name, index) => [name, index + 1]));
  // The group of resources without a host has the number of its scope. The last of these is that of
  // a scope without resources (`scopeOf`).
  const firstGroup = scopes.length + 2;
  const hosts = new Map<string, ByteEntry>();
  const hostLengths: [number[], number[]] = [[0], [0]];
  const groupOf = (host: string | undefined, scope: number): number => {
    if (host === undefined) return scope;
    const { bytes, isWildcard } = canonicalHost(host);
    const kind = isWildcard ? WILDCARD_HOST : EXACT_HOST;
    const tag = SCOPE_TAGS * scope + kind;
    const key = `${tag} ${Buffer.from(bytes).toString('latin1')}`;
    let entry = hosts.get(key);
    if (entry === undefined) {
      entry = { tag, hash: hashBackward(seed, bytes), bytes, value: firstGroup + hosts.size };
      hosts.set(key, entry);
      hostLengths[kind].push(bytes.length);
    }
    return entry.value;
  };
  const entries: ByteEntry[] = [];
  const protocols = new ProtocolEntries(seed);
  for (const [index, { host, path, alpn, virtualServer = '' }] of resources.entries()) {
    const tag = groupOf(host, numbers.get(virtualServer) ?? COMMON_SCOPE);
    const bytes = canonicalPath(path);
    if (alpn === undefined)
      entries.push({ tag, hash: hashForward(seed, bytes), bytes, value: index });
    else protocols.add(tag, alpn, index);
  }
  const max = (numbers: readonly number[]) => numbers.reduce((a, b) => Math.max(a, b), 0);
  const isPrefix = (bytes: Uint8Array) => bytes[bytes.length - 1] === SLASH;
  const slashes = (bytes: Uint8Array) => bytes.filter((byte) => byte === SLASH).length;
  return {
    seed,
    scopes,
    hosts: byteTableImage([...hosts.values()], make),
    paths: byteTableImage(entries, make),
    protocols: byteTableImage(protocols.entries, make),
    holders: holderSets(resources, make),
    rewrites: rewriteImage(resources, make),
    requests: make.uint32(resources.length),
    longestExact: max(hostLengths[EXACT_HOST]),
    longestWildcard: max(hostLengths[WILDCARD_HOST]),
    longestExactPath: max(entries.map(({ bytes }) => (isPrefix(bytes) ? 0 : bytes.length))),
    deepestPrefix: max(entries.map(({ bytes }) => (isPrefix(bytes) ? slashes(bytes) : 0))),
    longestProtocol: max(protocols.entries.map(({ bytes }) => bytes.length)),
  };
}

function scopesOf(resources: readonly Resource[]): string[] {
  const names = new Set<string>();
  for (const { virtualServer } of resources)
    if (virtualServer !== undefined) names.add(virtualServer);
  return [...names];
}

/**
 * The scope in which the requests of a virtual server are looked up. A virtual server that was
 * removed together with its resources has a scope without any.
 */
export function scopeOf(
  { scopes }: Pick<DirectoryImage, 'scopes'>,
  { name, ownResources = false }: { readonly name: string; readonly ownResources?: boolean },
): number {
  if (!ownResources) return COMMON_SCOPE;
  const index = scopes.indexOf(name);
  return index < 0 ? scopes.length + 1 : index + 1;
}

/** The entries of `DirectoryImage.protocols`. */
class ProtocolEntries {
  readonly entries: ByteEntry[] = [];
  private readonly seed: number;
  private readonly groups = new Set<number>();

  constructor(seed: number) {
    this.seed = seed;
  }

  /** Of resources that name one protocol for the same hosts, the first counts. */
  add(group: number, names: readonly string[], resource: number): void {
    const add = (name: string): void => {
      const bytes = Buffer.from(name, 'latin1');
      this.entries.push({
        tag: group,
        hash: hashForward(this.seed, bytes),
        bytes,
        value: resource,
      });
    };
    if (!this.groups.has(group)) add('');
    this.groups.add(group);
    names.forEach(add);
  }
}
