/** A client of the control socket of a running balancer: a method for each call of the API. */
import type { Static, TSchema } from '@sinclair/typebox';
import type { TapWish } from '../datapath/frame-tap.js';
import { ajv, ControlConnection, isAbsent, type RecordStream } from './connection.js';
import type { Change, NumberedEvent } from './control.js';
import {
  ChangeReport,
  ConfigDocument,
  ControlEvent,
  ExplainDocument,
  type ExplainQuery,
  LeaveDocument,
  MOST_ROWS,
  NodeDocument,
  NodesDocument,
  type ResourceDocument,
  ResourcePage,
  SaveDocument,
  SessionPage,
  type SessionRow,
  StatsDocument,
  VirtualServerDocument,
  VirtualServersDocument,
} from './documents.js';
import { EventReader } from './event-reader.js';

export type { RecordStream } from './connection.js';

/** A change may wait for probes of addresses, and a large config takes its time to read. */
const CHANGE_TIMEOUT_MS = 600_000;

/** The rows of several pages. */
export interface SessionList {
  sessions: SessionRow[];
  /** Sessions in the balancer's table. */
  total: number;
}

export interface ResourceList {
  resources: ResourceDocument[];
  /** Resources of the config. */
  total: number;
}

/** All methods throw the BatonError that the balancer answers, or one of `ControlConnection`. */
export class ControlClient {
  private readonly connection: ControlConnection;

  constructor(path: string) {
    this.connection = new ControlConnection(path);
  }

  stats(): Promise<StatsDocument> {
    return this.ask('/v1/stats', StatsDocument);
  }

  /** The first `limit` sessions. */
  async sessions(limit: number): Promise<SessionList> {
    const { rows, total } = await pages(limit, async (after, wanted) => {
      const page = await this.ask(`/v1/sessions?${encode({ after, limit: wanted })}`, SessionPage);
      return { ...page, rows: page.sessions };
    });
    return { sessions: rows, total };
  }

  /**
   * Asks the balancer to end and to leave everything in place. False when no balancer is running.
   */
  async leave(): Promise<boolean> {
    try {
      await this.ask('/v1/leave', LeaveDocument, { method: 'POST' });
      return true;
    } catch (error) {
      if (isAbsent(error)) return false;
      throw error;
    }
  }

  /**
   * Begins a capture of the engine's frames, and resolves when it has begun. `take` gets the stream
   * in pieces. Throws BATON_IN_USE while another capture runs.
   */
  capture(query: TapWish, take: (bytes: Uint8Array) => void): Promise<RecordStream> {
    return this.connection.stream(`/v1/capture?${encode({ ...query })}`, take);
  }

  nodes(): Promise<NodesDocument> {
    return this.ask('/v1/nodes', NodesDocument);
  }

  node(name: string): Promise<NodeDocument> {
    return this.ask(`/v1/nodes/${encodeURIComponent(name)}`, NodeDocument);
  }

  virtualServers(): Promise<VirtualServersDocument> {
    return this.ask('/v1/virtual-servers', VirtualServersDocument);
  }

  virtualServer(name: string): Promise<VirtualServerDocument> {
    return this.ask(`/v1/virtual-servers/${encodeURIComponent(name)}`, VirtualServerDocument);
  }

  /** The first `limit` resources. */
  async resources(limit: number): Promise<ResourceList> {
    const { rows, total } = await pages(limit, async (after, wanted) => {
      const page = await this.ask(
        `/v1/resources?${encode({ after, limit: wanted })}`,
        ResourcePage,
      );
      return { ...page, rows: page.resources };
    });
    return { resources: rows, total };
  }

  change(change: Change): Promise<ChangeReport> {
    const { target, method, body } = callOf(change);
    return this.ask(target, ChangeReport, {
      method,
      timeout: CHANGE_TIMEOUT_MS,
      ...(body === undefined ? {} : { body }),
    });
  }

