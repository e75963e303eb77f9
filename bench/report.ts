/** Output of the benchmarks: tables for the terminal, and Markdown for docs/benchmarks.md. */
import { cpus, release } from 'node:os';
import { wrapWords } from '../src/base/format.js';
import { formatTable } from '../src/base/table.js';

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export function whole(value: number): string {
  // The sum turns -0, from a small negative number, into 0.
  return (Math.round(value) + 0).toLocaleString('en-US');
}

/** The machine of the figures: "4 CPUs (...), Linux 6.18, Node v24". */
export function machine(): string {
  const [first, ...others] = cpus();
  return `${others.length + 1} CPUs (${first?.model.trim()}), Linux ${release()}, Node ${process.version}`;
}

/**
 * Returns a Markdown table. The first column is text; the others are numbers unless `text` names
 * their headings.
 */
export function markdownTable(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  text: readonly string[] = [],
): string {
  const rule = headings.map((heading, index) => (isText(heading, index, text) ? '---' : '---:'));
  return [headings, rule, ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** Width of the lines of a document. */
const WIDTH = 100;
const FENCE = '```';
/** The beginning of headings and table rows: they stay on their line. */
const FIXED = /^(#|\|)/;
const ITEM = '- ';

/** Wraps the paragraphs and list items of Markdown. Headings, tables and code stay as they are. */
export function wrapMarkdown(text: string): string {
  return text
    .split(/^(```[\s\S]*?^```)$/m)
    .map((part) => (part.startsWith(FENCE) ? part : part.split('\n\n').map(wrapBlock).join('\n\n')))
    .join('');
}

function wrapBlock(block: string): string {
  if (FIXED.test(block.trimStart())) return block;
  const [paragraph = '', ...items] = `\n${block}`.split(`\n${ITEM}`);
  return [
    ...(paragraph.trim() === '' ? [] : wrapWords(paragraph, WIDTH)),
    ...items.map((item) => ITEM + wrapWords(item, WIDTH - ITEM.length).join('\n  ')),
  ].join('\n');
}

function isText(heading: string, index: number, text: readonly string[]): boolean {
  return index === 0 || text.includes(heading);
}

/** Prints a table for the terminal, and by default the same table as Markdown after it. */
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
