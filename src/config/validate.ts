/**
 * Checks the values of a config file against its schema, and describes each problem in words.
 */
import type { TSchema } from '@sinclair/typebox';
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { quoted } from '../base/text.js';
import { taughtSchemas } from './formats.js';
import type { KeyPath, Source } from './source.js';
import { nearest, whyNotHost, whyNotNode, whyNotUnicast } from './values.js';

/** The parts of a schema that this module reads. */
interface Described {
  expected?: string;
  default?: unknown;
  properties?: Record<string, Described>;
  items?: Described;
}

const ajv = taughtSchemas(
  new Ajv({ strict: true, allErrors: true, useDefaults: true, verbose: true }),
);

const compiled = new WeakMap<TSchema, ValidateFunction>();

/**
 * Records all problems in `source`. Returns its data with the defaults filled in; the data itself
 * stays as it is.
 */
export function validate(schema: TSchema, source: Source): unknown {
  let check = compiled.get(schema);
  if (check === undefined) {
    check = ajv.compile(schema);
    compiled.set(schema, check);
  }
  const data = copyForDefaults(schema as Described, source.data);
  if (check(data)) return data;
  for (const error of withoutForms(check.errors ?? []))
    report(error, schema as Described, data, source);
  return data;
}

/**
 * The errors without those of each form of a union, which say less than that none of them fits. Of
 * a union in a list that is itself a form, the element is what is wrong, and not the list.
 */
function withoutForms(errors: readonly ErrorObject[]): ErrorObject[] {
  const isForm = ({ schemaPath }: ErrorObject): boolean => schemaPath.includes('/anyOf/');
  const isUnion = ({ keyword }: ErrorObject): boolean => keyword === 'anyOf';
  const elements = errors.filter((error) => isForm(error) && isUnion(error));
  const hasWrongElement = ({ instancePath }: ErrorObject): boolean =>
    elements.some((element) => element.instancePath.startsWith(`${instancePath}/`));
  return errors.filter((error) =>
    isForm(error) ? elements.includes(error) : !(isUnion(error) && hasWrongElement(error)),
  );
}

/**
 * Copies each map into which a default may be filled, and what contains such maps. The rest is
 * shared with `value`: the resources, which may be a million, have no defaults.
 */
function copyForDefaults(schema: Described, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !hasDefaults(schema)) return value;
  if (Array.isArray(value)) {
    const { items } = schema;
    return items === undefined ? value : value.map((item) => copyForDefaults(items, item));
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [
      key,
      copyForDefaults(schema.properties?.[key] ?? {}, inner),
    ]),
  );
}

function hasDefaults({ properties = {}, items }: Described): boolean {
  if (items !== undefined && hasDefaults(items)) return true;
  return Object.values(properties).some(
    (property) => property.default !== undefined || hasDefaults(property),
  );
}

function report(error: ErrorObject, root: Described, data: unknown, source: Source): void {
  const path = toPath(error.instancePath, data);
  const schema = (error.parentSchema ?? root) as Described;
  if (error.keyword === 'required') {
    const key = String(error.params.missingProperty);
    source.missing([...path, key], `is missing, expected ${schema.properties?.[key]?.expected}`);
  } else if (error.keyword === 'additionalProperties') {
    const key = String(error.params.additionalProperty);
    const known = Object.keys(schema.properties ?? {});
    const meant = nearest(key, known);
    source.wrong(
      [...path, key],
      meant === undefined
        ? `is not a known key, expected ${known.length === 1 ? known[0] : `one of ${known.join(', ')}`}`
        : `is not a known key, did you mean ${meant}?`,
      'key',
    );
  } else {
    source.wrong(path, `${whatIs(error)}, expected ${schema.expected}${advice(error)}`);
  }
}

/** By format, why a text does not have it. */
const WHY_NOT: Readonly<Record<string, (text: string) => string | undefined>> = {
  node: whyNotNode,
  'ip-unicast': whyNotUnicast,
  'ip-host': whyNotHost,
};

/** The value in words: "is 7", "is a list of 2", "is \"::1\", an IPv6 address ...". */
function whatIs(error: ErrorObject): string {
  const value: unknown = error.data;
  const whyNot = WHY_NOT[String(error.schema)];
  const why = whyNot?.(String(value));
  return `is ${shown(value)}${why === undefined ? '' : `, ${why}`}`;
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return 'empty';
  if (typeof value === 'string') return quoted(value);
  if (Array.isArray(value))
    return value.length === 0 ? 'an empty list' : `a list of ${value.length}`;
  if (typeof value === 'object') return 'a map';
  return String(value);
}

function advice(error: ErrorObject): string {
  const wantsText = error.keyword === 'type' && error.params.type === 'string';
  const scalar = typeof error.data === 'number' || typeof error.data === 'boolean';
  const isDuration = (error.parentSchema as { format?: string } | undefined)?.format === 'duration';
  return wantsText && scalar && !isDuration ? ' (put it in quotes)' : '';
}

/** Converts a JSON pointer to keys and indices. */
function toPath(pointer: string, data: unknown): KeyPath {
  if (pointer === '') return [];
  let value = data;
  return pointer
    .slice(1)
    .split('/')
    .map((part) => {
      const key = part.replace(/~1/g, '/').replace(/~0/g, '~');
      const inList = Array.isArray(value);
      value = (value as Record<string, unknown> | null | undefined)?.[key];
      return inList ? Number(key) : key;
    });
}