  config(): Promise<ConfigDocument> {
    return this.ask('/v1/config', ConfigDocument, { timeout: CHANGE_TIMEOUT_MS });
  }

  saveConfig(options: { force?: boolean } = {}): Promise<SaveDocument> {
    const call = { method: 'POST', body: options, timeout: CHANGE_TIMEOUT_MS };
    return this.ask('/v1/config/save', SaveDocument, call);
  }

  explain(query: ExplainQuery): Promise<ExplainDocument> {
    return this.ask(`/v1/explain?${encode(query)}`, ExplainDocument);
  }

  /** `take` gets every event from now on. Resolves when the stream has begun. */
  events(take: (event: NumberedEvent) => void): Promise<RecordStream> {
    const reader = new EventReader(({ id, data }) => {
      const event: unknown = JSON.parse(data);
      // An event of another kind is one of a later version.
      if (ajv.validate<ControlEvent>(ControlEvent, event)) take({ id, event });
    });
    return this.connection.stream('/v1/events', (bytes) => reader.take(bytes));
  }

  private async ask<Schema extends TSchema>(
    target: string,
    schema: Schema,
    options: { method?: string; body?: object; timeout?: number } = {},
  ): Promise<Static<Schema>> {
    const document = await this.connection.document(target, options);
    if (!ajv.validate<Static<Schema>>(schema, document)) {
      throw this.connection.notUnderstood(`the response is not valid: ${ajv.errorsText()}`);
    }
    return document;
  }
}

function encode(values: Readonly<Record<string, unknown>>): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined) parameters.set(name, String(value));
  }
  return parameters.toString();
}

/** The call that makes a change. */
function callOf(change: Change): { target: string; method: string; body?: object } {
  switch (change.kind) {
    case 'reload':
      return {
        target: '/v1/reload',
        method: 'POST',
        body: change.file === undefined ? {} : { file: change.file },
      };
    case 'node-state': {
      const { kind: _, node, ...body } = change;
      return { target: `/v1/nodes/${encodeURIComponent(node)}`, method: 'PATCH', body };
    }
    case 'weight':
      return {
        target: `/v1/nodes/${encodeURIComponent(change.node)}`,
        method: 'PATCH',
        body: { weight: change.weight },
      };
    case 'add-node':
      return { target: '/v1/nodes', method: 'POST', body: change.node };
    case 'add-virtual-server':
      return { target: '/v1/virtual-servers', method: 'POST', body: change.virtualServer };
    case 'add-resource':
      return { target: '/v1/resources', method: 'POST', body: change.resource };
    case 'remove-node':
      return { target: `/v1/nodes/${encodeURIComponent(change.node)}`, method: 'DELETE' };
    case 'remove-virtual-server': {
      const name = encodeURIComponent(change.virtualServer);
      const query = change.endSessions === true ? `?${encode({ sessions: 'end' })}` : '';
      return { target: `/v1/virtual-servers/${name}${query}`, method: 'DELETE' };
    }
    case 'remove-resource': {
      const { kind: _, alpn, ...key } = change;
      const query = { ...key, ...(alpn === undefined ? {} : { alpn: alpn.join(',') }) };
      return { target: `/v1/resources?${encode(query)}`, method: 'DELETE' };
    }
  }
}

/** A part of a list, and the place from which the next part begins; null: there is none. */
interface Part<Row> {
  rows: readonly Row[];
  total: number;
  next: number | null;
}

/** The first `limit` rows of a list that comes in pages. */
async function pages<Row>(
  limit: number,
  ask: (after: number, wanted: number) => Promise<Part<Row>>,
): Promise<{ rows: Row[]; total: number }> {
  const rows: Row[] = [];
  let after = 0;
  for (;;) {
    const part = await ask(after, Math.min(limit - rows.length, MOST_ROWS));
    rows.push(...part.rows);
    if (part.next === null || part.next <= after || rows.length >= limit)
      return { rows, total: part.total };
    after = part.next;
  }
}
