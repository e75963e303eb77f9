/**
 * Measures reading a request head, looking up its holders, and the whole way from bytes to node.
 * Run after a build: node dist/bench/micro/http.bench.js
 */

import { bench, do_not_optimize, group, run } from 'mitata';
import { Directory } from '../../src/directory/directory.js';
import { directoryImage } from '../../src/directory/directory-image.js';
import { ownStates } from '../../src/directory/node-states.js';
import { RequestDispatcher } from '../../src/directory/request-dispatcher.js';
import { inSlots } from '../../src/engine/farm.js';
import { HandoffCandidates } from '../../src/engine/handoff/candidates.js';
import { NodeTable } from '../../src/engine/node-table.js';
import { Follow, RequestFollower } from '../../src/request/http/framing.js';
import { HeadReader } from '../../src/request/http/head.js';

const HEAD_BYTES = 16_384;
const RESOURCES = 100_000;

const short = Buffer.from(
  'GET /images/logo.png HTTP/1.1\r\nHost: 10.99.0.100\r\nUser-Agent: wrk/4.2\r\nAccept: */*\r\nX-N: 0001\r\n\r\n',
);
const browser = Buffer.from(
  [
    'GET /shop/articles/section34/page1234.html?from=start&sort=price HTTP/1.1',
    'Host: www.example.org',
    'User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0',
    'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8',
    'Accept-Language: en-GB,en;q=0.5',
    'Accept-Encoding: gzip, deflate, br, zstd',
    'Connection: keep-alive',
    'Cookie: session=5d41402abc4b2a76b9719d911017c592; seen=1',
    'Upgrade-Insecure-Requests: 1',
    'Priority: u=0, i',
    '\r\n',
  ].join('\r\n'),
);

const farm = Array.from({ length: 8 }, (_, i) => ({ address: 0x0a630003 + i, weight: 1 }));
const nodes = new NodeTable(inSlots(farm), ownStates(farm));
nodes.resolved.fill(1);
const candidates = new HandoffCandidates(nodes);

const few = new Directory(
  directoryImage([
    { path: '/images/', nodes: [0, 1] },
    { path: '/', nodes: [2] },
  ]),
);
const many = new Directory(
  directoryImage(
    Array.from({ length: RESOURCES }, (_, i) => ({
      ...(i % 4 === 0 ? { host: 'www.example.org' } : {}),
      path: i % 2 === 0 ? `/shop/articles/section${i % 100}/page${i}.html` : `/static/${i}/`,
      nodes: [i % 8, (i + 1) % 8],
    })),
  ),
);

/** Checks that a timed function does its work; otherwise its figure means nothing. */
function check(value: boolean, what: string): void {
  if (!value) throw new Error(`the benchmark is broken: ${what}`);
}

const head = new HeadReader(HEAD_BYTES);
group('read a head', () => {
  bench(`short, ${short.length} bytes`, () =>
    do_not_optimize(head.read(short, 0, short.length, 0)),
  );
  bench(`browser, ${browser.length} bytes`, () =>
    do_not_optimize(head.read(browser, 0, browser.length, 0)),
  );
  bench('short, in two pieces', () => {
    head.read(short, 0, 40, 0);
    do_not_optimize(head.read(short, 0, short.length, head.resume));
  });
  bench('short, byte by byte', () => {
    let resume = 0;
    for (let end = 1; end <= short.length; end++) {
      head.read(short, 0, end, resume);
      resume = head.resume;
    }
    do_not_optimize(resume);
  });
});
check(head.read(short, 0, short.length, 0) === 1, 'short head');
check(head.read(browser, 0, browser.length, 0) === 1, 'browser head');

const chunkHead = Buffer.from('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n');
const MEGABYTE = 1 << 20;
/** A megabyte in chunks of this size. */
const chunksOf = (size: number) =>
  Buffer.from(
    `${`${size.toString(16)}\r\n${'x'.repeat(size)}\r\n`.repeat(MEGABYTE / size)}0\r\n\r\n`,
  );
const follower = new RequestFollower();
const followBody = (body: Uint8Array): number => {
  follower.begin(head, chunkHead, 0);
  return follower.advance(body, 0, body.length);
};
group('follow the requests of a connection', () => {
  bench("how the body of a browser's request ends", () => {
    head.read(browser, 0, browser.length, 0);
    do_not_optimize(follower.begin(head, browser, 0));
  });
  for (const size of [16, 1024, 16_384]) {
    const body = chunksOf(size);
    head.read(chunkHead, 0, chunkHead.length, 0);
    bench(`1 MB in chunks of ${size} bytes`, () => {
      head.read(chunkHead, 0, chunkHead.length, 0);
      do_not_optimize(followBody(body));
    });
    check(followBody(body) === Follow.ended, `chunks of ${size} bytes`);
  }
});

/** Look-ups use many resources in turn, so that the table does not stay in the cache. */
const paths = Array.from({ length: 4096 }, (_, i) => {
  const n = (i * 7919 * 4) % RESOURCES;
  return Buffer.from(`/shop/articles/section${n % 100}/page${n}.html`);
});
const prefixes = Array.from({ length: 4096 }, (_, i) =>
  Buffer.from(`/static/${(i * 7919 * 2 + 1) % RESOURCES}/a.css`),
);
const host = Buffer.from('www.example.org');
group(`look up among ${RESOURCES} resources`, () => {
  let i = 0;
  bench('host and exact path', () => {
    const path = paths[i++ & 4095]!;
    do_not_optimize(many.find(host, host.length, path, path.length));
  });
  bench('host without match, then prefix', () => {
    const path = prefixes[i++ & 4095]!;
    do_not_optimize(many.find(host, host.length, path, path.length));
  });
});
check(
  paths.every((path) => many.find(host, host.length, path, path.length) >= 0),
  'exact paths',
);
check(
  prefixes.every((path) => many.find(host, host.length, path, path.length) >= 0),
  'prefixes',
);

group('inspect and pick', () => {
  for (const predictor of ['round-robin', 'least-connections'] as const) {
    const small = new RequestDispatcher({
      directory: few,
      predictors: [predictor],
      candidates,
      headBytes: HEAD_BYTES,
    });
    const large = new RequestDispatcher({
      directory: many,
      predictors: [predictor],
      candidates,
      headBytes: HEAD_BYTES,
    });
    const whole = (dispatcher: RequestDispatcher, bytes: Uint8Array) => {
      dispatcher.inspect(bytes, 0, bytes.length, 0, 0);
      return dispatcher.pick(dispatcher.resource, 0, 0, 0, 0);
    };
    bench(`short, 2 resources, ${predictor}`, () => do_not_optimize(whole(small, short)));
    bench(`browser, 100,000 resources, ${predictor}`, () => do_not_optimize(whole(large, browser)));
    check(whole(small, short) >= 0, 'pick from few');
    check(whole(large, browser) >= 0, 'pick from many');
  }
});

await run();
