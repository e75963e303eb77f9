/** Programs that must refuse to start: one clear line, exit code 1, and an unchanged machine. */
import type { Test } from 'tap';
import { batonCommand } from '../../lab/farm/baton.js';
import type { Host } from '../../lab/farm/host.js';
import { machineState } from '../../lab/probes/machine.js';

/**
 * Asserts that a baton command refuses with one matching line.
 * @param wrapper command line that runs it
 */
export async function refuses(
  t: Test,
  host: Host,
  argv: readonly string[],
  pattern: RegExp,
  wrapper: readonly string[] = [],
): Promise<void> {
  const before = await machineState(host);
  const [command, ...args] = [...wrapper, ...batonCommand(argv)];
  const result = await host.run(command ?? '', args, { allowFailure: true });
  t.equal(result.code, 1, 'exit code');
  // Log lines are allowed; the refusal itself is one line.
  const complaints = result.stderr.split('\n').filter((line) => line.startsWith('baton: '));
  t.equal(complaints.length, 1, `one line:\n${result.stderr}${result.stdout}`);
  t.match(complaints[0], pattern);
  t.notMatch(result.stderr, /\n\s+at /, 'no stack');
  t.same(await machineState(host), before, 'the machine is as it was');
}
