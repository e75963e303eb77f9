/**
 * Host and path patterns as an operator writes them: this file explains mistakes in them, and
 * brings them to the form that look-ups compare. Paths are normalised like the paths of requests.
 */
import { BatonError } from '../base/errors.js';
import { readHost } from '../request/http/host.js';
import { MAX_HEAD_BYTES } from '../request/http/scan.js';
import { BEYOND_ASCII, HEX_VALUE, NOT_HEX, PERCENT, TARGET } from '../request/http/tables.js';
import { Target } from '../request/http/target.js';

/** A part of the content, and the nodes that hold it, as the config names them. */
export interface Resource {
  /**
   * "www.example.org", or "*.example.org" (all names below this domain, at any depth, but not the
   * domain itself). Undefined: any host.
   */
  readonly host?: string | undefined;
  /** A path that ends in "/" covers itself and everything below it. Any other covers itself. */
  readonly path: string;
  /**
   * Application protocols (ALPN). With this key it matches only TLS connections that offer one of
   * them.
   */
  readonly alpn?: readonly string[] | undefined;
  /** The path that the node gets, in which "%p" stands for what follows the matched path. */
  readonly rewrite?: string | undefined;
  /**
   * Name of the virtual server that it is for. Undefined: all that have no resources of their own.
   */
  readonly virtualServer?: string | undefined;
  /** Indexes of the holders. */
  readonly nodes: readonly number[];
}

/** What decides which requests a resource matches. */
export type Pattern = Pick<Resource, 'host' | 'path' | 'alpn' | 'virtualServer'>;

