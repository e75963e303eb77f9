/**
 * src/host/earlier-shim.ts against bpf/lib/config.h. test/e2e/failures.test.ts has the takeover.
 */
import t from 'tap';
import { LAYOUT_AT, SESSION_LAYOUT } from '../../src/host/earlier-shim.js';
import { check } from '../support/c-values.js';

t.test('the layout of sessions has the same number in both languages', async (t) => {
  check(t, 'config.h', [
    ['SESSION_LAYOUT', SESSION_LAYOUT],
    ['offsetof(struct shim_config, layout)', LAYOUT_AT],
  ]);
});
