/**
 * The dispatcher for HTTP requests. It joins the reader of request heads, the directory, and one
 * predictor for each virtual server.
 */

import { HeadReader, HeadStatus } from '../request/http/head.js';
import { isSafeMethod } from '../request/http/method.js';
import type { Directory } from './directory.js';
import { type Dispatcher, Verdict, type VerdictCode } from './dispatcher.js';
import { holderBit } from './holders.js';
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
}

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
  pickedBit = 0;
  private directory: Directory;
  private names: Routes['predictors'];
  private readonly candidates: SessionCandidates;
  /** By slot of the virtual server. Each is made at its first pick. */
  private predictors: (Predictor | undefined)[];
  private readonly head: HeadReader;

  /** @throws BatonError BATON_CONFIG when `headBytes` is out of range */
  constructor(options: RequestDispatcherOptions) {
    this.directory = options.directory;
    this.names = options.predictors;
    this.predictors = options.predictors.map(() => undefined);
    this.candidates = options.candidates;
    this.head = new HeadReader(options.headBytes);
  }

  /** Takes other routes from the next call on. All turns begin anew. */
  use({ directory, predictors }: Routes): void {
    this.directory = directory;
    this.names = predictors;
    this.predictors = predictors.map(() => undefined);
  }

  /**
   * See Dispatcher. `requestStart` and `requestEnd` are also set after a refusal when the request
   * line was valid; otherwise both are 0.
   */
  inspect(
    bytes: Uint8Array,
    start: number,
    end: number,
    resume: number,
    _virtualServer: number,
  ): VerdictCode {
    const head = this.head;
    const status = head.read(bytes, start, end, resume);
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
        this.resource = this.directory.find(head.host, head.hostLength, head.path, head.pathLength);
        this.repeatable = isSafeMethod(bytes, start + head.methodStart, start + head.methodEnd);
        return this.resource < 0 ? Verdict.notFound : Verdict.found;
    }
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
    const set = this.directory.holders.setOf[resource]!;
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
    const { start, node: nodes, setOf } = this.directory.holders;
    const set = setOf[resource]!;
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
  countRequest(resource: number): void {
    this.directory.countRequest(resource);
  }

  /** See Dispatcher. */
  holderBit(resource: number, node: number): number {
    const { start, node: nodes, setOf } = this.directory.holders;
    const set = setOf[resource]!;
    const first = start[set]!;
    const position = nodes.subarray(first, start[set + 1]).indexOf(node);
    return position < 0 ? 0 : holderBit(position);
  }

  private makePredictor(virtualServer: number): Predictor {
    const name = this.names[virtualServer] ?? PREDICTOR_NAMES[0];
    const predictor = createPredictor(name, this.directory.holders, this.candidates);
    this.predictors[virtualServer] = predictor;
    return predictor;
  }
}
