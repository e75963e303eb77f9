/** The version of the running code. */
import { readFileSync } from 'node:fs';

/**
 * The version in package.json, beside the compiled tree. It is read once, when the process starts:
 * after an upgrade the file is that of the new code, and the process still runs the old code.
 */
export const VERSION = readVersion();

function readVersion(): string {
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return String((JSON.parse(text) as { version?: unknown }).version);
}
