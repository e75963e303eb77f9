/**
 * The dispatcher for HTTP requests. It joins the reader of request heads, the directory, and one
 * predictor for each virtual server.
 */

import { HeadReader, HeadStatus } from '../request/http/head.js';
import { isSafeMethod } from '../request/http/method.js';
import type { Directory } from './directory.js';
import { type Dispatcher, Verdict, type VerdictCode } from './dispatcher.js';
import type { Candidates } from './predictors/candidates.js';
import { createPredictor, type PredictorName } from './predictors/index.js';
import type { Predictor } from './predictors/predictor.js';

/** A time at which every suspension and rest has ended. */
const AFTER_ANY_SUSPENSION = Number.POSITIVE_INFINITY;

/** Candidates for a session of a client. Whether one is available depends on the session. */
export interface SessionCandidates extends Candidates {
  /**
   * Sets the session that `available` answers for.
   * @param server index of its virtual server
   * @param options IxpFlag bits of the TCP options that it has agreed on; other bits are ignored
   * @param now ms on the engine's clock
   */
  setSession(server: number, options: number, now: number): void;
}

export interface RequestDispatcherOptions {
  directory: Directory;
  /** For each virtual server, by index. */
  predictors: readonly PredictorName[];
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
  private readonly directory: Directory;
  private readonly candidates: SessionCandidates;
  private readonly predictors: readonly Predictor[];
  private readonly head: HeadReader;

  /** @throws BatonError BATON_CONFIG when `headBytes` is out of range */
  constructor(options: RequestDispatcherOptions) {
    const { directory, candidates } = options;
    this.directory = directory;
    this.candidates = candidates;
    this.predictors = options.predictors.map((name) =>
      createPredictor(name, directory.holders, candidates),
    );
    this.head = new HeadReader(options.headBytes);
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
    const predictor = this.predictors[virtualServer]!;
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
}
