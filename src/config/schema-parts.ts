/**
 * The forms that keys of the config files have. Each key has a `description` with its unit, for the
 * documentation. Its `expected` completes the sentence "... is 7, expected" of an error message.
 */
import { type TOptional, type TSchema, Type } from '@sinclair/typebox';

export function choice<const Names extends readonly string[]>(
  names: Names,
  description: string,
  fallback: Names[number],
) {
  return Type.Unsafe<Names[number]>({
    type: 'string',
    enum: [...names],
    default: fallback,
    description,
    expected: names.length === 1 ? `${names[0]}, the only value` : `one of ${names.join(', ')}`,
  });
}

export function count(description: string, fallback: number, minimum: number, maximum: number) {
  return Type.Integer({
    minimum,
    maximum,
    default: fallback,
    description,
    expected: `a whole number from ${minimum} to ${maximum}`,
  });
}

export function duration(description: string, fallback: string) {
  return Type.String({
    format: 'duration',
    default: fallback,
    description,
    expected: 'a duration from 1ms to 24h with its unit (ms, s, m, h), such as 300ms, 10s or 15m',
  });
}

/** Describes an address in error messages. */
export const EXPECTED_ADDRESS = 'an IP address such as 10.99.0.3 or fd99::3';

export function address(description: string) {
  return Type.String({ format: 'ip-unicast', description, expected: EXPECTED_ADDRESS });
}

/** Describes a virtual address in error messages. */
export const EXPECTED_VIRTUAL = 'an IP address such as 10.99.0.100 or fd99::100';

export function virtualAddress(description: string) {
  return Type.String({ format: 'ip-unicast', description, expected: EXPECTED_VIRTUAL });
}

export function name(description: string) {
  return Type.String({
    pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$',
    description,
    expected: 'a name of 1 to 63 letters, digits, ".", "_" and "-"',
  });
}

export function filePath(description: string, fallback?: string) {
  return Type.String({
    minLength: 1,
    pattern: '^[^\\u0000]*$',
    description,
    expected: 'the path of a file',
    ...(fallback === undefined ? {} : { default: fallback }),
  });
}

export const interfaceName = (description: string) =>
  Type.String({
    pattern: '^(?!\\.{1,2}$)[^\\s/:\\u0000]{1,15}$',
    description,
    expected: 'the name of a network interface such as eth0',
  });

export function listener(description: string, expected: string) {
  return Type.String({ format: 'listener', description, expected });
}

export const closed = { additionalProperties: false } as const;

/**
 * A key that only some entries may have. So no default is filled in: an entry shows which keys it
 * has. The documentation shows the default, which stands in `fallback`.
 *
 * @param schema has the default
 */
export function whereItApplies<Schema extends TSchema>(schema: Schema): TOptional<Schema> {
  const { default: fallback, ...rest } = schema;
  return Type.Optional({ ...rest, fallback } as unknown as Schema) as TOptional<Schema>;
}
