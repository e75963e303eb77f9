/**
 * The OpenAPI 3.1 document of the API, from the routes and the schemas that check their requests.
 * OpenAPI 3.1 takes JSON Schema as it is, so a schema needs no translation: only the words that it
 * has for our messages go, and a schema with a name of its own becomes a component.
 */
import type { TSchema } from '@sinclair/typebox';
import { VERSION } from '../base/version.js';
import {
  ChangeEvent,
  ChangeReport,
  ConfigDocument,
  ErrorDocument,
  ExplainDocument,
  NodeBody,
  NodeDocument,
  NodeEvent,
  NodePatch,
  RatesEvent,
  ReloadBody,
  ResourceBody,
  ResourceDocument,
  SaveBody,
  SaveDocument,
  SessionRow,
  StatsDocument,
  VirtualServerBody,
  VirtualServerDocument,
} from './documents.js';
import { type Route, TAGS } from './routes/route.js';

/** The schemas that have a name in the document. */
const COMPONENTS: Readonly<Record<string, TSchema>> = {
  ChangeEvent,
  ChangeReport,
  Config: ConfigDocument,
  Error: ErrorDocument,
  Explanation: ExplainDocument,
  NewNode: NodeBody,
  NewResource: ResourceBody,
  NewVirtualServer: VirtualServerBody,
  Node: NodeDocument,
  NodeEvent,
  NodePatch,
  RatesEvent,
  Reload: ReloadBody,
  Resource: ResourceDocument,
  Save: SaveBody,
  Saved: SaveDocument,
  Session: SessionRow,
  Stats: StatsDocument,
  VirtualServer: VirtualServerDocument,
};

/** Formats that others do not know. */
const OUR_FORMATS: readonly unknown[] = ['duration', 'listener', 'ip-unicast', 'ip-host'];

const ERRORS: Readonly<Record<number, string>> = {
  400: 'The request is not valid',
  401: 'The call has no valid token',
  403: 'The token may not do this',
  404: 'There is no object of this name',
  409: 'It does not fit with what is going on',
  413: 'The body is too long',
  415: 'The body is not JSON',
  500: 'The balancer could not do it',
  503: 'Too many are open',
};

export function openApiDocument(routes: readonly Route[]): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const path = route.path.replace(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(route) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'Baton',
      version: VERSION,
      summary: 'The API of a running balancer',
      description:
        'Everything that the command line can do with a running balancer. On its unix socket every call may do everything. Over TLS a call needs a token.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [
      {
        url: 'https://{address}',
        description: 'The address of `api.listen` in the config',
        variables: { address: { default: 'localhost:8443' } },
      },
    ],
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
    security: [{ token: [] }],
    paths,
    components: {
      schemas: Object.fromEntries(
        Object.entries(COMPONENTS).map(([name, schema]) => [name, shape(schema, schema)]),
      ),
      responses: Object.fromEntries(
        Object.entries(ERRORS).map(([status, description]) => [
          `Error${status}`,
          { description, content: { 'application/json': { schema: shape(ErrorDocument) } } },
        ]),
      ),
      securitySchemes: {
        token: {
          type: 'http',
          scheme: 'bearer',
          description: 'A token of the tokens file, with the role read-only or admin',
        },
      },
    },
  };
}

function operation(route: Route): object {
  const { id, tag, summary, role, query, params, body, answer } = route;
  const notes = [
    ...(route.description === undefined ? [] : [route.description]),
    ...(route.local === true ? ['Only on the unix socket.'] : []),
    `Needs the role ${role}.`,
  ];
  const content = { [answer.type ?? 'application/json']: { schema: shape(answer.schema) } };
  return {
    operationId: id,
    tags: [tag],
    summary,
    description: notes.join(' '),
    parameters: [...parameters(query, 'query'), ...(params ? parameters(params, 'path') : [])],
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: isRequired(body),
            content: { 'application/json': { schema: shape(body) } },
          },
        }),
    responses: {
      [answer.status ?? 200]: { description: answer.description, content },
      ...Object.fromEntries(
        errorsOf(route).map((status) => [
          status,
          { $ref: `#/components/responses/Error${status}` },
        ]),
      ),
    },
  };
}

function errorsOf({ body, errors = [] }: Route): number[] {
  const always = [400, 401, 403, 500];
  return [...always, ...(body === undefined ? [] : [413, 415]), ...errors].sort((a, b) => a - b);
}

/** Whether a body without any key is not valid. */
function isRequired(body: TSchema): boolean {
  return ((body.required as unknown[] | undefined) ?? []).length > 0 || body.minProperties > 0;
}

function parameters(schema: TSchema, place: 'query' | 'path'): object[] {
  const required: readonly string[] = schema.required ?? [];
  return Object.entries(schema.properties as Record<string, TSchema>).map(([name, each]) => {
    const { description, ...rest } = each;
    return {
      name,
      in: place,
      required: required.includes(name) && rest.default === undefined,
      ...(description === undefined ? {} : { description }),
      schema: shape(rest as TSchema),
    };
  });
}

/**
 * A schema as the document has it.
 * @param whole this schema itself is written out, although it is a component
 */
function shape(schema: TSchema, whole?: TSchema): object {
  const name = Object.keys(COMPONENTS).find((each) => COMPONENTS[each] === schema);
  if (name !== undefined && schema !== whole) return { $ref: `#/components/schemas/${name}` };
  const {
    expected: _,
    fallback,
    format,
    properties,
    items,
    anyOf,
    patternProperties,
    ...others
  } = schema;
  const { required, ...rest } = others;
  const each = (schemas: Record<string, TSchema>): object =>
    Object.fromEntries(Object.entries(schemas).map(([key, value]) => [key, shape(value)]));
  return {
    ...rest,
    ...(fallback === undefined ? {} : { default: fallback }),
    ...(required === undefined ? {} : { required: withoutDefaults(required, properties) }),
    ...(format === undefined || OUR_FORMATS.includes(format) ? {} : { format }),
    ...(properties === undefined ? {} : { properties: each(properties) }),
    ...(patternProperties === undefined ? {} : { patternProperties: each(patternProperties) }),
    ...(items === undefined ? {} : { items: shape(items) }),
    ...(anyOf === undefined ? {} : { anyOf: anyOf.map((one: TSchema) => shape(one)) }),
  };
}

/** A key with a default may be absent from a request: the check fills it in. */
function withoutDefaults(keys: readonly string[], properties: Record<string, TSchema>): string[] {
  return keys.filter((key) => properties[key]?.default === undefined);
}
