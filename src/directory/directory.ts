/**
 * The resource directory finds the resource that covers the host and path of a request.
 *
 *     host   www.example.org ─┬─> group of "www.example.org"    exact
 *                             ├─> group of "*.example.org"      longest wildcard first
 *                             └─> group without host            last
 *     path   /a/b/c.html     ───> in each group: "/a/b/c.html", then "/a/b/", "/a/", "/"
 *
 * The first match in this order is the answer. One pass over the path gives the hashes of all
 * prefixes that end in "/". One pass over the host, from its end, gives the hashes of all suffixes
 * that begin with ".". A prefix or suffix that is deeper or longer than every pattern is skipped.
 * So the directory bounds the cost of a look-up, whatever the client sends.
 */
import { randomBytes } from 'node:crypto';
import { BatonError } from '../base/errors.js';
import { DOT, SLASH } from '../request/http/tables.js';
import { type ByteEntry, ByteTable, rollHash } from './byte-table.js';
import { HolderSets } from './holders.js';
import { canonicalHost, canonicalPath, duplicates, type Resource } from './pattern.js';

/** Tags of the host table. */
const EXACT_HOST = 0;
const WILDCARD_HOST = 1;
/** The group of resources without a host. */
const ANY_HOST = 0;

function hashForward(seed: number, bytes: Uint8Array): number {
  return bytes.reduce(rollHash, seed);
}

function hashBackward(seed: number, bytes: Uint8Array): number {
  return bytes.reduceRight(rollHash, seed);
}

export class Directory {
  /** In the order given. A resource's place is its index. */
  readonly resources: readonly Resource[];
  readonly holders: HolderSets;

  private readonly seed: number;
  private readonly hosts: ByteTable;
  private readonly paths: ByteTable;
  /**
   * Bytes of the longest exact host, and of the longest "*.host" without the "*"; 0: there is none.
   */
  private readonly longestExact: number;
  private readonly longestWildcard: number;
  /** Bytes of the longest path that does not end in "/"; 0: there is none. */
  private readonly longestExactPath: number;
  /** The groups that cover the host of the current look-up, the least specific first. */
  private readonly groups: Uint32Array;
  /** Hash and length of each prefix of the path that ends in "/", the shortest first. */
  private readonly prefixHash: Int32Array;
  private readonly prefixLength: Uint32Array;

  /**
   * To report a mistake with its place in the config, call pathProblem, hostProblem and duplicates
   * first.
   *
   * @param seed 32 bits; it is secret, since clients choose what is hashed. Tests may set it.
   * @throws BatonError BATON_CONFIG for an invalid pattern, and when two resources have the same
   *   host and path
   */
  constructor(resources: readonly Resource[], seed = randomBytes(4).readInt32LE()) {
    const [duplicate] = duplicates(resources);
    if (duplicate !== undefined) {
      const { host, path } = resources[duplicate[0]]!;
      throw new BatonError('BATON_CONFIG', `${host ?? ''}${path} occurs twice`);
    }
    this.resources = resources;
    this.holders = new HolderSets(resources);
    this.seed = seed;

    const hosts = new Map<string, ByteEntry>();
    const hostLengths: [number[], number[]] = [[0], [0]];
    const groupOf = (host: string | undefined): number => {
      if (host === undefined) return ANY_HOST;
      const { bytes, isWildcard } = canonicalHost(host);
      const tag = isWildcard ? WILDCARD_HOST : EXACT_HOST;
      const key = `${tag} ${Buffer.from(bytes).toString('latin1')}`;
      let entry = hosts.get(key);
      if (entry === undefined) {
        entry = { tag, hash: hashBackward(seed, bytes), bytes, value: hosts.size + 1 };
        hosts.set(key, entry);
        hostLengths[tag].push(bytes.length);
      }
      return entry.value;
    };
    const entries = resources.map((resource, index): ByteEntry => {
      const bytes = canonicalPath(resource.path);
      return { tag: groupOf(resource.host), hash: hashForward(seed, bytes), bytes, value: index };
    });
    this.paths = new ByteTable(entries);
    this.hosts = new ByteTable([...hosts.values()]);

    const max = (numbers: readonly number[]) => numbers.reduce((a, b) => Math.max(a, b), 0);
    this.longestExact = max(hostLengths[EXACT_HOST]);
    this.longestWildcard = max(hostLengths[WILDCARD_HOST]);
    const isPrefix = (bytes: Uint8Array) => bytes[bytes.length - 1] === SLASH;
    this.longestExactPath = max(entries.map(({ bytes }) => (isPrefix(bytes) ? 0 : bytes.length)));
    const deepest = max(
      entries.map(({ bytes }) =>
        isPrefix(bytes) ? bytes.filter((byte) => byte === SLASH).length : 0,
      ),
    );
    this.prefixHash = new Int32Array(deepest);
    this.prefixLength = new Uint32Array(deepest);
    // The group without host, one exact host, and at most one wildcard for each dot.
    this.groups = new Uint32Array(2 + this.longestWildcard);
  }

  /**
   * Returns the index of the resource that covers host[0, hostLength) and path[0, pathLength), or
   * -1. Both are in normal form (request/http/head.ts). hostLength is 0 when the request names no
   * host.
   */
  find(host: Uint8Array, hostLength: number, path: Uint8Array, pathLength: number): number {
    let hash = this.seed;
    let prefixes = 0;
    const deepest = this.prefixHash.length;
    const isExact = pathLength <= this.longestExactPath && path[pathLength - 1] !== SLASH;
    for (let p = 0; p < pathLength && (isExact || prefixes < deepest); p++) {
      const byte = path[p]!;
      hash = rollHash(hash, byte);
      if (byte === SLASH && prefixes < deepest) {
        this.prefixHash[prefixes] = hash;
        this.prefixLength[prefixes] = p + 1;
        prefixes++;
      }
    }
    for (let i = this.findGroups(host, hostLength) - 1; i >= 0; i--) {
      const group = this.groups[i]!;
      if (isExact) {
        const resource = this.paths.find(group, hash, path, 0, pathLength);
        if (resource >= 0) return resource;
      }
      for (let prefix = prefixes - 1; prefix >= 0; prefix--) {
        const length = this.prefixLength[prefix]!;
        const resource = this.paths.find(group, this.prefixHash[prefix]!, path, 0, length);
        if (resource >= 0) return resource;
      }
    }
    return -1;
  }

  /** Writes the groups that cover the host to `groups`. Returns their number. */
  private findGroups(host: Uint8Array, length: number): number {
    const groups = this.groups;
    groups[0] = ANY_HOST;
    let count = 1;
    const isExact = length > 0 && length <= this.longestExact;
    const wildcardFrom = Math.max(1, length - this.longestWildcard);
    let hash = this.seed;
    for (let p = length - 1; p >= (isExact ? 0 : wildcardFrom); p--) {
      const byte = host[p]!;
      hash = rollHash(hash, byte);
      // A wildcard never matches at 0, since "*" stands for at least one character.
      if (byte !== DOT || p < wildcardFrom) continue;
      const group = this.hosts.find(WILDCARD_HOST, hash, host, p, length);
      if (group >= 0) groups[count++] = group;
    }
    if (isExact) {
      const group = this.hosts.find(EXACT_HOST, hash, host, 0, length);
      if (group >= 0) groups[count++] = group;
    }
    return count;
  }
}
