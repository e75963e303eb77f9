/**
 * A route: one call of the API, as data. The servers and the OpenAPI document are made from the
 * same list of routes.
 */
import { type Static, type TObject, type TSchema, Type } from '@sinclair/typebox';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Control } from '../control.js';
import { closed } from '../documents/common.js';

export const ROLES = ['read-only', 'admin'] as const;
/** What a token may do: only read, or everything. */
export type Role = (typeof ROLES)[number];

/** Groups of routes in the OpenAPI document. */
export const TAGS = {
  state: 'What the balancer does',
  objects: 'Nodes, virtual servers and resources',
  config: 'The config that runs',
  service: 'The balancer itself, and this API',
} as const;

export interface Call<Query, Body, Params> {
  query: Query;
  body: Body;
  params: Params;
  /** Who calls: `LOCAL_ACTOR`, or the name of a token. */
  actor: string;
  request: FastifyRequest;
  reply: FastifyReply;
}

/** What both kinds of routes have. */
interface Described {
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** As fastify takes it: `/v1/nodes/:name`. */
  path: string;
  /** The name of the call for generated clients. */
  id: string;
  tag: keyof typeof TAGS;
  /** A few words. */
  summary: string;
  description?: string;
  /** The function of `Control` that it needs. Without that function the route does not exist. */
  needs: keyof Control;
  /** The least role that may call it. */
  role: Role;
  /** Only on the unix socket. */
  local?: true;
  /** Its response has no end. */
  endless?: true;
  /** Statuses of errors that this call has, besides those that every call may have. */
  errors?: readonly number[];
  /** The response. */
  answer: { schema: TSchema; type?: string; status?: number; description: string };
}

export interface Route extends Described {
  query: TObject;
  params: TObject | undefined;
  body: TSchema | undefined;
  handle(call: Call<unknown, unknown, unknown>): unknown;
  /** Runs when a call has succeeded and its response has been sent. */
  after?(): void;
}

const Nothing = Type.Object({}, closed);

/** Makes a route whose handler gets what its schemas say. */
export function route<
  Query extends TObject = typeof Nothing,
  Body extends TSchema = typeof Nothing,
  Params extends TObject = typeof Nothing,
>(
  definition: Described & {
    query?: Query;
    body?: Body;
    params?: Params;
    handle(call: Call<Static<Query>, Static<Body>, Static<Params>>): unknown;
    after?(): void;
  },
): Route {
  const { query, body, params, handle, ...rest } = definition;
  return {
    ...rest,
    query: query ?? Nothing,
    body: body ?? (rest.method === 'POST' || rest.method === 'PATCH' ? Nothing : undefined),
    params,
    // The server checks all parts against these schemas before it calls the handler.
    handle: (call) => handle(call as Call<Static<Query>, Static<Body>, Static<Params>>),
  };
}
