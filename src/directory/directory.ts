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
import { DOT, SLASH } from '../request/http/tables.js';
import { ByteTable, rollHash } from './byte-table.js';
import { ANY_HOST, type DirectoryImage, EXACT_HOST, WILDCARD_HOST } from './directory-image.js';
import type { HolderSets } from './holders.js';

export class Directory {
  readonly holders: HolderSets;
  private readonly requests: Uint32Array;

  private readonly seed: number;
  private readonly hosts: ByteTable;
  private readonly paths: ByteTable;
  private readonly longestExact: number;
  private readonly longestWildcard: number;
  private readonly longestExactPath: number;
  /** The groups that cover the host of the current look-up, the least specific first. */
  private readonly groups: Uint32Array;
  /** Hash and length of each prefix of the path that ends in "/", the shortest first. */
  private readonly prefixHash: Int32Array;
  private readonly prefixLength: Uint32Array;
  /** Hash of the whole path of the current look-up. */
  private pathHash = 0;

  /** @param image of `directoryImage`; the directory reads it and changes nothing */
  constructor(image: DirectoryImage) {
    this.holders = image.holders;
    this.requests = image.requests;
    this.seed = image.seed;
    this.hosts = new ByteTable(image.hosts);
    this.paths = new ByteTable(image.paths);
    this.longestExact = image.longestExact;
    this.longestWildcard = image.longestWildcard;
    this.longestExactPath = image.longestExactPath;
    this.prefixHash = new Int32Array(image.deepestPrefix);
    this.prefixLength = new Uint32Array(image.deepestPrefix);
    // The group without host, one exact host, and at most one wildcard for each dot.
    this.groups = new Uint32Array(2 + this.longestWildcard);
  }

  /** Counts a request for a resource. */
  countRequest(resource: number): void {
    Atomics.add(this.requests, resource, 1);
  }

  /**
   * Returns the index of the resource that covers host[0, hostLength) and path[0, pathLength), or
   * -1. Both are in normal form (request/http/head.ts). hostLength is 0 when the request names no
   * host.
   */
  find(host: Uint8Array, hostLength: number, path: Uint8Array, pathLength: number): number {
    const isExact = pathLength <= this.longestExactPath && path[pathLength - 1] !== SLASH;
    const prefixes = this.hashPath(path, pathLength, isExact);
    for (let i = this.findGroups(host, hostLength) - 1; i >= 0; i--) {
      const group = this.groups[i]!;
      if (isExact) {
        const resource = this.paths.find(group, this.pathHash, path, 0, pathLength);
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

  /**
   * All resources that cover the host and path: the one that `find` returns, then those that would
   * follow if it were not there. Parameters as in `find`. For people; it allocates.
   */
  findAll(host: Uint8Array, hostLength: number, path: Uint8Array, pathLength: number): number[] {
    const isExact = pathLength <= this.longestExactPath && path[pathLength - 1] !== SLASH;
    const prefixes = this.hashPath(path, pathLength, isExact);
    const found: number[] = [];
    for (let i = this.findGroups(host, hostLength) - 1; i >= 0; i--) {
      const group = this.groups[i]!;
      if (isExact) found.push(this.paths.find(group, this.pathHash, path, 0, pathLength));
      for (let prefix = prefixes - 1; prefix >= 0; prefix--) {
        const length = this.prefixLength[prefix]!;
        found.push(this.paths.find(group, this.prefixHash[prefix]!, path, 0, length));
      }
    }
    return found.filter((resource) => resource >= 0);
  }

  /**
   * Writes hash and length of each prefix that ends in "/", and returns their number. With
   * `isExact` also computes `pathHash`.
   */
  private hashPath(path: Uint8Array, pathLength: number, isExact: boolean): number {
    let hash = this.seed;
    let prefixes = 0;
    const deepest = this.prefixHash.length;
    for (let p = 0; p < pathLength && (isExact || prefixes < deepest); p++) {
      const byte = path[p]!;
      hash = rollHash(hash, byte);
      if (byte === SLASH && prefixes < deepest) {
        this.prefixHash[prefixes] = hash;
        this.prefixLength[prefixes] = p + 1;
        prefixes++;
      }
    }
    this.pathHash = hash;
    return prefixes;
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
