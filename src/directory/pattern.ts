/**
 * Host and path patterns as an operator writes them: what is wrong with one, in words, and the
 * form in which it is compared. Paths go through the same normalisation as those of requests.
 */
import { BatonError } from '../base/errors.js';
import { readHost } from '../request/http/host.js';
import { MAX_HEAD_BYTES } from '../request/http/scan.js';
import { BEYOND_ASCII, HEX_VALUE, NOT_HEX, PERCENT, TARGET } from '../request/http/tables.js';
import { Target } from '../request/http/target.js';

/** What some nodes hold, as it stands in the config. */
export interface Resource {
  /**
   * "www.example.org", "*.example.org" (every depth below, not the domain itself), or none: any
   * host.
   */
  readonly host?: string | undefined;
  /** Ends in "/": everything below it, and itself. Otherwise this one path. */
  readonly path: string;
  /** Indexes of the nodes that hold it. */
  readonly nodes: readonly number[];
}

/** How a wildcard begins; its dot is part of what is compared. */
const WILDCARD = '*.';
const LABELS = /^[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?$/i;
/** RFC 1035 section 3.1, without the length bytes. */
const MAX_HOST = 253;

/**
 * C1 controls, and halves of surrogate pairs: nobody types them, and the latter are no characters.
 */
const ODD = /[\u0080-\u009f\ud800-\udfff]/u;

const latin1 = (text: string) => Buffer.from(text, 'latin1');

/** Why `path` is no path pattern, for a person to read; undefined when it is one. */
export function pathProblem(path: string): string | undefined {
  if (!path.startsWith('/')) return 'a path begins with "/"';
  if (Buffer.byteLength(path) > MAX_HEAD_BYTES) return `a path has at most ${MAX_HEAD_BYTES} bytes`;
  for (let i = 0; i < path.length; i++) {
    const code = path.charCodeAt(i);
    if (code === 0x3f) return 'a path has no "?": the query takes no part in the look-up';
    if (code === 0x23) return 'a path has no "#": no browser ever sends what follows it';
    if (code < BEYOND_ASCII && TARGET[code] === 0) return mustBeEncoded(String.fromCharCode(code));
    if (code === PERCENT && !isEscape(path, i))
      return `"${path.slice(i, i + 3)}" is not "%" and two hex digits`;
  }
  const odd = ODD.exec(path);
  return odd === null ? undefined : mustBeEncoded(odd[0]);
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

/** Why `host` is no host pattern, for a person to read; undefined when it is one. */
export function hostProblem(host: string): string | undefined {
  if (host === '') return 'a host is not empty: leave it out to mean any host';
  if (host.startsWith('[')) {
    const bytes = latin1(host);
    if (
      bytes.length !== host.length ||
      readHost(bytes, 0, bytes.length, new Uint8Array(bytes.length)) < 0
    ) {
      return 'this is not an IPv6 address in brackets';
    }
    return host.endsWith(']') ? undefined : 'a host has no port: that of the virtual server holds';
  }
  const name = host.startsWith(WILDCARD) ? host.slice(WILDCARD.length) : host;
  if (name.includes('*')) return '"*" stands only at the beginning, as "*.example.org"';
  if (/:\d*$/.test(name)) return 'a host has no port: that of the virtual server holds';
  if (!LABELS.test(name))
    return 'a host is labels of letters, digits, "-" and "_", with dots between them';
  if (name.length > MAX_HOST) return `a host has at most ${MAX_HOST} characters`;
  return undefined;
}

/**
 * The path that is compared, for a pattern without problem. What is beyond ASCII counts as its
 * UTF-8 bytes.
 */
export function canonicalPath(path: string): Uint8Array {
  const bytes = Buffer.from(path, 'utf8');
  const target = new Target(bytes.length);
  if (pathProblem(path) !== undefined || !target.read(bytes, 0, bytes.length, false)) {
    throw new BatonError(
      'BATON_CONFIG',
      `"${path}" is no path: ${pathProblem(path) ?? 'it has no normal form'}`,
    );
  }
  return target.path.slice(0, target.pathLength);
}

/** What is compared of a host pattern without problem: lower case, no trailing dot. */
export interface CanonicalHost {
  /** The host itself, or of a wildcard what follows the "*". */
  readonly bytes: Uint8Array;
  readonly isWildcard: boolean;
}

export function canonicalHost(host: string): CanonicalHost {
  const problem = hostProblem(host);
  if (problem !== undefined)
    throw new BatonError('BATON_CONFIG', `"${host}" is no host: ${problem}`);
  const isWildcard = host.startsWith(WILDCARD);
  const text = (isWildcard ? host.slice(1) : host).toLowerCase();
  return { bytes: latin1(text.endsWith('.') ? text.slice(0, -1) : text), isWildcard };
}

/** A text that is equal for two patterns that match the same requests. */
export function patternKey(resource: Pick<Resource, 'host' | 'path'>): string {
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('latin1');
  const path = text(canonicalPath(resource.path));
  if (resource.host === undefined) return path;
  const host = canonicalHost(resource.host);
  return `${host.isWildcard ? '*' : ''}${text(host.bytes)} ${path}`;
}

/**
 * Resources with the same host and path as an earlier one, as [later, earlier] indexes. Patterns
 * must be valid.
 */
export function duplicates(
  resources: readonly Pick<Resource, 'host' | 'path'>[],
): [number, number][] {
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
