import t from 'tap';
import { missingCapabilities } from '../../src/host/privilege.js';

const bits = (...numbers: number[]): bigint =>
  numbers.reduce((mask, bit) => mask | (1n << BigInt(bit)), 0n);

t.test('missing capabilities are named', async (t) => {
  t.same(missingCapabilities(0n), ['CAP_NET_ADMIN', 'CAP_NET_RAW', 'CAP_BPF', 'CAP_PERFMON']);
  t.same(missingCapabilities(bits(12, 13, 38, 39)), []);
  t.same(missingCapabilities(bits(12, 13, 21)), [], 'CAP_SYS_ADMIN includes the newer two');
  t.same(missingCapabilities(bits(21)), ['CAP_NET_ADMIN', 'CAP_NET_RAW']);
  t.same(missingCapabilities(bits(12, 13, 38)), ['CAP_BPF']);
});
