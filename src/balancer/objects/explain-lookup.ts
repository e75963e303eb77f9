/**
 * What the balancer reads of a client's first bytes, and the resources that it finds with it. This
 * uses the readers and the directory that the engine has.
 */
import type { ExplainDocument } from '../../api/documents.js';
import { type Directory, NO_NAME, NO_PROTOCOL } from '../../directory/directory.js';
import { alertFor } from '../../directory/hello-lookup.js';
import { poolOf } from '../../directory/request-dispatcher.js';
import { HeadReader, HeadStatus } from '../../request/http/head.js';
import { type AlertCode, alertName } from '../../request/tls/alert.js';
import { HelloReader, HelloStatus } from '../../request/tls/hello.js';
import type { AskedRequest } from './explain-request.js';
import { alertResultOf, resultOf } from './explain-words.js';

/** What the balancer itself answers, if no node does. */
export type OwnAnswer = Pick<ExplainDocument, 'answer' | 'alert' | 'why'>;

export interface Looked {
  lookedUp: ExplainDocument['lookedUp'];
  /** Resources, the one that counts first; or the pool of the virtual server (poolOf). */
  found: readonly number[];
  /** The target that the node gets, if it is not that of the request; null: it is. */
  rewritten: string | null;
  /** What the client gets if nothing was found. */
  refusal: OwnAnswer;
}

/** The answer to a client of the virtual server that no holder takes. */
export function noHolder({ protocol }: AskedRequest['server']): OwnAnswer {
  switch (protocol) {
    case 'tls':
      return { answer: null, alert: 'internal_error', why: alertResultOf('internal_error') };
    case 'tcp':
      return {
        answer: null,
        alert: null,
        why: 'the balancer would reset the connection: no node takes the session',
      };
    default:
      return statusAnswer(503);
  }
}

function statusAnswer(status: number): OwnAnswer {
  return { answer: status, alert: null, why: resultOf(status) };
}

function alertAnswer(alert: AlertCode): OwnAnswer {
  const name = alertName(alert);
  return { answer: null, alert: name, why: alertResultOf(name) };
}

const NOTHING = { lookedUp: null, found: [], rewritten: null } as const;

/**
 * @param scope of the virtual server
 * @param headBytes limit of a request head
 */
export function lookUp(
  { server, first }: AskedRequest,
  directory: Directory,
  scope: number,
  headBytes: number,
): Looked {
  switch (server.protocol) {
    case 'tls':
      return lookUpHello(first, directory, scope);
    case 'tcp':
      return {
        ...NOTHING,
        found: [poolOf(server.slot)],
        refusal: noHolder(server),
      };
    default:
      return lookUpHead(first, directory, scope, headBytes);
  }
}

function lookUpHead(
  first: Uint8Array,
  directory: Directory,
  scope: number,
  headBytes: number,
): Looked {
  const reader = new HeadReader(headBytes);
  const status = reader.read(first, 0, first.length, 0);
  if (status !== HeadStatus.complete) {
    const refused = status === HeadStatus.incomplete ? HeadStatus.badRequest : status;
    return { ...NOTHING, refusal: statusAnswer(refused) };
  }
  const { host, hostLength, path, pathLength } = reader;
  const found = directory.findAll(host, hostLength, path, pathLength, scope);
  return {
    lookedUp: { host: nameOf(host, hostLength), path: textOf(path, pathLength), protocols: null },
    found,
    rewritten: rewrittenTarget(directory, found[0], reader, first),
    refusal: statusAnswer(404),
  };
}

function rewrittenTarget(
  { rewrites }: Directory,
  resource: number | undefined,
  { path, pathLength, pathStart, pathEnd, targetEnd }: HeadReader,
  head: Uint8Array,
): string | null {
  if (resource === undefined || pathEnd < pathStart) return null;
  const length = rewrites.length(resource, pathLength);
  if (length === 0) return null;
  const bytes = new Uint8Array(length);
  rewrites.write(resource, path, pathLength, bytes, 0);
  return `${textOf(bytes, length)}${textOf(head.subarray(pathEnd), targetEnd - pathEnd)}`;
}

function lookUpHello(first: Uint8Array, directory: Directory, scope: number): Looked {
  const reader = new HelloReader();
  if (reader.read(first, 0, first.length, 0) !== HelloStatus.complete)
    return { ...NOTHING, refusal: alertAnswer(reader.alert) };
  const { host, hostLength, protocols, protocolsStart: start, protocolsEnd: end } = reader;
  const names: string[] = [];
  for (let at = start; at < end; at += 1 + protocols[at]!) {
    const length = protocols[at]!;
    names.push(textOf(protocols.subarray(at + 1), length));
  }
  const found = directory.findName(host, hostLength, protocols, start, end, scope);
  const missed = found === NO_PROTOCOL ? NO_PROTOCOL : NO_NAME;
  return {
    lookedUp: { host: nameOf(host, hostLength), path: null, protocols: names },
    rewritten: null,
    found: directory.findAllNames(host, hostLength, protocols, start, end, scope),
    refusal: alertAnswer(alertFor(missed, reader)),
  };
}

function nameOf(host: Uint8Array, length: number): string | null {
  return length === 0 ? null : textOf(host, length);
}

function textOf(bytes: Uint8Array, length: number): string {
  return Buffer.from(bytes.subarray(0, length)).toString('latin1');
}
