/** Checks queries, bodies and path parameters against their schemas, and says what is wrong. */
import type { TSchema } from '@sinclair/typebox';
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { quoted } from '../base/text.js';
import { taughtSchemas } from '../config/formats.js';
import { nearest } from '../config/values.js';
import { RequestError } from './errors.js';

/** The parts of a request that have a schema, as messages call them. */
export type Part = 'body' | 'query' | 'path';

/** The parts of a schema that messages use. */
interface Described {
  expected?: string;
  type?: string;
  enum?: readonly string[];
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  properties?: Record<string, Described>;
}

const OPTIONS = { strict: true, useDefaults: true, verbose: true } as const;
/** Texts of a query and of a path become the numbers that their schemas want. A body has types. */
const CHECKS: Readonly<Record<Part, Ajv>> = {
  body: taughtSchemas(new Ajv(OPTIONS)),
  query: taughtSchemas(new Ajv({ ...OPTIONS, coerceTypes: true })),
  path: taughtSchemas(new Ajv({ ...OPTIONS, coerceTypes: true })),
};

/** A check that fills defaults in, and returns what is wrong with the value, if anything is. */
export type Check = (value: unknown) => RequestError | undefined;

export function compileCheck(schema: TSchema, part: Part): Check {
  const check: ValidateFunction = CHECKS[part].compile(schema);
  return (value) => {
    if (check(value)) return undefined;
    const [error] = check.errors ?? [];
    return error === undefined ? undefined : describe(error, part);
  };
}

function describe(error: ErrorObject, part: Part): RequestError {
  const keys = error.instancePath.split('/').slice(1).map(unescapePointer);
  const schema = (error.parentSchema ?? {}) as Described;
  const is = (key: string | undefined, message: string): RequestError => {
    const path = [...keys, ...(key === undefined ? [] : [key])].join('.');
    const where = path === '' ? part : `${part}: ${/^[\w.-]+$/.test(path) ? path : quoted(path)}`;
    return new RequestError(400, 'BATON_REQUEST', message, { where });
  };
  if (error.keyword === 'required') {
    const key = String(error.params.missingProperty);
    return is(key, `is missing, expected ${expectation(schema.properties?.[key] ?? {})}`);
  }
  if (error.keyword === 'additionalProperties') {
    const key = String(error.params.additionalProperty);
    const known = Object.keys(schema.properties ?? {});
    const meant = nearest(key, known);
    return is(
      key,
      `is not a known key, ${meant === undefined ? oneOf(known) : `did you mean ${meant}?`}`,
    );
  }
  if (error.keyword === 'minProperties') {
    return is(undefined, `is empty, ${oneOf(Object.keys(schema.properties ?? {}))}`);
  }
  return is(undefined, `is ${shown(error.data)}, expected ${expectation(schema)}`);
}

function oneOf(keys: readonly string[]): string {
  if (keys.length === 0) return 'expected no key';
  return keys.length === 1 ? `expected ${keys[0]}` : `expected one of ${keys.join(', ')}`;
}

function expectation(schema: Described): string {
  if (schema.expected !== undefined) return schema.expected;
  if (schema.enum !== undefined) return `one of ${schema.enum.join(', ')}`;
  if (schema.type === 'integer') {
    return `a whole number from ${schema.minimum ?? 0} to ${schema.maximum ?? 'any'}`;
  }
  if (schema.type === 'boolean') return 'true or false';
  if (schema.type === 'string') {
    const { minLength = 0, maxLength } = schema;
    return maxLength === undefined ? 'a text' : `a text of ${minLength} to ${maxLength} characters`;
  }
  return schema.type === 'object' ? 'an object' : 'another value';
}

function shown(value: unknown): string {
  if (typeof value === 'string') return quoted(value);
  if (Array.isArray(value))
    return value.length === 0 ? 'an empty list' : `a list of ${value.length}`;
  if (value === null || value === undefined) return 'empty';
  return typeof value === 'object' ? 'an object' : String(value);
}

function unescapePointer(part: string): string {
  return part.replace(/~1/g, '/').replace(/~0/g, '~');
}
