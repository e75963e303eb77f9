/** The version of the code that runs. */
import { readFileSync } from 'node:fs';

/**
 * From package.json, which lies beside the compiled tree. It is read once, when the process starts:
 * after an upgrade the file is that of the new code, and the process still runs the old.
 */
export const VERSION = readVersion();

function readVersion(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return String((JSON.parse(text) as { version?: unknown }).version);
}
