import t from 'tap';
import { sequenceSecret } from '../../../src/balancer/machine/secret.js';
import { cookieBits, NO_COOKIE, SynCookies } from '../../../src/engine/syn-cookie.js';

const KEY = Uint8Array.from({ length: 16 }, (_, index) => index);
const OTHER = KEY.map((byte) => byte ^ 1);

t.test('every process of a boot has the same secret, and no other has it', async (t) => {
  const secret = sequenceSecret(KEY);
  t.equal(secret.length, 32);
  t.same(sequenceSecret(KEY), secret);
  t.same(sequenceSecret(KEY, 'a'), sequenceSecret(KEY, 'a'));
  t.notSame(sequenceSecret(OTHER), secret);
  t.notSame(sequenceSecret(KEY, 'a'), secret);
});

t.test('a cookie from before a reboot is not accepted at the same uptime after it', async (t) => {
  const before = new SynCookies(sequenceSecret(KEY, 'a').subarray(16));
  const after = new SynCookies(sequenceSecret(KEY, 'b').subarray(16));
  const bits = cookieBits(1460, 7, 0);
  let taken = 0;
  for (let port = 1; port <= 100; port++) {
    const isn = before.make(0x0a010001, 0x0a090064, (port << 16) | 80, 1_000, bits, 5_000_000);
    if (after.check(0x0a010001, 0x0a090064, (port << 16) | 80, 1_000, isn, 5_000_000) !== NO_COOKIE)
      taken += 1;
  }
  // One of 512 numbers passes for a cookie of its connection.
  t.ok(taken <= 5, `${taken} of 100`);
});
