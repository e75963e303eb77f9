/** What several rules of a config need: lists of entries, values in use, names of nodes. */
import { quoted } from '../base/text.js';
import type { KeyPath, Source } from './source.js';
import { nearest } from './values.js';

/** An entry of a list in the file, and its path. */
export interface Entry {
  readonly entry: Record<string, unknown>;
  readonly at: KeyPath;
}

/** The entries of a list in the file, each with its path. Empty if the value is not a list. */
export function entries(value: unknown, path: KeyPath): Entry[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((entry: unknown, index) =>
    typeof entry === 'object' && entry !== null
      ? [{ entry: entry as Record<string, unknown>, at: [...path, index] }]
      : [],
  );
}

/** Remembers the first use of each value, and reports each other use. */
export class Uses {
  private readonly first = new Map<string, string>();
  constructor(private readonly source: Source) {}

  /** @param what describes this use in the message about the next one */
  claim(value: unknown, at: KeyPath, what: string): void {
    if (typeof value !== 'string') return;
    const holder = this.first.get(value);
    if (holder === undefined) this.first.set(value, what);
    else this.source.wrong(at, `is ${quoted(value)}, already ${holder}, expected another value`);
  }
}

/**
 * Checks a list of nodes.
 * @param known names of all nodes, @param used gets those of the list
 */
export function checkHolders(
  source: Source,
  holders: unknown,
  at: KeyPath,
  known: ReadonlySet<string>,
  used: Set<string>,
): void {
  if (!Array.isArray(holders)) return;
  const here = new Set<string>();
  for (const [index, holder] of holders.entries()) {
    if (typeof holder !== 'string') continue;
    if (here.has(holder)) {
      source.wrong([...at, index], `is ${quoted(holder)} again, expected each node only once`);
    } else if (!known.has(holder)) {
      const meant = nearest(holder, known);
      const expected =
        meant === undefined ? 'expected the name of a node' : `did you mean ${meant}?`;
      source.wrong([...at, index], `is ${quoted(holder)}, but no node has this name, ${expected}`);
    }
    here.add(holder);
    used.add(holder);
  }
}
