/** Runs `ip` of iproute2, and `mount`, without a shell. */
import { execFile } from 'node:child_process';
import { BatonError } from '../base/errors.js';

/** The tools take milliseconds. One that takes this long hangs. */
const TIMEOUT_MS = 10_000;
const MOST_OUTPUT_BYTES = 16 * 1024 * 1024;

/** The directories of the tools on Debian and others. The user's PATH may lack the system ones. */
const PATH = ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/usr/local/sbin', '/usr/local/bin'].join(
  ':',
);

/**
 * Runs `command` and returns its standard output.
 * @throws BatonError BATON_SYSTEM with the first line of the tool's standard error
 */
export function runTool(command: 'ip' | 'mount', args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = {
      timeout: TIMEOUT_MS,
      maxBuffer: MOST_OUTPUT_BYTES,
      env: { PATH, LC_ALL: 'C' },
    };
    execFile(command, [...args], options, (error, stdout, stderr) => {
      if (error === null) {
        resolve(stdout);
        return;
      }
      const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
      const said = stderr.trim().split('\n', 1)[0] ?? '';
      const why = absent
        ? 'the program is not installed'
        : said === ''
          ? `it ended by ${error.signal ?? 'an error'} without a message`
          : said;
      reject(
        new BatonError('BATON_SYSTEM', `\`${command} ${args.join(' ')}\` failed: ${why}`, {
          cause: error,
          ...(absent
            ? { hint: `install the package ${command === 'mount' ? 'mount' : 'iproute2'}` }
            : {}),
        }),
      );
    });
  });
}

/** The list of maps that a tool prints with `-j`. Any other JSON counts as an empty list. */
export async function runToolJson(
  command: 'ip',
  args: readonly string[],
): Promise<Record<string, unknown>[]> {
  const text = (await runTool(command, ['-j', ...args])).trim();
  if (text === '') return [];
  let data: unknown;
  try {
    data = JSON.parse(text);
  } catch (error) {
    throw new BatonError('BATON_SYSTEM', `\`${command} -j ${args.join(' ')}\` printed no JSON`, {
      cause: error,
    });
  }
  return Array.isArray(data) ? data.filter(isMap) : [];
}

/** Whether parsed JSON is a map of keys. */
export function isMap(data: unknown): data is Record<string, unknown> {
  return typeof data === 'object' && data !== null && !Array.isArray(data);
}
