/**
 * The dispatcher. It joins the readers of request heads and ClientHellos, the directory, and one
 * predictor for each virtual server. A virtual server with the protocol tcp has a pool of nodes
 * instead of resources. Its number stands in for that of a resource.
 */

import { pinOfRefused, RequestFollower } from '../request/http/framing.js';
import { HeadReader, HeadStatus, type HeadStatusCode } from '../request/http/head.js';
import { isHead, isSafeMethod } from '../request/http/method.js';
import type { Directory } from './directory.js';
import { COMMON_SCOPE } from './directory-image.js';
import { type Dispatcher, Protocol, Verdict, type VerdictCode } from './dispatcher.js';
import { HelloLookup } from './hello-lookup.js';
import { type HolderSets, holderBit, holderSets } from './holders.js';
import type { Candidates } from './predictors/candidates.js';
import { createPredictor, PREDICTOR_NAMES, type PredictorName } from './predictors/index.js';
import type { Predictor, PreviewedHolder } from './predictors/predictor.js';

/** A time at which every suspension and rest has ended. */
const AFTER_ANY_SUSPENSION = Number.POSITIVE_INFINITY;

/** Candidates for a session of a client. Whether one is available depends on the session. */
export interface SessionCandidates extends Candidates {
  /**
   * Sets the session that `available` answers for.
   * @param server slot of its virtual server
   * @param options IxpFlag bits of the TCP options that it has agreed on; other bits are ignored
   * @param now ms on the engine's clock
   */
  setSession(server: number, options: number, now: number): void;
}

/** Where requests go. A change of the farm brings another. */
export interface Routes {
  readonly directory: Directory;
  /** By slot of the virtual server; undefined in a free slot. */
  readonly predictors: readonly (PredictorName | undefined)[];
  /** By slot of the virtual server, one of `Protocol`. What is absent is http. */
  readonly protocols?: readonly number[];
  /** By slot of the virtual server, the scope of its resources. What is absent is COMMON_SCOPE. */
  readonly scopes?: readonly number[];
  /** By slot of the virtual server, slots of its nodes. Needed with Protocol.tcp. */
  readonly pools?: readonly (readonly number[])[];
}

/**
 * The pool of the virtual server in slot s has the number POOL + s: above every resource, and still
 * a small integer for the JIT compiler.
 */
const POOL = 0x4000_0000;
const NO_TEXT = new Uint8Array(0);

/** What a pick would do. */
export interface PickPreview {
  /** The node that it would return, or -1. */
  picked: number;
  holders: (PreviewedHolder & {
    node: number;
    takes: boolean;
    /** It takes the session only if no other holder does. */
    lastChoice: boolean;
  })[];
}

export interface RequestDispatcherOptions extends Routes {
  candidates: SessionCandidates;
  /** Size limit of a request head, 1 to 65,535 bytes. */
  headBytes: number;
}

export class RequestDispatcher implements Dispatcher {
  resume = 0;
  resource = -1;
  requestStart = 0;
  requestEnd = 0;
  repeatable = false;
  text: Uint8Array | undefined;
  textEnd = 0;
  headBytes = 0;
  hasNoAnswerBody = false;
  rewritten = 0;
  pathStart = 0;
  pathEnd = 0;
  pickedBit = 0;
  readonly follower = new RequestFollower();
  private directory: Directory;
  private names: Routes['predictors'];
  private protocols: readonly number[];
  private scopes: readonly number[];
  /** Its set s is the pool of the virtual server in slot s. */
  private pools: HolderSets;
  private readonly candidates: SessionCandidates;
  /** By slot of the virtual server. Each is made at its first pick. */
  private predictors: (Predictor | undefined)[];
  private readonly head: HeadReader;
  private readonly hello = new HelloLookup();
  /** Of the last head. */
  private status: HeadStatusCode = HeadStatus.incomplete;

