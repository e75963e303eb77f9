/** What commands print: results on standard output, everything else on standard error. */
import { Option } from 'commander';
import { printable } from '../base/text.js';

/** A line for people, on standard error. */
export function complain(line: string): void {
  process.stderr.write(`baton: ${printable(line)}\n`);
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function printJson(document: unknown): void {
  print(JSON.stringify(document, null, 2));
}

/** The option of commands that print tables. */
export function wide(): Option {
  return new Option('--wide', 'do not cut tables to the width of the terminal').default(false);
}

/** Characters that fit on a line. Undefined: no limit, as without a terminal. */
export function lineWidth(isWide: boolean): number | undefined {
  // Some terminals report 0 columns.
  return isWide ? undefined : process.stdout.columns || undefined;
}
