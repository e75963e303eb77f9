import t from 'tap';
import { parseWrk } from '../../../lab/clients/wrk.js';

/**
 * A report of wrk 4.1.0 with these latencies, padded as wrk does: a space follows a one-letter
 * unit.
 */
function report(p50: string, p99: string, more = ''): string {
  return `Running 2s test @ http://10.99.0.4:80/1k.bin
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.33ms    2.09ms  35.21ms   91.62%
    Req/Sec    19.33k     1.60k   22.01k    75.00%
  Latency Distribution
     50%  ${p50}
     75%    1.20ms
     90%    3.33ms
     99%  ${p99}
  38512 requests in 2.01s, 47.82MB read
${more}Requests/sec:  19159.20
Transfer/sec:     23.79MB
`;
}

t.test('latencies are read in every unit that wrk prints', async (t) => {
  const cases: [string, number][] = [
    ['0.00us', 0],
    ['850.00us', 0.85],
    ['  0.86ms', 0.86],
    ['  9.72ms', 9.72],
    ['849.00ms', 849],
    ['  0.86s ', 860],
    ['  1.02s ', 1020],
    ['  1.02s', 1020],
    ['  1.50m ', 90_000],
  ];
  for (const [text, milliseconds] of cases) {
    const { p50, p99 } = parseWrk(report('777.00us', text));
    t.equal(p50, 0.777, 'the median comes from its own line');
    t.equal(p99.toFixed(6), milliseconds.toFixed(6), `p99 ${text}`);
    t.equal(
      parseWrk(report(text, '1.00ms')).p50.toFixed(6),
      milliseconds.toFixed(6),
      `p50 ${text}`,
    );
  }
});

t.test('a report without a distribution has no percentile', async (t) => {
  t.ok(Number.isNaN(parseWrk('  5 requests in 2.00s, 1.00KB read\n').p99));
});

t.test('requests and errors are counted', async (t) => {
  const errors =
    '  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n';
  const result = parseWrk(report('1.00ms', '2.00ms', errors));
  t.match(result, { requests: 38_512, seconds: 2.01, failed: 15 });
  t.same(result.errors, { connect: 1, read: 2, write: 3, timeout: 4, status: 5 });
  t.equal(parseWrk('  5 requests in 1.50m, 1.00KB read\n').seconds, 90);
  t.equal(parseWrk('  5 requests in 100.05ms, 1.00KB read\n').seconds.toFixed(5), '0.10005');
  t.throws(() => parseWrk('unable to connect to 10.99.0.4:80 Connection refused\n'), /wrk printed/);
});
