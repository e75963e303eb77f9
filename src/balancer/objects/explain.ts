/**
 * Explains what would happen to a request, for `baton explain`. The main thread finds the virtual
 * server and the resources, with the reader and the directory that the engine has. The engine
 * thread that would own the session says which node it would pick, because the turns are there.
 * Nothing changes by it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type {
  ExplainCandidate,
  ExplainDocument,
  ExplainQuery,
  ExplainRule,
  NodeDocument,
} from '../../api/documents.js';
import { BatonError } from '../../base/errors.js';
import { Directory } from '../../directory/directory.js';
import { scopeOf } from '../../directory/directory-image.js';
import { canonicalPath } from '../../directory/pattern.js';
import { SLASH } from '../../request/http/tables.js';
import type { Address } from '../../wire/address.js';
import type { ExplainAnswer, ExplainQuestion } from '../threads/engine-messages.js';
import { lookUp, noHolder } from './explain-lookup.js';
import { type AskedRequest, askedRequest } from './explain-request.js';
import { reasonsOf } from './explain-words.js';
import type { Farm, FarmSlots } from './farm.js';

/**
 * A change of the farm may come between the look-up and the engine's answer. Then it is redone,
 * after this time in ms.
 */
const MOST_TRIES = 20;
const AGAIN_MS = 10;
/** Resources that would match next, at most. */
const MOST_NEXT = 16;

/** What the directory was built from. */
export interface ExplainFarm {
  farm: Farm;
  /** By index in the farm's directory. */
  resources: readonly {
    readonly host: string | undefined;
    readonly path: string;
    readonly alpn?: readonly string[] | undefined;
  }[];
}

export interface ExplainParts {
  /** The farm that runs now. */
  current(): ExplainFarm;
  engine: {
    readonly workers: number;
    /** The thread that owns sessions of a client at this virtual server. */
    workerOf(address: Address, port: number, server: number): number;
    /** Undefined: the thread has another farm. */
    explain(worker: number, question: ExplainQuestion): Promise<ExplainAnswer | undefined>;
  };
  /** State, condition and reason of the node in a slot; undefined: there is none. */
  node(slot: number): ExplainedNode | undefined;
  headBytes: number;
  /** What would happen to a packet for a virtual server with mode forward. */
  forward(
    farm: FarmSlots,
    asked: AskedRequest,
  ): Pick<ExplainDocument, 'candidates' | 'chosen' | 'why'>;
}

/** Nothing is read, and the balancer answers nothing itself. */
const NOT_READ = { lookedUp: null, answer: null, alert: null } as const;

export type ExplainedNode = Pick<NodeDocument, 'state' | 'condition' | 'why'>;

/** A node that was removed a moment ago. */
export const NO_NODE: ExplainedNode = { state: 'down', condition: 'removed', why: '' };

export class Explainer {
  private readonly parts: ExplainParts;

  constructor(parts: ExplainParts) {
    this.parts = parts;
  }

  /** @throws BatonError of `askedRequest`; BATON_SYSTEM when an engine thread does not answer */
  async explain(query: ExplainQuery): Promise<ExplainDocument> {
    for (let tried = 0; tried < MOST_TRIES; tried++) {
      const document = await this.tryOnce(query);
      if (document !== undefined) return document;
      await delay(AGAIN_MS);
    }
    throw new BatonError('BATON_CONFLICT', 'the config keeps changing', { hint: 'try again' });
  }

  /** Undefined when the farm has changed meanwhile. */
  private async tryOnce(query: ExplainQuery): Promise<ExplainDocument | undefined> {
    const { parts } = this;
    const { farm, resources } = parts.current();
    const asked = askedRequest(
      query,
      farm.servers.filter((server) => !server.retired),
    );
    const { server } = asked;
    const thread = this.threadOf(asked);
    const base = {
      virtualServer: server.name,
      predictor: server.predictor,
      resource: null,
      next: [],
      rewritten: null,
      thread,
      candidates: [],
      chosen: null,
    };
    if (server.mode === 'forward') {
      const decided = parts.forward(farm, asked);
      return { ...base, ...NOT_READ, ...decided };
    }
    // The list of resources follows the farm a moment later.
    if (resources.length !== farm.directory.holders.setOf.length) return undefined;
    const directory = new Directory(farm.directory);
    const { lookedUp, found, rewritten, refusal } = lookUp(
      asked,
      directory,
      scopeOf(farm.directory, server),
      parts.headBytes,
    );
    const names = new Map(farm.nodes.map(({ slot, name }) => [slot, name]));
    const rule = (index: number): ExplainRule => {
      const { host, path, alpn } = resources[index] ?? { host: undefined, path: '' };
      const { start, node, setOf } = directory.holders;
      const set = setOf[index] ?? 0;
      const holders = [...node.subarray(start[set], start[set + 1])];
      return {
        host: host ?? null,
        path,
        alpn: alpn === undefined ? null : [...alpn],
        hostMatch: host === undefined ? 'any' : host.startsWith('*.') ? 'wildcard' : 'exact',
        pathMatch: canonicalPath(path).at(-1) === SLASH ? 'prefix' : 'exact',
        nodes: holders.map((slot) => names.get(slot) ?? ''),
      };
    };
    const [first, ...others] = found;
    if (first === undefined) return { ...base, lookedUp, ...refusal };

    const answer = await parts.engine.explain(thread.number, {
      generation: farm.generation,
      resource: first,
      server: server.slot,
    });
    if (answer === undefined) return undefined;
    const statusOf = (slot: number): ExplainedNode => parts.node(slot) ?? NO_NODE;
    const reasons = reasonsOf(answer, server, statusOf);
    const candidates = answer.holders.map((holder, index): ExplainCandidate => {
      const { state, condition } = statusOf(holder.node);
      return {
        node: names.get(holder.node) ?? '',
        state,
        condition,
        weight: holder.weight,
        load: holder.load,
        score: holder.score,
        credit: holder.credit,
        takes: holder.takes,
        lastChoice: holder.lastChoice,
        chosen: holder.node === answer.node,
        why: reasons[index] ?? '',
      };
    });
    const chosen = names.get(answer.node) ?? null;
    return {
      ...base,
      lookedUp,
      // A pool is no resource.
      resource: first < resources.length ? rule(first) : null,
      next: others.slice(0, MOST_NEXT).map(rule),
      rewritten,
      candidates,
      chosen,
      ...(chosen === null
        ? noHolder(server)
        : { answer: null, alert: null, why: `${chosen} would get the session` }),
    };
  }

  private threadOf({ client, server }: AskedRequest): ExplainDocument['thread'] {
    const { workers, workerOf } = this.parts.engine;
    if (workers === 1) return { number: 0, of: 1, known: true };
    if (client?.port === undefined) return { number: 0, of: workers, known: false };
    const number = workerOf.call(this.parts.engine, client.address, client.port, server.slot);
    return { number, of: workers, known: true };
  }
}
