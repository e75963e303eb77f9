/**
 * Rewriting: the path that a node gets instead of the one that the client asked for. A template is
 * a path in which "%p" stands for what follows the matched path. That comes from the request's path
 * in normal form, in which only bytes of a path are left: so nothing that a client sends can add a
 * query, a line or a dot segment to the head. "%2F" stays encoded. A server that decodes it may see
 * dot segments beside it, as it does without rewriting.
 *
 *     resource /old/ , rewrite /new/%p
 *     GET /old/./a%7eb?c HTTP/1.1  ->  GET /new/a~b?c HTTP/1.1
 */
import { type ArrayMaker, ownArrays } from '../base/arrays.js';
import { BEYOND_ASCII } from '../request/http/tables.js';
import { canonicalPath, pathProblem, type Resource } from './pattern.js';

/** In a template, what follows the matched path. */
const REST = '%p';
const NO_REST = 0xffff_ffff;

/**
 * Says in words why `template` is not the path of a request; undefined when it is one.
 * @param isPrefix whether the resource's path ends in "/", so that something may follow it
 */
export function rewriteProblem(template: string, isPrefix: boolean): string | undefined {
  if (template.includes('?')) return 'it cannot contain "?": the query stays as the client sent it';
  if (template.includes('#')) return 'it cannot contain "#": a request has no fragment';
  const parts = template.split(REST);
  if (parts.length > 2) return '"%p" may occur only once';
  if (parts.length === 2 && !isPrefix)
    return '"%p" stands for what follows a path that ends in "/", but the path of this resource ends in none';
  // The slash keeps "%2" before "%p" from becoming an escape.
  return pathProblem(parts.join('/'));
}

/** The templates of a directory. The arrays may be memory that threads share. */
export interface RewriteImage {
  /** The number of each resource's template, plus 1; 0: it has none. Empty if none has any. */
  readonly of: Uint32Array;
  /**
   * Template t is bytes[start[2 * t], start[2 * t + 1]), then what follows the matched path, then
   * bytes[start[2 * t + 1], start[2 * t + 2]).
   */
  readonly start: Uint32Array;
  readonly bytes: Uint8Array;
  /** Bytes of the matched path; NO_REST: nothing of the request's path goes into the template. */
  readonly matched: Uint32Array;
}

export function rewriteImage(
  resources: readonly Pick<Resource, 'path' | 'rewrite'>[],
  make: ArrayMaker = ownArrays,
): RewriteImage {
  const templates = resources.flatMap(({ path, rewrite }, index) =>
    rewrite === undefined ? [] : [{ index, path, parts: rewrite.split(REST) }],
  );
  const pieces = templates.flatMap(({ parts: [before = '', after = ''] }) =>
    [before, after].map(encoded),
  );
  const of = make.uint32(templates.length === 0 ? 0 : resources.length);
  const start = make.uint32(pieces.length + 1);
  const bytes = make.uint8(pieces.reduce((sum, piece) => sum + piece.length, 0));
  const matched = make.uint32(templates.length);
  for (const [number, { index, path, parts }] of templates.entries()) {
    of[index] = number + 1;
    matched[number] = parts.length === 1 ? NO_REST : canonicalPath(path).length;
  }
  for (const [number, piece] of pieces.entries()) {
    bytes.set(piece, start[number]);
    start[number + 1] = start[number]! + piece.length;
  }
  return { of, start, bytes, matched };
}

/** Bytes beyond ASCII are sent percent-encoded. */
function encoded(text: string): Uint8Array {
  const written = (byte: number): string =>
    byte < BEYOND_ASCII
      ? String.fromCharCode(byte)
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  return Buffer.from([...Buffer.from(text)].map(written).join(''), 'latin1');
}

/** Writes the paths that nodes get. */
export class Rewrites {
  private readonly image: RewriteImage;

  constructor(image: RewriteImage) {
    this.image = image;
  }

  /**
   * Bytes of the path that a node gets for a request for this resource; 0: it gets the request as
   * it is.
   * @param pathLength bytes of the request's path in normal form
   */
  length(resource: number, pathLength: number): number {
    const { of, start, matched } = this.image;
    if (of.length === 0) return 0;
    const template = of[resource]! - 1;
    if (template < 0) return 0;
    const fixed = start[2 * template + 2]! - start[2 * template]!;
    const from = matched[template]!;
    return from === NO_REST ? fixed : fixed + pathLength - from;
  }

  /**
   * Writes that path to `into` from `at` on. Its length is not 0.
   * @param path the request's path in normal form: path[0, pathLength)
   */
  write(
    resource: number,
    path: Uint8Array,
    pathLength: number,
    into: Uint8Array,
    at: number,
  ): void {
    const { of, start, bytes, matched } = this.image;
    const template = of[resource]! - 1;
    const middle = start[2 * template + 1]!;
    const end = start[2 * template + 2]!;
    let to = at;
    for (let from = start[2 * template]!; from < middle; from++) into[to++] = bytes[from]!;
    for (let from = matched[template]!; from < pathLength; from++) into[to++] = path[from]!;
    for (let from = middle; from < end; from++) into[to++] = bytes[from]!;
  }
}
