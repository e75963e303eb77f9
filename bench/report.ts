/**
 * What every benchmark prints: a table for the terminal, and the same rows for docs/benchmarks.md.
 */
import { cpus, release } from 'node:os';
import { formatTable } from '../src/base/table.js';

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export function whole(value: number): string {
  // Without the sum a small negative number would be "-0".
  return (Math.round(value) + 0).toLocaleString('en-US');
}

/** "4 CPUs (...), Linux 6.18, Node v20": where the figures are from. */
export function machine(): string {
  const [first, ...others] = cpus();
  return `${others.length + 1} CPUs (${first?.model.trim()}), Linux ${release()}, Node ${process.version}`;
}

/**
 * Rows under their headings as a table of Markdown; the first column is text, the others are
 * numbers unless `text` names them.
 */
export function markdownTable(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  text: readonly string[] = [],
): string {
  const rule = headings.map((heading, index) => (isText(heading, index, text) ? '---' : '---:'));
  return [headings, rule, ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function isText(heading: string, index: number, text: readonly string[]): boolean {
  return index === 0 || text.includes(heading);
}

/**
 * Prints such a table for the terminal, and after it, unless that is not wanted, the same as
 * Markdown.
 */
export function report(
  title: string,
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  text: readonly string[] = [],
  { markdown } = { markdown: true },
): void {
  const columns = headings.map((heading, index) => ({
    title: heading,
    align: isText(heading, index, text) ? ('left' as const) : ('right' as const),
  }));
  const also = markdown ? `\nAs Markdown:\n\n${markdownTable(headings, rows, text)}\n` : '';
  process.stdout.write(`\n${title}\n${formatTable(columns, rows)}\n${also}`);
}
