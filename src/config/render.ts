/**
 * Writes changed data as YAML on the basis of the file that it came from. Only the text of what
 * changed is replaced (splice.ts), so comments, order, quotes and alignment of everything else stay
 * byte for byte. Each result is parsed again: it is the data, whatever the file contains.
 */
import { isDeepStrictEqual } from 'node:util';
import { Document, isMap, parseDocument } from 'yaml';
import type { BalancerData } from './data.js';
import { splice } from './splice.js';

/** Lines are never folded. */
const STYLE = { lineWidth: 0 } as const;

/**
 * Returns YAML of the data. Comments of removed items go with them.
 * @param text the file as it is; if it is no usable YAML, the result is plain YAML
 */
export function renderConfig(text: string, given: BalancerData): string {
  // A key whose value is undefined is a key that is not there.
  const data = JSON.parse(JSON.stringify(given)) as BalancerData;
  for (const attempt of [splice, replaceValues]) {
    const result = quietly(() => attempt(text, data));
    if (result !== undefined && isYamlOf(result, data)) return result;
  }
  return new Document(data).toString(STYLE);
}

/**
 * For files in which one change has effects elsewhere, such as those with anchors: changed keys of
 * the top level get new values. Comments inside these values are lost, others stay.
 */
function replaceValues(text: string, data: BalancerData): string | undefined {
  const document = parseDocument(text, { logLevel: 'error' });
  if (document.errors.length > 0 || !isMap(document.contents)) return undefined;
  const before = document.toJS() as Record<string, unknown>;
  for (const key of Object.keys(before)) if (!(key in data)) document.delete(key);
  for (const [key, value] of Object.entries(data)) {
    if (!isDeepStrictEqual(before[key], value)) document.set(key, document.createNode(value));
  }
  return document.toString(STYLE);
}

function isYamlOf(text: string, data: BalancerData): boolean {
  const document = parseDocument(text, { logLevel: 'silent' });
  return (
    document.errors.length === 0 &&
    quietly(() => isDeepStrictEqual(document.toJS({ maxAliasCount: 100 }), data)) === true
  );
}

/** A file may have forms that an attempt cannot handle. Then the next one has its turn. */
function quietly<Result>(attempt: () => Result): Result | undefined {
  try {
    return attempt();
  } catch {
    return undefined;
  }
}
