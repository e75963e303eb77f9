/** TLS by name: stock nginx with certificates on the nodes, and clients that others made. */
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { type CurlAnswer, curl, curlAll, sha256 } from '../../lab/clients/curl.js';
import { sClient } from '../../lab/clients/openssl.js';
import { converse } from '../../lab/clients/raw-client.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { findCommand, whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { AccessLogReader } from '../../lab/probes/access-log.js';
import type { StatsDocument } from '../../src/api/documents.js';
import { Alert } from '../../src/request/tls/alert.js';
import { MOST_HELLO_BYTES } from '../../src/request/tls/records.js';
import { padded, realHellos } from '../request/tls/hellos.js';

const A = 'a.example.org';
const B = 'b.example.org';
const LARGE = randomBytes(10_000_000);

/** n1 has the certificate of the first name, n2 that of all others. */
const web = [{ tls: [A] }, { tls: [B, '*.wild.example.org', 'h2.example.org'] }];
const resources = [
  { host: A, path: '/', nodes: ['n1'] },
  { host: B, path: '/', nodes: ['n2'] },
  { host: 'www.example.org', path: '/', nodes: ['n2'] },
  { host: '*.wild.example.org', path: '/', nodes: ['n2'] },
  { host: A, path: '/', alpn: ['acme-tls/1'], nodes: ['n2'] },
  { host: 'h2.example.org', path: '/', alpn: ['h2'], nodes: ['n2'] },
  { host: 'clear.example.org', path: '/below/', nodes: ['n1'] },
];
const virtualServers = [
  { name: 'www', address: VIRTUAL_ADDRESS, port: 80 },
  { name: 'tls', address: VIRTUAL_ADDRESS, port: 443, protocol: 'tls' },
];

function fill(farm: Farm): void {
  for (const web of farm.webs) {
    web.put('a.txt', `from ${web.host.name}\n`);
    web.put('large.bin', LARGE);
  }
}

t.setTimeout(FILE_TIMEOUT_MS);

const why = whyNoFarm() || (!findCommand('openssl') && 'needs openssl');

