/** What every benchmark prints: a table for the terminal, and the same rows for docs/benchmarks.md. */
import { cpus, release } from 'node:os';
import { formatTable } from '../src/control/table.js';

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

export function whole(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** "4 CPUs (...), Linux 6.18, Node v20": where the figures are from. */
export function machine(): string {
  const [first, ...others] = cpus();
  return `${others.length + 1} CPUs (${first?.model.trim()}), Linux ${release()}, Node ${process.version}`;
}

/** Prints rows under their headings; the first column is text, the others are numbers unless `text` names them. */
export function report(
  title: string,
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  text: readonly string[] = [],
): void {
  const isText = (heading: string, index: number): boolean => index === 0 || text.includes(heading);
  const columns = headings.map((heading, index) => ({
    title: heading,
    align: isText(heading, index) ? ('left' as const) : ('right' as const),
  }));
  const rule = headings.map((heading, index) => (isText(heading, index) ? '---' : '---:'));
  const markdown = [headings, rule, ...rows].map((cells) => `| ${cells.join(' | ')} |`);
  process.stdout.write(
    `\n${title}\n${formatTable(columns, rows)}\n\nAs Markdown:\n\n${markdown.join('\n')}\n`,
  );
}
