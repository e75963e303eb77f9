/** Tables for people. Spaces align the columns, so a pasted table stays readable. */
import { printable } from './text.js';

export interface Column {
  title: string;
  /** Its text may be cut when the table is too wide: people read it and do not copy it. */
  shortens?: true;
  /** Use 'right' for numbers. Default: left. */
  align?: 'left' | 'right';
}

const GAP = '  ';

const CUT = '...';
/** A column does not become narrower than this. */
const LEAST_WIDTH = 8;

/**
 * The table as lines, without a newline after the last. Cells become safe to print.
 *
 * @param most characters that fit on a line. If a line is longer, the widest columns with
 *   `shortens` are cut as far as possible. Default: nothing is cut.
 */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly (string | number)[])[],
  most = Number.POSITIVE_INFINITY,
): string {
  const cells = [
    columns.map(({ title }) => title),
    ...rows.map((row) => columns.map((_, index) => printable(String(row[index] ?? '')) || '-')),
  ];
  const widths = columns.map((_, index) =>
    Math.max(...cells.map((row) => width(row[index] ?? ''))),
  );
  shorten(columns, widths, most);
  return cells
    .map((row) =>
      row
        .map((whole, index) => {
          const cell = cut(whole, widths[index] ?? 0);
          const room = ' '.repeat((widths[index] ?? 0) - width(cell));
          return columns[index]?.align === 'right' ? room + cell : cell + room;
        })
        .join(GAP)
        .trimEnd(),
    )
    .join('\n');
}

/** Narrows the widest column with `shortens`, again and again, until a line fits into `most`. */
function shorten(columns: readonly Column[], widths: number[], most: number): void {
  const all = widths.reduce((sum, each) => sum + each, GAP.length * (columns.length - 1));
  for (let over = all - most; over > 0; over--) {
    let widest = -1;
    for (const [index, { shortens, title }] of columns.entries()) {
      const least = Math.max(LEAST_WIDTH, width(title));
      const candidate = shortens === true && (widths[index] ?? 0) > least;
      if (candidate && (widest < 0 || widths[index]! > widths[widest]!)) widest = index;
    }
    if (widest < 0) return;
    widths[widest]! -= 1;
  }
}

function cut(text: string, most: number): string {
  return width(text) <= most ? text : [...text].slice(0, most - CUT.length).join('') + CUT;
}

/** Length in characters, not in UTF-16 units. */
function width(text: string): number {
  return [...text].length;
}
