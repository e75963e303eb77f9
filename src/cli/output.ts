/** What commands print: results on standard output, everything else on standard error. */
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
