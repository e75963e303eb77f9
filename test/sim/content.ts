/**
 * The content of the simulated farm. A resource is a folder. The name of a file contains its size,
 * and its bytes are a function of its path, so that a client recognizes the right answer.
 */
import type { Resource as DirectoryResource } from '../../src/directory/pattern.js';
import { hashText, Random } from './random.js';

export interface Resource {
  /** '/a/': everything below. */
  path: string;
  /** Indices of nodes. */
  holders: number[];
  /** What nodes get in place of `path`, if that is something else. */
  renamed?: string;
}

/** A resource as the directory takes it. */
export function directoryEntry({ path, holders, renamed }: Resource): DirectoryResource {
  return {
    path,
    nodes: holders,
    ...(renamed === undefined ? {} : { rewrite: `${renamed}%p` }),
  };
}

/** The target that the client asked for, of one that a node got; undefined: the same. */
export function askedTarget(resources: readonly Resource[], got: string): string | undefined {
  for (const { path, renamed } of resources) {
    if (renamed !== undefined && got.startsWith(renamed))
      return `${path}${got.slice(renamed.length)}`;
  }
  return undefined;
}

export const CLIENT_HEADER = 'x-client';

const bodies = new Map<string, Uint8Array>();

/** `length` bytes that only `name` has. */
export function bytesOf(name: string, length: number): Uint8Array {
  const key = `${name}#${length}`;
  let body = bodies.get(key);
  if (body === undefined) {
    const random = new Random(hashText(key));
    const words = new Uint32Array(Math.ceil(length / 4));
    for (let i = 0; i < words.length; i++) words[i] = random.bits();
    body = new Uint8Array(words.buffer, 0, length);
    bodies.set(key, body);
    if (bodies.size > 4000) bodies.clear();
  }
  return body;
}

/** Size of the file at `path`, by its name: /folder/name-SIZE. */
export function sizeOf(path: string): number {
  return Number(path.slice(path.lastIndexOf('-') + 1));
}

export function resourceOf(resources: readonly Resource[], path: string): Resource | undefined {
  return resources.find((resource) => path.startsWith(resource.path));
}

/** The beginning of a client's stream as a node gets it. */
export interface Renamed {
  /** Method and target, and what they are for the node. */
  asked: number;
  line: Uint8Array;
  /** Bytes that the node gets more than the client has sent. */
  more: number;
}

const MOST_LINE_BYTES = 1_024;

/** What becomes of the first request of a stream. */
export function renamedStream(
  resources: readonly Resource[],
  stream: { slice(start: number, end: number): Uint8Array },
): Renamed {
  const text = Buffer.from(stream.slice(0, MOST_LINE_BYTES)).toString('latin1');
  const [method = '', target = ''] = text.split(' ', 2);
  const { path = '', renamed } = resourceOf(resources, target) ?? {};
  if (renamed === undefined) return { asked: 0, line: new Uint8Array(0), more: 0 };
  const line = Buffer.from(`${method} ${renamed}${target.slice(path.length)}`, 'latin1');
  const asked = method.length + 1 + target.length;
  return { asked, line, more: line.length - asked };
}

/** The bytes [start, end) of a stream as a node gets it. */
export function renamedSlice(
  { asked, line, more }: Renamed,
  stream: { slice(start: number, end: number): Uint8Array },
  start: number,
  end: number,
): Uint8Array {
  const behind = Math.max(start, line.length) - more;
  return Buffer.concat([
    line.subarray(start, end),
    stream.slice(Math.max(behind, asked), Math.max(end - more, asked)),
  ]);
}

export function digest(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

export interface Message {
  /** Request line or status line. */
  start: string;
  fields: Map<string, string>;
  body: Uint8Array;
}

/**
 * Cuts HTTP/1.1 messages out of a byte stream. `feed` adds bytes; `take` returns the next whole
 * message.
 */
export class MessageReader {
  private bytes = Buffer.alloc(0);
  private ended = 0;
  private fresh: Uint8Array[] = [];
  /** Bytes that are here, and those without which there is no whole message. */
  private length = 0;
  private needed = 0;

  feed(bytes: Uint8Array): void {
    this.fresh.push(bytes);
    this.length += bytes.length;
  }

  /** Bytes that belong to no whole message yet. */
  get left(): number {
    return this.length;
  }

  /** Bytes of all messages taken so far. */
  get taken(): number {
    return this.ended;
  }

  /**
   * The next whole message; undefined when there is none yet; a text when the bytes are not HTTP.
   *
   * @param bodiless an answer to HEAD: the fields tell about a body that does not follow
   */
  take(bodiless = false): Message | string | undefined {
    if (this.length < this.needed) return undefined;
    if (this.fresh.length > 0) this.bytes = Buffer.concat([this.bytes, ...this.fresh]);
    this.fresh = [];
    const end = this.bytes.indexOf('\r\n\r\n');
    if (end < 0) return undefined;
    const [start = '', ...lines] = this.bytes.toString('latin1', 0, end).split('\r\n');
    const fields = new Map<string, string>();
    for (const line of lines) {
      const colon = line.indexOf(': ');
      if (colon <= 0) return `not a field line: ${JSON.stringify(line.slice(0, 60))}`;
      fields.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 2));
    }
    const first = end + 4;
    const length = Number(fields.get('content-length') ?? '0');
    if (!Number.isInteger(length)) return 'not a content length';
    if (bodiless || start.startsWith('HTTP/1.1 1')) return this.cut(start, fields, [], first);
    if (fields.get('transfer-encoding') === 'chunked')
      return this.takeChunked(start, fields, first);
    if (this.bytes.length < first + length) {
      this.needed = first + length;
      return undefined;
    }
    return this.cut(start, fields, [this.bytes.subarray(first, first + length)], first + length);
  }

  private takeChunked(
    start: string,
    fields: Map<string, string>,
    first: number,
  ): Message | string | undefined {
    const parts: Uint8Array[] = [];
    for (let at = first; ; ) {
      const lineEnd = this.bytes.indexOf('\r\n', at);
      if (lineEnd < 0) return undefined;
      const size = Number.parseInt(this.bytes.toString('latin1', at, lineEnd), 16);
      if (Number.isNaN(size)) return 'not a chunk size';
      at = lineEnd + 2;
      if (size > 0) {
        if (this.bytes.length < at + size + 2) return undefined;
        parts.push(this.bytes.subarray(at, at + size));
        at += size + 2;
        if (this.bytes.toString('latin1', at - 2, at) !== '\r\n') return 'a chunk does not end';
        continue;
      }
      // The last line of the trailers is empty.
      for (let line = at; ; ) {
        const next = this.bytes.indexOf('\r\n', line);
        if (next < 0) return undefined;
        if (next === line) return this.cut(start, fields, parts, next + 2);
        line = next + 2;
      }
    }
  }

  private cut(
    start: string,
    fields: Map<string, string>,
    parts: readonly Uint8Array[],
    end: number,
  ): Message {
    const body = Uint8Array.from(Buffer.concat(parts));
    this.bytes = this.bytes.subarray(end);
    this.length -= end;
    this.needed = 0;
    this.ended += end;
    return { start, fields, body };
  }
}
