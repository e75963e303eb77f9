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
 *
 * A TLS connection shows no path, but the application protocols that its client speaks (ALPN). In
 * each group the resources of these protocols come first, then that of "/".
 */
import { DOT, SLASH } from '../request/http/tables.js';
import { ByteTable, rollHash } from './byte-table.js';
import {
  COMMON_SCOPE,
  type DirectoryImage,
  EXACT_HOST,
  SCOPE_TAGS,
  WILDCARD_HOST,
} from './directory-image.js';
import type { HolderSets } from './holders.js';
import { Rewrites } from './rewrite.js';

/** Results of `findName` when there is no resource: */
export const NO_NAME = -1;
/** there are some for the name, but none for any of the client's protocols. */
export const NO_PROTOCOL = -2;

/**
 * Protocols of a client that are looked up. Clients offer two or three, and one that does not exist
 * (RFC 8701).
 */
const MOST_PROTOCOLS = 32;

const ROOT = Uint8Array.of(SLASH);

export class Directory {
  readonly holders: HolderSets;
  readonly rewrites: Rewrites;
  private readonly requests: Uint32Array;

  private readonly seed: number;
  private readonly hosts: ByteTable;
  private readonly paths: ByteTable;
  private readonly protocols: ByteTable;
  private readonly longestProtocol: number;
  private readonly rootHash: number;
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
    this.rewrites = new Rewrites(image.rewrites);
    this.requests = image.requests;
    this.seed = image.seed;
    this.hosts = new ByteTable(image.hosts);
    this.paths = new ByteTable(image.paths);
    this.protocols = new ByteTable(image.protocols);
    this.longestProtocol = image.longestProtocol;
    this.rootHash = rollHash(image.seed, SLASH);
    this.longestExact = image.longestExact;
    this.longestWildcard = image.longestWildcard;
    this.longestExactPath = image.longestExactPath;
    this.prefixHash = new Int32Array(image.deepestPrefix);
    this.prefixLength = new Uint32Array(image.deepestPrefix);
    // The group without host, one exact host, and at most one wildcard for each dot.
    this.groups = new Uint32Array(2 + this.longestWildcard);
  }

  /** Counts a request for a resource. */
  countRequest(resource: number, amount = 1): void {
    Atomics.add(this.requests, resource, amount);
  }

  /**
   * Returns the index of the resource that covers host[0, hostLength) and path[0, pathLength), or
   * -1. Both are in normal form (request/http/head.ts). hostLength is 0 when the request names no
   * host. `scope` is that of the virtual server (scopeOf).
   */
  find(
    host: Uint8Array,
    hostLength: number,
    path: Uint8Array,
    pathLength: number,
    scope = COMMON_SCOPE,
  ): number {
    const isExact = pathLength <= this.longestExactPath && path[pathLength - 1] !== SLASH;
    const prefixes = this.hashPath(path, pathLength, isExact);
    for (let i = this.findGroups(host, hostLength, scope) - 1; i >= 0; i--) {
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
   * Returns the index of the resource for a TLS connection to host[0, hostLength), or NO_NAME or
   * NO_PROTOCOL. hostLength is 0 when the client names no host. names[start, end) are the client's
   * protocols in its order of preference, each with its length in one byte before it
   * (request/tls/hello.ts). `scope` as in `find`.
   */
  findName(
    host: Uint8Array,
    hostLength: number,
    names: Uint8Array,
    start: number,
    end: number,
    scope = COMMON_SCOPE,
  ): number {
    let missed = NO_NAME;
    for (let i = this.findGroups(host, hostLength, scope) - 1; i >= 0; i--) {
      const group = this.groups[i]!;
      if (this.protocols.find(group, this.seed, names, start, start) >= 0) {
        const resource = this.findProtocol(group, names, start, end);
        if (resource >= 0) return resource;
        missed = NO_PROTOCOL;
      }
      const resource = this.paths.find(group, this.rootHash, ROOT, 0, ROOT.length);
      if (resource >= 0) return resource;
    }
    return missed;
  }

  /**
   * All resources for a TLS connection: the one that `findName` returns, then those that would
   * follow if it were not there. Parameters as in `findName`. For people; it allocates.
   */
  findAllNames(
    host: Uint8Array,
    hostLength: number,
    names: Uint8Array,
    start: number,
    end: number,
    scope = COMMON_SCOPE,
  ): number[] {
    const found = new Set<number>();
    for (let i = this.findGroups(host, hostLength, scope) - 1; i >= 0; i--) {
      const group = this.groups[i]!;
      let at = start;
      for (let count = 0; at < end && count < MOST_PROTOCOLS; count++) {
        found.add(this.resourceOf(group, names, at));
        at += 1 + names[at]!;
      }
      found.add(this.paths.find(group, this.rootHash, ROOT, 0, ROOT.length));
    }
    found.delete(-1);
    return [...found];
  }

  /** The resource of the first of the client's protocols that has one in the group; or -1. */
  private findProtocol(group: number, names: Uint8Array, start: number, end: number): number {
    let at = start;
    for (let count = 0; at < end && count < MOST_PROTOCOLS; count++) {
      const resource = this.resourceOf(group, names, at);
      if (resource >= 0) return resource;
      at += 1 + names[at]!;
    }
    return -1;
  }

  /** The resource in the group of the protocol whose length is at `at`; or -1. */
  private resourceOf(group: number, names: Uint8Array, at: number): number {
    const from = at + 1;
    const end = from + names[at]!;
    if (end - from > this.longestProtocol) return -1;
    let hash = this.seed;
    for (let p = from; p < end; p++) hash = rollHash(hash, names[p]!);
    return this.protocols.find(group, hash, names, from, end);
  }

  /**
   * All resources that cover the host and path: the one that `find` returns, then those that would
   * follow if it were not there. Parameters as in `find`. For people; it allocates.
   */
  findAll(
    host: Uint8Array,
    hostLength: number,
    path: Uint8Array,
    pathLength: number,
    scope = COMMON_SCOPE,
  ): number[] {
    const isExact = pathLength <= this.longestExactPath && path[pathLength - 1] !== SLASH;
    const prefixes = this.hashPath(path, pathLength, isExact);
    const found: number[] = [];
    for (let i = this.findGroups(host, hostLength, scope) - 1; i >= 0; i--) {
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
  private findGroups(host: Uint8Array, length: number, scope: number): number {
    const tags = SCOPE_TAGS * scope;
    const groups = this.groups;
    groups[0] = scope;
    let count = 1;
    const isExact = length > 0 && length <= this.longestExact;
    const wildcardFrom = Math.max(1, length - this.longestWildcard);
    let hash = this.seed;
    for (let p = length - 1; p >= (isExact ? 0 : wildcardFrom); p--) {
      const byte = host[p]!;
      hash = rollHash(hash, byte);
      // A wildcard never matches at 0, since "*" stands for at least one character.
      if (byte !== DOT || p < wildcardFrom) continue;
      const group = this.hosts.find(tags + WILDCARD_HOST, hash, host, p, length);
      if (group >= 0) groups[count++] = group;
    }
    if (isExact) {
      const group = this.hosts.find(tags + EXACT_HOST, hash, host, 0, length);
      if (group >= 0) groups[count++] = group;
    }
    return count;
  }
}
