/** How the commands that change a running balancer make the change, and say what has changed. */
import type { Change } from '../../api/control.js';
import { printable } from '../../base/text.js';
import { type ClientOptions, client } from '../connect.js';
import { complain, print, printJson } from '../output.js';

/** Makes the change, and prints what it did. */
export async function makeChange(options: ClientOptions, change: Change): Promise<void> {
  const report = await client(options).change(change);
  for (const warning of report.warnings ?? []) complain(`warning: ${warning}`);
  if (options.json) {
    printJson(report);
    return;
  }
  for (const line of report.changed) print(printable(line));
  if (report.changed.length === 0) print('nothing had to change');
}
