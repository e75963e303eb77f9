/** The token bucket, on machines of any uptime. */
import t from 'tap';
import { TokenBucket } from '../../src/base/token-bucket.js';
import { UPTIMES } from '../support/uptime.js';

t.test('the token bucket limits rate and burst', async (t) => {
  const bucket = new TokenBucket(10, 2);
  t.same(
    [0, 0, 0].map((now) => bucket.take(now)),
    [true, true, false],
  );
  t.equal(bucket.take(99), false);
  t.equal(bucket.take(100), true);
  t.equal(bucket.take(100), false);
  t.same(
    [5000, 5000, 5000].map((now) => bucket.take(now)),
    [true, true, false],
    'the burst is a limit',
  );
});

t.test('the token bucket works at any uptime', async (t) => {
  for (const [uptime, start] of Object.entries(UPTIMES)) {
    const bucket = new TokenBucket(10, 2);
    const takes = [0, 0, 0, 99, 100, 100, 20_000, 20_000, 20_000].map((ms) =>
      bucket.take(start + ms),
    );
    t.same(takes, [true, true, false, false, true, false, true, true, false], uptime);
  }
});
