import { readFileSync } from 'node:fs';
import t from 'tap';
import { GUARD_COUNTERS } from '../../src/control/machine/guard.js';
import { SHIM_COUNTERS } from '../../src/node/shim.js';

t.test('the names of the counters are those of the BPF programs, in their order', async (t) => {
  const header = readFileSync(new URL('../../../kernel-shim/counters.h', import.meta.url), 'utf8');
  const namesOf = (list: string): string[] => {
    const body = new RegExp(`#define ${list}\\(X\\)((?:.*\\\\\\n)*.*)\\n`).exec(header)?.[1] ?? '';
    return [...body.matchAll(/X\((\w+),/g)].map((match) => (match[1] ?? '').toLowerCase());
  };
  t.same(SHIM_COUNTERS, namesOf('SHIM_COUNTERS'));
  t.same(GUARD_COUNTERS, namesOf('GUARD_COUNTERS'));
});