/** The beginning of a wildcard. Its dot belongs to the compared part. */
const WILDCARD = '*.';
const LABELS = /^[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?$/i;
/** RFC 1035 section 3.1, without the length bytes. */
const MAX_HOST = 253;

/**
 * C1 controls, and halves of surrogate pairs. Neither is ever typed, and a half of a pair is no
 * character.
 */
const UNTYPABLE = /[\u0080-\u009f\ud800-\udfff]/u;

/**
 * A path of unreserved characters, without dots at the beginning of a segment and without empty
 * segments: it is in normal form. Most paths are, and this test is much faster than bringing them
 * to normal form.
 */
const NORMAL_PATH = /^\/(?:[\w~-][\w.~-]*\/)*(?:[\w~-][\w.~-]*)?$/;

function isNormal(path: string): boolean {
  return path.length <= MAX_HEAD_BYTES && NORMAL_PATH.test(path);
}

/** A host or wildcard that is in normal form; not all are found. */
const NORMAL_HOST = /^(?:\*\.)?(?:[a-z0-9_-]+\.)*[a-z0-9_-]+$/;

function isNormalHost(host: string): boolean {
  return host.length <= MAX_HOST && NORMAL_HOST.test(host);
}

const latin1 = (text: string) => Buffer.from(text, 'latin1');

/** Says in words why `path` is not a path pattern; undefined when it is one. */
export function pathProblem(path: string): string | undefined {
  if (isNormal(path)) return undefined;
  if (!path.startsWith('/')) return 'a path must begin with "/"';
  if (Buffer.byteLength(path) > MAX_HEAD_BYTES) return `a path has at most ${MAX_HEAD_BYTES} bytes`;
  for (let i = 0; i < path.length; i++) {
    const code = path.charCodeAt(i);
    if (code === 0x3f) return 'a path cannot contain "?": the look-up does not use the query';
    if (code === 0x23) return 'a path cannot contain "#": browsers never send a fragment';
    if (code < BEYOND_ASCII && TARGET[code] === 0) return mustBeEncoded(String.fromCharCode(code));
    if (code === PERCENT && !isEscape(path, i))
      return `"${path.slice(i, i + 3)}" is not "%" and two hex digits`;
  }
  const found = UNTYPABLE.exec(path);
  return found === null ? undefined : mustBeEncoded(found[0]);
}

function mustBeEncoded(character: string): string {
  return `${JSON.stringify(character)} must be percent-encoded here, as ${escapesOf(character)}`;
}

function isEscape(path: string, at: number): boolean {
  const high = HEX_VALUE[path.charCodeAt(at + 1)] ?? NOT_HEX;
  const low = HEX_VALUE[path.charCodeAt(at + 2)] ?? NOT_HEX;
  return high !== NOT_HEX && low !== NOT_HEX;
}

function escapesOf(character: string): string {
  const hex = Buffer.from(character, 'utf8').toString('hex').toUpperCase();
  return hex.replace(/../g, '%$&');
}

/** Says in words why `host` is not a host pattern; undefined when it is one. */
export function hostProblem(host: string): string | undefined {
  if (isNormalHost(host)) return undefined;
  if (host === '') return 'a host cannot be empty: leave it out to cover any host';
  if (host.startsWith('[')) {
    const bytes = latin1(host);
    if (
      bytes.length !== host.length ||
      readHost(bytes, 0, bytes.length, new Uint8Array(bytes.length)) < 0
    ) {
      return 'this is not an IPv6 address in brackets';
    }
    return host.endsWith(']')
      ? undefined
      : 'a host cannot contain a port: the virtual server has one';
  }
  const name = host.startsWith(WILDCARD) ? host.slice(WILDCARD.length) : host;
  if (name.includes('*')) return '"*" is allowed only at the beginning, as in "*.example.org"';
  if (/:\d*$/.test(name)) return 'a host cannot contain a port: the virtual server has one';
  if (!LABELS.test(name))
    return 'a host consists of labels of letters, digits, "-" and "_", with dots between them';
  if (name.length > MAX_HOST) return `a host has at most ${MAX_HOST} characters`;
  return undefined;
}

/**
 * The normal form of a valid path pattern, which look-ups compare. Characters beyond ASCII become
 * their percent-encoded UTF-8 bytes.
 * @throws BatonError BATON_CONFIG for an invalid pattern
 */
export function canonicalPath(path: string): Uint8Array {
  if (isNormal(path)) return new Uint8Array(latin1(path));
  const bytes = Buffer.from(path, 'utf8');
  const target = new Target(bytes.length);
  if (pathProblem(path) !== undefined || !target.read(bytes, 0, bytes.length, false)) {
    throw new BatonError(
      'BATON_CONFIG',
      `"${path}" is not a path: ${pathProblem(path) ?? 'it has no normal form'}`,
    );
  }
  return target.path.slice(0, target.pathLength);
}

/** The normal form of a host pattern: lower case, without trailing dot. */
export interface CanonicalHost {
  /** The host itself, or the part of a wildcard after the "*". */
  readonly bytes: Uint8Array;
  readonly isWildcard: boolean;
}

/** @throws BatonError BATON_CONFIG for an invalid pattern */
export function canonicalHost(host: string): CanonicalHost {
  const problem = hostProblem(host);
  if (problem !== undefined)
    throw new BatonError('BATON_CONFIG', `"${host}" is not a host: ${problem}`);
  const isWildcard = host.startsWith(WILDCARD);
  const text = (isWildcard ? host.slice(1) : host).toLowerCase();
  return { bytes: latin1(text.endsWith('.') ? text.slice(0, -1) : text), isWildcard };
}

/** A key of a pattern. Two patterns that match the same requests have the same key. */
export function patternKey({ virtualServer, ...pattern }: Pattern): string {
  const key = keyWithin(pattern);
  // No host has this character.
  return virtualServer === undefined ? key : `>${virtualServer} ${key}`;
}

function keyWithin({ host, path, alpn }: Omit<Pattern, 'virtualServer'>): string {
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1');
  const normal = isNormal(path) ? path : text(canonicalPath(path));
  const key = alpn === undefined ? normal : `${normal} ${alpn.toSorted().join(' ')}`;
  if (host === undefined) return key;
  if (isNormalHost(host)) return `${host} ${key}`;
  const canonical = canonicalHost(host);
  return `${canonical.isWildcard ? '*' : ''}${text(canonical.bytes)} ${key}`;
}

/**
 * Finds resources that match the same requests as an earlier one. Returns pairs of indexes [later,
 * earlier]. All patterns must be valid.
 */
export function duplicates(resources: readonly Pattern[]): [number, number][] {
  const seen = new Map<string, number>();
  const found: [number, number][] = [];
  resources.forEach((resource, index) => {
    const key = patternKey(resource);
    const earlier = seen.get(key);
    if (earlier === undefined) seen.set(key, index);
    else found.push([index, earlier]);
  });
  return found;
}