t.test('TLS connections go to the node of their name', { skip: why }, async (t) => {
  const balancer = {
    virtualServers,
    accessLog: { file: 'access.json' },
    limits: { headBytes: 1_024 },
  };
  await withFarm(t, { resources, fill, nodes: 2, balancer, web }, async (farm) => {
    const { client } = farm;
    const [n1 = '', n2 = ''] = farm.webs.map(({ certificate }) => certificate);
    const log = new AccessLogReader(farm, 'access.json');
    const resolved = (name: string): string[] => ['--resolve', `${name}:443:${VIRTUAL_ADDRESS}`];
    const get = (name: string, certificate: string, ...args: string[]): Promise<CurlAnswer> =>
      curl(client, `https://${name}/a.txt`, [...resolved(name), '--cacert', certificate, ...args]);
    const counters = async (): Promise<StatsDocument['counters']> => (await farm.stats()).counters;

    await t.test('curl verifies the certificate of the right node', async (t) => {
      for (const version of [['--tls-max', '1.2'], ['--tlsv1.3']]) {
        for (const http of ['--http1.1', '--http2']) {
          const both = [...version, http];
          const a = await get(A, n1, ...both);
          t.match(a, { exit: 0, status: 200 }, `${both.join(' ')} ${a.error}`);
          t.equal(a.body.toString(), 'from n1\n');
          t.match(a.headers, http === '--http2' ? /^HTTP\/2 200/ : /^HTTP\/1\.1 200/);
          const b = await get(B, n2, ...both);
          t.equal(b.body.toString(), 'from n2\n', both.join(' '));
        }
      }
      const wild = await get('any.wild.example.org', n2);
      t.equal(wild.body.toString(), 'from n2\n');
      t.equal((await get('B.Example.Org', n2)).body.toString(), 'from n2\n');
      t.match(await get(A, n2), { exit: 60 }, 'the certificate is not the other one');
    });

    await t.test('many requests over one connection, also with HTTP/2', async (t) => {
      const urls = Array.from({ length: 20 }, () => `https://${A}/a.txt`);
      for (const http of ['--http1.1', '--http2']) {
        const args = [...resolved(A), '--cacert', n1, http];
        const answers = await curlAll(client, urls, args);
        t.equal(answers.filter(({ body }) => body.toString() === 'from n1\n').length, urls.length);
        t.equal(new Set(answers.map(({ localPort }) => localPort)).size, 1);
      }
    });

    await t.test('10 MB arrive as they are', async (t) => {
      for (const http of ['--http1.1', '--http2']) {
        const url = `https://${B}/large.bin`;
        const answer = await curl(client, url, [...resolved(B), '--cacert', n2, http]);
        t.equal(sha256(answer.body), sha256(LARGE), http);
      }
    });

    await t.test('openssl sees the names, versions and protocols', async (t) => {
      const input = 'GET /a.txt HTTP/1.0\r\n\r\n';
      const one = await sClient(client, VIRTUAL_ADDRESS, ['-servername', A], input);
      t.match(one, { server: 'n1', version: 'TLSv1.3', alert: undefined });
      t.match(one.output, /from n1/);
      const args = ['-servername', B, '-tls1_2', '-alpn', 'http/1.1'];
      const two = await sClient(client, VIRTUAL_ADDRESS, args, input);
      t.match(two, { server: 'n2', version: 'TLSv1.2', protocol: 'http/1.1' });
      const acme = ['-servername', A, '-alpn', 'acme-tls/1,http/1.1'];
      t.equal((await sClient(client, VIRTUAL_ADDRESS, acme)).server, 'n2', 'by protocol');
    });

    await t.test('what has no resource gets the alert that says why', async (t) => {
      const before = await counters();
      const cases: [string[], number, string][] = [
        [['-servername', 'other.example.org'], Alert.unrecognizedName, 'tlsv1 unrecognized name'],
        [['-servername', 'clear.example.org'], Alert.unrecognizedName, 'tlsv1 unrecognized name'],
        [['-noservername'], Alert.missingExtension, 'tlsv13 alert missing extension'],
        [['-noservername', '-tls1_2'], Alert.handshakeFailure, 'sslv3 alert handshake failure'],
        [
          ['-servername', 'h2.example.org', '-alpn', 'http/1.1'],
          Alert.noApplicationProtocol,
          'tlsv1 alert no application protocol',
        ],
      ];
      for (const [args, alert, text] of cases) {
        const answer = await sClient(client, VIRTUAL_ADDRESS, args);
        t.match(answer, { alert, text, server: undefined }, args.join(' '));
      }
      const wrong = await curl(client, 'https://x.example.org/', resolved('x.example.org'));
      t.equal(wrong.exit, 35);
      t.match(wrong.error, /tlsv1 unrecognized name/);
      const line = await log.ofPort(wrong.localPort);
      t.match(line, {
        virtual_server: 'tls',
        request: 'TLS x.example.org h2,http/1.1',
        host: 'x.example.org',
        node: null,
        reasons: ['tls-unrecognized-name'],
        closed: 'fin',
      });
      const after = await counters();
      t.equal((after.alert_unrecognized_name ?? 0) - (before.alert_unrecognized_name ?? 0), 3);
      t.equal((after.alert_no_name ?? 0) - (before.alert_no_name ?? 0), 2);
      t.equal((after.alert_no_protocol ?? 0) - (before.alert_no_protocol ?? 0), 1);
    });

    await t.test('what is no TLS gets an alert, then FIN', async (t) => {
      const cases: [string, string, number][] = [
        ['HTTP in clear', 'GET / HTTP/1.1\r\nHost: a\r\n\r\n', Alert.unexpectedMessage],
        ['SSL 2.0', '\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10', Alert.protocolVersion],
        ['a wrong length', '\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00', Alert.decodeError],
      ];
      for (const [name, send, alert] of cases) {
        const heard = await talk([{ send }, { untilClosed: true }]);
        t.equal(heard.text, `\x15\x03\x03\x00\x02\x02${String.fromCharCode(alert)}`, name);
        t.equal(heard.ending, 'end', name);
      }
      const half = await talk([
        { send: '\x16\x03\x01\x02\x00\x01' },
        { finish: true },
        { untilClosed: true },
      ]);
      t.equal(half.text.charCodeAt(6), Alert.decodeError, 'a client that closes too early');
    });

    await t.test('a ClientHello may come in any pieces', async (t) => {
      const chromium = realHellos().get('chromium')!.toString('latin1');
      for (const pieces of [1, 7, 500, 5_000]) {
        const steps = [
          { send: chromium, pieces },
          { hear: '\x16\x03\x03' },
          { reset: true } as const,
        ];
        const heard = await talk(steps);
        t.equal(heard.text.slice(0, 3), '\x16\x03\x03', `a ServerHello after pieces of ${pieces}`);
      }
    });

    await t.test('a ClientHello may have 16 KiB, however small a head must be', async (t) => {
      const chromium = realHellos().get('chromium')!;
      const steps = (size: number, hear: string) => [
        { send: padded(chromium, size).toString('latin1'), pieces: 1_400 },
        { hear },
        { reset: true } as const,
      ];
      const heard = await talk(steps(MOST_HELLO_BYTES, '\x16\x03\x03'));
      t.equal(heard.text.slice(0, 3), '\x16\x03\x03', 'a ServerHello');
      const alert = `\x15\x03\x03\x00\x02\x02${String.fromCharCode(Alert.illegalParameter)}`;
      t.equal((await talk(steps(MOST_HELLO_BYTES + 1, alert))).text, alert, 'one byte more');
    });

    await t.test('tables and logs show the name', async (t) => {
      const answer = await get(A, n1, '--http1.1');
      const line = await log.ofPort(answer.localPort);
      t.match(line, {
        virtual_server: 'tls',
        request: `TLS ${A} http/1.1`,
        host: A,
        method: 'TLS',
        node: 'n1',
        status: null,
        reasons: [],
      });
      const held = farm.client.start('s_client', [
        'openssl',
        's_client',
        '-quiet',
        '-connect',
        `${VIRTUAL_ADDRESS}:443`,
        '-servername',
        B,
      ]);
      const { stdout } = await shown(t, farm, B);
      t.match(stdout, new RegExp(`tls +(handing|passing) +n2 .*TLS ${B.replaceAll('.', '\\.')}`));
      await held.kill();
      const { stdout: said } = await farm.baton([
        'explain',
        `https://${B}/`,
        '-c',
        farm.balancerConfig,
      ]);
      t.match(said, /=> +n2 +up/);
      const other = ['explain', 'https://x.org/', '-c', farm.balancerConfig];
      t.match((await farm.baton(other)).stdout, /unrecognized_name/);
    });

    function talk(steps: Parameters<typeof converse>[1]['steps']): ReturnType<typeof converse> {
      return converse(client, {
        address: VIRTUAL_ADDRESS,
        port: 443,
        steps,
        timeoutMs: PATIENCE_MS,
      });
    }
  });
});

/** What `baton sessions` prints once it shows a session with this text. */
async function shown(t: Test, farm: Farm, text: string): Promise<{ stdout: string }> {
  let result = { stdout: '' };
  await farm.waitFor(async () => {
    result = await farm.baton(['sessions', '-c', farm.balancerConfig]);
    return result.stdout.includes(text);
  }, `a session with ${text}`);
  t.ok(result.stdout.includes(text));
  return result;
}
