/** Lines are whole and printable, and say what a client has sent, whatever that is. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { formatLine, MOST_FORMATTED_BYTES } from '../../../src/balancer/access-log/format.js';
import { REASONS } from '../../../src/balancer/access-log/reasons.js';
import { NO_TEXT, readRequestText } from '../../../src/balancer/access-log/request-text.js';
import { CLOSE_REASONS } from '../../../src/engine/options.js';
import { LINE } from './fixture.js';

/** A common pattern for Apache's combined format. Apache too writes "-" for an unknown status. */
const COMBINED =
  /^(\S+) (\S+) (\S+) \[([\w:/]+\s[+-]\d{4})\] "((?:[^"\\]|\\.)*)" (\d{3}|-) (\d+|-) "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"$/;

const bytes = fc
  .uint8Array({ maxLength: 3_000 })
  .map((array) => Buffer.from(array).toString('latin1'));
/** Bytes that matter to parsers are frequent. */
const hostile = fc
  .array(fc.oneof(fc.constantFrom('"', '\\', '\n', '\r', '\t', ' ', ':', '\x00', '\xff'), bytes))
  .map((parts) => parts.join(''));
const head = fc.oneof(
  hostile,
  fc
    .tuple(hostile, hostile, hostile, hostile)
    .map(
      ([target, host, referer, agent]) =>
        `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nReferer: ${referer}\r\nUser-Agent: ${agent}\r\n\r\n`,
    ),
);

/** What Apache's escapes stand for. */
function unescaped(text: string): string {
  const names: Record<string, string> = { b: '\b', n: '\n', r: '\r', t: '\t', v: '\v' };
  return text.replace(/\\(x[0-9a-f]{2}|.)/g, (_, code: string) =>
    code.length === 3
      ? String.fromCharCode(Number.parseInt(code.slice(1), 16))
      : (names[code] ?? code),
  );
}

t.test('arbitrary heads: one printable line, from which the bytes can be read', async (t) => {
  fc.assert(
    fc.property(head, fc.boolean(), (sent, cut) => {
      const text = readRequestText(sent, cut);
      const line = { ...LINE, text };
      for (const format of ['json', 'combined'] as const) {
        const made = formatLine(line, format);
        if (!/^[ -~]+\n$/.test(made)) throw new Error(`not one printable line: ${made}`);
        if (made.length > MOST_FORMATTED_BYTES) throw new Error(`${made.length} bytes`);
      }
      const document = JSON.parse(formatLine(line, 'json')) as Record<string, unknown>;
      if ((document.request ?? '') !== text.line) throw new Error('another request');
      if ((document.host ?? undefined) !== text.host) throw new Error('another host');
      if ((document.user_agent ?? undefined) !== text.userAgent) throw new Error('another agent');
      if (document.client !== '10.99.0.200') throw new Error('a forged client');
      const fields = COMBINED.exec(formatLine(line, 'combined').trimEnd());
      if (fields === null) throw new Error(formatLine(line, 'combined'));
      const [, client, , , time, request = '', status, size, referer = '', agent = ''] = fields;
      if (client !== '10.99.0.200' || time !== '28/Nov/2026:08:09:03 +0000')
        throw new Error(client);
      if (status !== '-' || size !== '-') throw new Error('a forged status');
      if (unescaped(request) !== (text.line || '-')) throw new Error('another request');
      if (unescaped(referer) !== (text.referer ?? '-')) throw new Error('another referer');
      if (unescaped(agent) !== (text.userAgent ?? '-')) throw new Error('another agent');
    }),
    { numRuns: 2_000 },
  );
  t.pass();
});

t.test('a line of JSON has every key', async (t) => {
  t.same(JSON.parse(formatLine(LINE, 'json')), {
    time: '2026-11-28T08:09:03.045Z',
    client: '10.99.0.200',
    client_port: 40_000,
    virtual_server: 'www',
    request: 'GET /a HTTP/1.1',
    rewritten: null,
    method: 'GET',
    host: null,
    referer: null,
    user_agent: 'test',
    node: 'n1',
    tried: [],
    status: null,
    time_to_handoff: 0.012,
    duration: 2.5,
    packets: 3,
    bytes: 100,
    closed: 'fin',
    reasons: [],
    worker: 0,
  });
});

t.test("a line of Apache's format", async (t) => {
  t.equal(
    formatLine(LINE, 'combined'),
    '10.99.0.200 - - [28/Nov/2026:08:09:03 +0000] "GET /a HTTP/1.1" - - "-" "test"\n',
  );
  const text = { ...NO_TEXT, line: 'GET /"\\\t\x00\x7f\xe9', referer: '"' };
  t.equal(
    formatLine({ ...LINE, text, status: 400 }, 'combined'),
    '10.99.0.200 - - [28/Nov/2026:08:09:03 +0000] "GET /\\"\\\\\\t\\x00\\x7f\\xe9" 400 - "\\"" "-"\n',
  );
  t.match(formatLine({ ...LINE, text: NO_TEXT, status: 408 }, 'combined'), /"-" 408 - "-" "-"\n$/);
});

t.test('the longest line fits the buffer', async (t) => {
  const long = '\x00'.repeat(5_000);
  const sent = `${'A'.repeat(33)} ${long} HTTP/1.1\nhost:${long}\nreferer:${long}\nuser-agent:${long}\n\n`;
  const text = readRequestText(sent, true);
  t.ok(text.cut);
  const tried = Array.from({ length: 8 }, () => 'n'.repeat(63));
  for (const format of ['json', 'combined'] as const) {
    const { length } = formatLine({ ...LINE, text, tried }, format);
    t.ok(length > 10_000 && length < MOST_FORMATTED_BYTES, `${format}: ${length}`);
  }
});

t.test(
  "goaccess reads Apache's format",
  { skip: spawnSync('goaccess', ['--version']).error !== undefined && 'needs goaccess' },
  async (t) => {
    const directory = t.testdir();
    const log = path.join(directory, 'access.log');
    const texts = ['GET /a?b=" HTTP/1.1', 'GET /\\\xff HTTP/1.0', '\x16\x03', ''];
    const lines = texts.map((line, index) =>
      formatLine(
        {
          ...LINE,
          text: { ...NO_TEXT, line, userAgent: 'a "b"' },
          status: index < 2 ? undefined : 400,
        },
        'combined',
      ),
    );
    writeFileSync(log, lines.join(''));
    const report = path.join(directory, 'report.json');
    execFileSync(
      'goaccess',
      [log, '--log-format=COMBINED', '--no-strict-status', '--no-global-config', '-o', report],
      { stdio: 'ignore' },
    );
    const { general } = JSON.parse(readFileSync(report, 'utf8')) as {
      general: Record<string, unknown>;
    };
    t.match(general, { total_requests: 4, valid_requests: 4, failed_requests: 0 });
  },
);

t.test('docs/logging.md explains every code', async (t) => {
  const page = readFileSync(new URL('../../../../docs/logging.md', import.meta.url), 'utf8');
  for (const [reason, meaning] of Object.entries(REASONS))
    t.ok(page.includes(`| \`${reason}\` | ${meaning} |`), reason);
  // These ends come before the end of the handshake, so no line has them.
  const without = ['handshake-timeout', 'evicted'];
  for (const reason of CLOSE_REASONS)
    t.equal(page.includes(`| \`${reason}\` |`), !without.includes(reason), reason);
  for (const key of Object.keys(JSON.parse(formatLine(LINE, 'json')) as object))
    t.match(page, new RegExp(`\\| .*\`${key}\`.* \\|`), key);
});