  /** @throws BatonError BATON_CONFIG when `headBytes` is out of range */
  constructor(options: RequestDispatcherOptions) {
    this.directory = options.directory;
    this.names = options.predictors;
    this.protocols = options.protocols ?? [];
    this.scopes = options.scopes ?? [];
    this.pools = poolSets(options.pools);
    this.predictors = options.predictors.map(() => undefined);
    this.candidates = options.candidates;
    this.head = new HeadReader(options.headBytes);
  }

  /** Takes other routes from the next call on. All turns begin anew. */
  use({ directory, predictors, protocols = [], scopes = [], pools }: Routes): void {
    this.directory = directory;
    this.names = predictors;
    this.protocols = protocols;
    this.scopes = scopes;
    this.pools = poolSets(pools);
    this.predictors = predictors.map(() => undefined);
  }

  /**
   * See Dispatcher. For HTTP, `requestStart` and `requestEnd` are also set after a refusal when the
   * request line was valid; otherwise both are 0.
   */
  inspect(
    bytes: Uint8Array,
    start: number,
    end: number,
    resume: number,
    virtualServer: number,
  ): VerdictCode {
    this.rewritten = 0;
    const scope = this.scopes[virtualServer] ?? COMMON_SCOPE;
    switch (this.protocols[virtualServer]) {
      case Protocol.tls:
        return this.inspectHello(bytes, start, end, resume, scope);
      case Protocol.tcp:
        return this.takeAny(virtualServer);
      default:
        return this.inspectHead(bytes, start, end, resume, scope);
    }
  }

  private inspectHello(
    bytes: Uint8Array,
    start: number,
    end: number,
    resume: number,
    scope: number,
  ): VerdictCode {
    const { hello } = this;
    const verdict = hello.inspect(this.directory, bytes, start, end, resume, scope);
    this.resume = hello.resume;
    this.resource = hello.resource;
    this.repeatable = hello.repeatable;
    this.text = hello.text;
    this.textEnd = hello.textEnd;
    this.requestStart = 0;
    this.requestEnd = hello.requestEnd;
    return verdict;
  }

  private takeAny(virtualServer: number): VerdictCode {
    this.resource = poolOf(virtualServer);
    // What the bytes ask for is not known.
    this.repeatable = false;
    this.text = NO_TEXT;
    this.textEnd = this.requestStart = this.requestEnd = 0;
    return Verdict.found;
  }

  private inspectHead(
    bytes: Uint8Array,
    start: number,
    end: number,
    resume: number,
    scope: number,
  ): VerdictCode {
    const head = this.head;
    const status = head.read(bytes, start, end, resume);
    this.status = status;
    this.text = undefined;
    this.requestStart = head.methodStart;
    this.requestEnd = head.targetEnd;
    this.resource = -1;
    switch (status) {
      case HeadStatus.incomplete:
        this.resume = head.resume;
        return Verdict.incomplete;
      case HeadStatus.badRequest:
        return Verdict.badRequest;
      case HeadStatus.tooLarge:
        return Verdict.headTooLarge;
      case HeadStatus.complete:
        this.resource = this.directory.find(
          head.host,
          head.hostLength,
          head.path,
          head.pathLength,
          scope,
        );
        this.headBytes = head.headEnd;
        this.hasNoAnswerBody = isHead(bytes, start + head.methodStart, start + head.methodEnd);
        this.rewritten = this.rewrittenBytes();
        this.repeatable = isSafeMethod(bytes, start + head.methodStart, start + head.methodEnd);
        return this.resource < 0 ? Verdict.notFound : Verdict.found;
    }
  }

  /** See Dispatcher. */
  followBody(bytes: Uint8Array, start: number): number {
    if (this.status !== HeadStatus.complete) return pinOfRefused(this.head);
    return this.follower.begin(this.head, bytes, start);
  }

  /** See Dispatcher. */
  writePath(into: Uint8Array, at: number): void {
    const { path, pathLength } = this.head;
    this.directory.rewrites.write(this.resource, path, pathLength, into, at);
  }

