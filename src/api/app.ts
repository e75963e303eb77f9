/** An HTTP server for the routes. The unix socket and the TLS listener have one each. */
import { STATUS_CODES } from 'node:http';
import type { Server, ServerOptions } from 'node:https';
import type { Socket } from 'node:net';
import type { TSchema } from '@sinclair/typebox';
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import { printable } from '../base/text.js';
import type { Access, Caller, Demand } from './access.js';
import { ErrorDocument, SERVER_HEADER } from './documents.js';
import { RequestError, toResponse } from './errors.js';
import type { Route } from './routes/route.js';
import { compileCheck, type Part } from './validation.js';

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller;
  }
  interface FastifyContextConfig {
    demand?: Demand;
  }
}

const MOST_BODY_BYTES = 64 * 1024;
/** For a whole request, ms. It ends the connection of a client that hangs. */
const REQUEST_TIMEOUT_MS = 10_000;
const HEADERS_TIMEOUT_MS = 5_000;
const KEEP_ALIVE_MS = 10_000;
/** How often these times are checked, ms. */
const CHECK_MS = 1_000;

/** fastify's names of the parts of a request. */
const PARTS: Readonly<Record<string, Part>> = {
  body: 'body',
  querystring: 'query',
  params: 'path',
};

/** @param secure the options of a TLS server; without them, it speaks plain HTTP */
export function buildApp(
  routes: readonly Route[],
  access: Access,
  secure?: ServerOptions,
): FastifyInstance<Server> {
  const times = {
    requestTimeout: REQUEST_TIMEOUT_MS,
    headersTimeout: HEADERS_TIMEOUT_MS,
    connectionsCheckingInterval: CHECK_MS,
  };
  const app = Fastify<Server>({
    https: secure === undefined ? null : { ...times, ...secure },
    ...(secure === undefined ? { http: times } : {}),
    logger: false,
    bodyLimit: MOST_BODY_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    forceCloseConnections: true,
    return503OnClosing: false,
    frameworkErrors: (error, _request, reply) => sendError(error, reply as FastifyReply),
    clientErrorHandler: refuseGarbage,
  });
  app.removeContentTypeParser('text/plain');
  app.setValidatorCompiler<TSchema>(({ schema, httpPart = '' }) => {
    const check = compileCheck(schema, PARTS[httpPart] ?? 'body');
    return (value: unknown) => {
      const error = check(value);
      return error === undefined ? { value } : { error };
    };
  });
  // The hook below sets it before anything reads it.
  app.decorateRequest('caller', null as never);
  app.addHook('onRequest', async (request, reply) => {
    reply.header('server', SERVER_HEADER).header('cache-control', 'no-store');
    request.caller = access.admit(request, request.routeOptions.config.demand);
  });
  app.addHook('preValidation', async (request) => {
    // Every key of every body is optional or reported as missing, so no body is an empty one.
    if (request.body === undefined) request.body = {};
  });
  app.setErrorHandler((error, _request, reply) => sendError(error, reply));
  app.setNotFoundHandler((request, reply) => {
    const target = printable(`${request.method} ${request.url}`);
    const allowed = methodsAt(routes, request.url);
    if (allowed.length === 0) {
      throw new RequestError(404, 'BATON_UNKNOWN', `nothing at ${target}`, {
        hint: 'GET /v1/openapi.json lists all calls',
      });
    }
    reply.header('allow', allowed.join(', '));
    throw new RequestError(405, 'BATON_REQUEST', `${target} is not possible`, {
      hint: `this path has ${allowed.join(', ')}`,
    });
  });
  for (const each of routes) addRoute(app, each);
  return app;
}

function addRoute(app: FastifyInstance<Server>, route: Route): void {
  const { query, params, body, answer, after } = route;
  const status = answer.status ?? 200;
  const isJson = answer.type === undefined;
  app.route({
    method: route.method,
    url: route.path,
    exposeHeadRoute: isJson,
    config: { demand: { role: route.role, local: route.local === true } },
    schema: {
      querystring: query,
      ...(params === undefined ? {} : { params }),
      ...(body === undefined ? {} : { body }),
      response: {
        ...(isJson ? { [status]: answer.schema } : {}),
        '4xx': ErrorDocument,
        '5xx': ErrorDocument,
      },
    },
    onResponse: async (_request, reply) => {
      // A call that was refused has this hook as well.
      if (reply.statusCode === status) after?.();
    },
    handler: async (request, reply) => {
      reply.code(status);
      return route.handle({
        query: request.query,
        body: request.body,
        params: request.params,
        actor: request.caller.actor,
        request,
        reply,
      });
    },
  });
}

function sendError(error: unknown, reply: FastifyReply): void {
  const { status, document } = toResponse(error, MOST_BODY_BYTES);
  reply.header('server', SERVER_HEADER);
  if (status === 401) reply.header('www-authenticate', 'Bearer realm="baton"');
  if (status === 503) reply.header('retry-after', '5');
  // As text: the response schema belongs to another status when the route has set one.
  reply.code(status).type('application/json; charset=utf-8').send(JSON.stringify(document));
}

/** The methods of the routes that a path matches. */
function methodsAt(routes: readonly Route[], url: string): string[] {
  const parts = (url.split('?', 1)[0] ?? '').split('/');
  const matches = routes.filter(({ path }) => {
    const wanted = path.split('/');
    return (
      wanted.length === parts.length &&
      wanted.every((part, index) =>
        part.startsWith(':') ? parts[index] !== '' : part === parts[index],
      )
    );
  });
  const methods = matches.flatMap(({ method, answer }) =>
    method === 'GET' && answer.type === undefined ? ['GET', 'HEAD'] : [method],
  );
  return [...new Set(methods)];
}

/** Answers what is not HTTP, or comes too slowly. */
function refuseGarbage(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, message] =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? [408, 'the request took too long']
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? [431, 'the header is too long']
        : [400, 'the request is not valid HTTP'];
  const body = JSON.stringify(
    toResponse(new RequestError(status, 'BATON_REQUEST', message), 0).document,
  );
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nServer: ${SERVER_HEADER}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
}
