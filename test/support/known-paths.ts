/**
 * The dispatcher of conversations. It knows a few fixed paths, so that those tests depend on
 * neither HTTP nor the directory.
 */
import { type Dispatcher, Verdict, type VerdictCode } from '../../src/directory/dispatcher.js';
import type { NodeTable } from '../../src/engine/node-table.js';
import { pinOfRefused, RequestFollower } from '../../src/request/http/framing.js';
import { HeadReader } from '../../src/request/http/head.js';

/** Length of the longest head that it accepts. */
export const HEAD_BYTES = 4096;

/** Nodes by path. The place of a path is its index. */
export type Paths = Readonly<Record<string, readonly number[]>>;

const FIRST_PATHS: Paths = {
  '/0': [0],
  '/1': [1],
  '/01': [0, 1],
  '/012': [0, 1, 2],
};

/** Reads the request line, the end of the head and the limit; picks holders in their order. */
export class KnownPaths implements Dispatcher {
  resume = 0;
  resource = -1;
  readonly text = undefined;
  readonly textEnd = 0;
  requestStart = 0;
  requestEnd = 0;
  repeatable = false;
  headBytes = 0;
  hasNoAnswerBody = false;
  rewritten = 0;
  pathStart = 0;
  pathEnd = 0;
  pickedBit = 0;
  readonly follower = new RequestFollower();
  private readonly reader = new HeadReader(HEAD_BYTES);
  /** Total of bytes read. */
  looked = 0;

  /** No head is valid any more. */
  refuses = false;
  /** What nodes get instead of a path. */
  rewrites: Readonly<Record<string, string>> = {};

  private paths = Object.entries(FIRST_PATHS);
  /** Slots of virtual servers that take any bytes, also none, and the path that stands for them. */
  readonly anyBytes = new Map<number, string>();
  private newPath = '';
  private refused = false;

  constructor(private readonly nodes: NodeTable) {}

  /** Knows these paths from now on. */
  use(paths: Paths): void {
    this.paths = Object.entries(paths);
  }

  inspect(
    bytes: Uint8Array,
    start: number,
    end: number,
    resume: number,
    virtualServer: number,
  ): VerdictCode {
    const any = this.anyBytes.get(virtualServer);
    if (any !== undefined) {
      this.requestStart = this.requestEnd = 0;
      this.resource = this.paths.findIndex(([known]) => known === any);
      this.repeatable = false;
      return Verdict.found;
    }
    const text = Buffer.from(bytes.subarray(start, end)).toString('latin1');
    this.looked += text.length - resume;
    this.refused = this.refuses || /^(?:BAD|CONNECT)/.test(text);
    if (this.refused) {
      this.reader.read(bytes, start, end, 0);
      return Verdict.badRequest;
    }
    const stop = text.indexOf('\r\n\r\n');
    if (stop < 0) {
      this.resume = text.length;
      return text.length > HEAD_BYTES ? Verdict.headTooLarge : Verdict.incomplete;
    }
    if (stop + 4 > HEAD_BYTES) return Verdict.headTooLarge;
    const [method = '', path = ''] = text.split(' ');
    this.requestStart = 0;
    this.requestEnd = method.length + 1 + path.length;
    this.resource = this.paths.findIndex(([known]) => known === path);
    this.repeatable = method === 'GET' || method === 'HEAD';
    this.hasNoAnswerBody = method === 'HEAD';
    this.headBytes = stop + 4;
    this.newPath = this.rewrites[path] ?? '';
    this.rewritten = this.newPath.length;
    this.pathStart = method.length + 1;
    this.pathEnd = this.requestEnd;
    return this.resource < 0 ? Verdict.notFound : Verdict.found;
  }

  writePath(into: Uint8Array, at: number): void {
    into.set(Buffer.from(this.newPath), at);
  }

  pick(resource: number, tried: number, server: number, options: number, now: number): number {
    const [, holders] = this.paths[resource]!;
    for (let i = 0; i < holders.length; i++) {
      if ((tried & (1 << i)) !== 0 || !this.nodes.takesHandoffs(holders[i]!, server, options, now))
        continue;
      this.pickedBit = 1 << i;
      return holders[i]!;
    }
    return -1;
  }

  followBody(bytes: Uint8Array, start: number): number {
    if (this.refused) return pinOfRefused(this.reader);
    this.reader.read(bytes, start, start + this.headBytes, 0);
    return this.follower.begin(this.reader, bytes, start);
  }

  countRequest(): void {}

  holderBit(resource: number, node: number): number {
    const position = this.paths[resource]![1].indexOf(node);
    return position < 0 ? 0 : 1 << position;
  }

  soleHolder(resource: number): number {
    const [only, ...others] = this.paths[resource]![1];
    return others.length === 0 ? (only ?? -1) : -1;
  }
}