  private rewrittenBytes(): number {
    const { head, resource } = this;
    this.pathStart = head.pathStart;
    this.pathEnd = head.pathEnd;
    // The target of OPTIONS * is no path.
    if (resource < 0 || head.pathEnd < head.pathStart) return 0;
    return this.directory.rewrites.length(resource, head.pathLength);
  }

  /** See Dispatcher. In sets of more than 32 holders, holders share bits (holderBit). */
  pick(
    resource: number,
    tried: number,
    virtualServer: number,
    options: number,
    now: number,
  ): number {
    const { candidates } = this;
    const predictor = this.predictors[virtualServer] ?? this.makePredictor(virtualServer);
    const set = this.setOf(resource);
    candidates.setSession(virtualServer, options, now);
    let node = predictor.pick(set, tried);
    // A node that timed out or refused lately is better than none: a burst may have been the cause,
    // or the fault may be repaired.
    if (node < 0) {
      candidates.setSession(virtualServer, options, AFTER_ANY_SUSPENSION);
      node = predictor.pick(set, tried);
    }
    this.pickedBit = predictor.pickedBit;
    return node;
  }

  /**
   * What `pick(resource, 0, ...)` would do now. Changes nothing. Parameters as there. For people;
   * it allocates.
   */
  preview(resource: number, virtualServer: number, options: number, now: number): PickPreview {
    const { candidates } = this;
    const { start, node: nodes } = this.holdersFor(resource);
    const set = this.setOf(resource);
    const predictor = this.predictors[virtualServer] ?? this.makePredictor(virtualServer);
    candidates.setSession(virtualServer, options, now);
    const holders = [...nodes.subarray(start[set], start[set + 1])];
    const takes = holders.map((node) => candidates.weight(node) > 0 && candidates.available(node));
    let preview = predictor.preview(set);
    candidates.setSession(virtualServer, options, AFTER_ANY_SUSPENSION);
    const later = holders.map((node) => candidates.weight(node) > 0 && candidates.available(node));
    if (preview.picked < 0) preview = predictor.preview(set);
    return {
      picked: preview.picked,
      holders: holders.map((node, position) => ({
        node,
        takes: takes[position]!,
        lastChoice: !takes[position]! && later[position]!,
        ...preview.holders[position]!,
      })),
    };
  }

  /** See Dispatcher. */
  countRequest(resource: number, amount = 1): void {
    if (resource < POOL) this.directory.countRequest(resource, amount);
  }

  /** See Dispatcher. */
  holderBit(resource: number, node: number): number {
    const { start, node: nodes } = this.holdersFor(resource);
    const set = this.setOf(resource);
    const first = start[set]!;
    const position = nodes.subarray(first, start[set + 1]).indexOf(node);
    return position < 0 ? 0 : holderBit(position);
  }

  /** See Dispatcher. */
  soleHolder(resource: number): number {
    const { start, node: nodes } = this.holdersFor(resource);
    const set = this.setOf(resource);
    const first = start[set]!;
    return start[set + 1] === first + 1 ? nodes[first]! : -1;
  }

  private makePredictor(virtualServer: number): Predictor {
    const name = this.names[virtualServer] ?? PREDICTOR_NAMES[0];
    const isPool = this.protocols[virtualServer] === Protocol.tcp;
    const holders = isPool ? this.pools : this.directory.holders;
    const predictor = createPredictor(name, holders, this.candidates);
    this.predictors[virtualServer] = predictor;
    return predictor;
  }

  /** The holder sets in which the set of a resource or pool is. */
  private holdersFor(resource: number): HolderSets {
    return resource < POOL ? this.directory.holders : this.pools;
  }

  private setOf(resource: number): number {
    return resource < POOL
      ? this.directory.holders.setOf[resource]!
      : this.pools.setOf[resource - POOL]!;
  }
}

/** The number by which `preview` names the pool of a virtual server. */
export function poolOf(virtualServer: number): number {
  return POOL + virtualServer;
}

function poolSets(pools: Routes['pools'] = []): HolderSets {
  return holderSets(pools.map((nodes) => ({ nodes })));
}
