/** Request heads of slow, unusual and hostile clients, over real sockets. */
import t, { type Test } from 'tap';
import type { Heard, Step } from '../../lab/clients/raw-client.js';
import { converse } from '../../lab/clients/raw-client.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';

const resources = [
  { path: '/one/', nodes: ['n1'] },
  { path: '/two/', nodes: ['n2'] },
];

function fill(farm: Farm): void {
  farm.webs[0]?.put('one/a.txt', 'from node 1\n');
  farm.webs[0]?.put('one/b.txt', 'second from node 1\n');
  farm.webs[1]?.put('two/a.txt', 'from node 2\n');
}

const GET = 'GET /two/a.txt HTTP/1.1\r\nHost: www.example.org\r\nConnection: close\r\n\r\n';

/**
 * Long enough for a client that pauses on a busy machine; half of the default.
 */
const HEAD_MS = 5000;
const DEFAULT_HEAD_MS = 10_000;

t.setTimeout(FILE_TIMEOUT_MS);

t.test('request heads of all kinds get the right answer', { skip: whyNoFarm() }, async (t) => {
  const balancer = { timeouts: { head: `${HEAD_MS}ms` }, limits: { headBytes: 4096 } };
  await withFarm(t, { resources, fill, nodes: 2, balancer }, async (farm) => {
    const talk = (steps: Step[]): Promise<Heard> =>
      converse(farm.client, { address: VIRTUAL_ADDRESS, port: 80, steps, timeoutMs: PATIENCE_MS });
    const isFromNode2 = (t: Test, heard: Heard): void => {
      t.match(heard.text, /^HTTP\/1\.1 200 OK\r\n/);
      t.match(heard.text, /from node 2\n$/);
      t.equal(heard.ending, 'end');
    };

    await t.test('a head may come one byte at a time', async (t) => {
      isFromNode2(t, await talk([{ send: GET, pieces: 1, pauseMs: 3 }, { untilClosed: true }]));
    });

    await t.test('a head may come in segments of any size from 2 to 20 bytes', async (t) => {
      const sizes = Array.from({ length: 19 }, (_, index) => index + 2);
      const all = await Promise.all(
        sizes.map((pieces) => talk([{ send: GET, pieces }, { untilClosed: true }])),
      );
      for (const heard of all) {
        isFromNode2(t, heard);
      }
    });

    await t.test('a head may pause for long in the middle', async (t) => {
      const steps = [
        { send: GET.slice(0, 30) },
        { waitMs: 1000 },
        { send: GET.slice(30) },
        { untilClosed: true as const },
      ];
      isFromNode2(t, await talk(steps));
    });

    await t.test('a request may follow an empty line (RFC 9112 section 2.2)', async (t) => {
      isFromNode2(t, await talk([{ send: `\r\n${GET}` }, { untilClosed: true }]));
    });

    await t.test('a request may follow eight empty lines', async (t) => {
      isFromNode2(
        t,
        await talk([{ send: `${'\r\n'.repeat(8)}${GET}`, pieces: 3 }, { untilClosed: true }]),
      );
    });

    await t.test('a client may send FIN right after its request', async (t) => {
      isFromNode2(t, await talk([{ send: GET }, { finish: true }, { untilClosed: true }]));
    });

    await t.test('pipelined requests are all answered', async (t) => {
      const one = 'GET /one/a.txt HTTP/1.1\r\nHost: x\r\n\r\n';
      const two = 'GET /one/b.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
      for (const pieces of [1000, 50, 7]) {
        const heard = await talk([{ send: one + one + two, pieces }, { untilClosed: true }]);
        t.equal(heard.text.split('HTTP/1.1 200 OK').length - 1, 3, `in pieces of ${pieces}`);
        t.match(heard.text, /from node 1\n[\s\S]*from node 1\n[\s\S]*second from node 1\n$/);
      }
    });

    await t.test('a persistent connection may pause between requests', async (t) => {
      const get = 'GET /one/a.txt HTTP/1.1\r\nHost: x\r\n\r\n';
      const heard = await talk([
        { send: get },
        { hear: 'from node 1\n' },
        { waitMs: 700 },
        { send: get, pieces: 5 },
        { hear: 'from node 1\n', times: 2 },
        { send: 'GET /one/b.txt HTTP/1.0\r\n\r\n' },
        { untilClosed: true },
      ]);
      t.match(heard.text, /second from node 1\n$/);
      t.equal(heard.ending, 'end');
    });

    const refusals: [string, string, number][] = [
      ['not HTTP', 'HELO there\r\n\r\n', 400],
      ['a TLS client hello', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400],
      ['no Host', 'GET /one/a.txt HTTP/1.1\r\n\r\n', 400],
      ['two Hosts', 'GET /one/a.txt HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n', 400],
      ['a space before the colon', 'GET /one/a.txt HTTP/1.1\r\nHost : a\r\n\r\n', 400],
      [
        'Content-Length and Transfer-Encoding together',
        'POST /one/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n',
        400,
      ],
      ['bare line feeds', 'GET /one/a.txt HTTP/1.1\nHost: a\n\n', 400],
      ['two spaces', 'GET  /one/a.txt HTTP/1.1\r\nHost: a\r\n\r\n', 400],
      ['HTTP/0.9', 'GET /one/a.txt\r\n', 400],
      ['a fragment', 'GET /one/a.txt#b HTTP/1.1\r\nHost: a\r\n\r\n', 400],
      ['nine empty lines', `${'\r\n'.repeat(9)}${GET}`, 400],
      ['content that no node holds', 'GET /three/a.txt HTTP/1.1\r\nHost: a\r\n\r\n', 404],
      [
        'dot segments that leave the directory',
        'GET /one/../three/a.txt HTTP/1.1\r\nHost: a\r\n\r\n',
        404,
      ],
      [
        'a head over the limit',
        `GET /one/a.txt HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(5000)}\r\n\r\n`,
        431,
      ],
    ];
    for (const [what, request, status] of refusals) {
      await t.test(`the answer to ${what} is ${status}`, async (t) => {
        for (const pieces of [10_000, 900]) {
          const heard = await talk([{ send: request, pieces }, { untilClosed: true }]);
          t.match(heard.text, new RegExp(`^HTTP/1\\.1 ${status} `));
          t.equal(heard.ending, 'end', 'the answer is whole, and no RST ends it');
        }
      });
    }

    await t.test('a head that is never complete ends after the timeout', async (t) => {
      const inTime = ({ elapsedMs }: Heard): boolean =>
        elapsedMs > HEAD_MS - 200 && elapsedMs < DEFAULT_HEAD_MS;
      const [begun, silent] = await Promise.all([
        talk([{ send: 'GET /one/a.txt HTTP/1.1\r\nHost:' }, { untilClosed: true }]),
        talk([{ untilClosed: true }]),
      ]);
      t.match(begun.text, /^HTTP\/1\.1 408 /);
      t.ok(inTime(begun), `after the time set: ${begun.elapsedMs} ms`);
      t.equal(
        silent.text,
        '',
        'the connection of a client that sends nothing is closed without an answer',
      );
      t.not(silent.ending, 'timeout');
      t.ok(inTime(silent), `after ${silent.elapsedMs} ms`);
    });

    await t.test(
      'a client that resets in the middle of its head leaves nothing behind',
      async (t) => {
        const resets = async (): Promise<number> =>
          (await farm.stats()).counters.closed_client_reset ?? 0;
        const before = await resets();
        await talk([{ send: 'GET /one/a' }, { reset: true }]);
        await farm.waitFor(async () => (await resets()) > before, 'the reset is counted');
        t.equal(await resets(), before + 1);
      },
    );

    await t.test('every answer is counted', async (t) => {
      const expected = {
        answer_400: 22,
        answer_404: 4,
        answer_408: 1,
        answer_431: 2,
        closed_silent_client: 1,
      };
      await farm.waitFor(
        async () => (await farm.stats()).counters.closed_silent_client === 1,
        'the silent client is counted',
      );
      t.match((await farm.stats()).counters, expected);
    });
  });
});
