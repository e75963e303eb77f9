import { readFileSync } from 'node:fs';
import t from 'tap';
import { GUARD_NAMES, SHIM_NAMES, XDP_NAMES } from '../../src/base/kernel-counters.js';

t.test('the names of the counters are those of the BPF programs, in their order', async (t) => {
  const header = readFileSync(new URL('../../../bpf/lib/counters.h', import.meta.url), 'utf8');
  const namesOf = (list: string): string[] => {
    const body = new RegExp(`#define ${list}\\(X\\)((?:.*\\\\\\n)*.*)\\n`).exec(header)?.[1] ?? '';
    return [...body.matchAll(/X\((\w+),/g)].map((match) => (match[1] ?? '').toLowerCase());
  };
  t.same(SHIM_NAMES, namesOf('SHIM_COUNTERS'));
  t.same(GUARD_NAMES, namesOf('GUARD_COUNTERS'));
  t.same(XDP_NAMES, namesOf('XDP_COUNTERS'));
});
