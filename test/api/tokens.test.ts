import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { newTokenLine, readTokens } from '../../src/api/tokens.js';
import { BatonError } from '../../src/base/errors.js';

const ALICE = 'a'.repeat(32);
const BOB = 'B-._~+/'.repeat(6);

/** Writes a file of tokens that only its owner can read. */
function fileOf(directory: string, text: string): string {
  const file = join(directory, 'tokens.txt');
  writeFileSync(file, text, { mode: 0o600 });
  chmodSync(file, 0o600);
  return file;
}

t.test('a file of tokens', async (t) => {
  const text = `# who may use the API\n\nalice read-only ${ALICE}\n  bob\tadmin  ${BOB}==  \r\n`;
  const tokens = readTokens(fileOf(t.testdir(), text));
  t.match(tokens.find(ALICE), { name: 'alice', role: 'read-only' });
  t.match(tokens.find(`${BOB}==`), { name: 'bob', role: 'admin' });
  for (const other of ['', 'a', ALICE.slice(1), `${ALICE}a`, ALICE.toUpperCase(), BOB, 'alice']) {
    t.equal(tokens.find(other), undefined, other);
  }
  t.notMatch(JSON.stringify(tokens), new RegExp(ALICE), 'only hashes stay');
});

t.test('whether a token is still there after a reload', async (t) => {
  const directory = t.testdir();
  const read = (text: string) => readTokens(fileOf(directory, text));
  const alice = read(`alice admin ${ALICE}`).find(ALICE);
  t.ok(alice);
  if (alice === undefined) return;
  t.equal(read(`bob admin ${BOB}\nalice admin ${ALICE}`).has(alice), true);
  t.equal(read(`alice read-only ${ALICE}`).has(alice), false, 'another role');
  t.equal(read(`alice admin ${ALICE}x`).has(alice), false, 'another token');
  t.equal(read(`bob admin ${ALICE}`).has(alice), false, 'another name');
});

t.test('a mistake is named by its line, and no message has a token', async (t) => {
  const cases: [string, string][] = [
    [`alice admin`, 'line 1: has 2 words, expected NAME ROLE TOKEN'],
    [`# x\nalice admin ${ALICE} x`, 'line 2: has 4 words, expected NAME ROLE TOKEN'],
    [`alice amdin ${ALICE}`, 'line 1: the role is "amdin", did you mean admin?'],
    [`alice root ${ALICE}`, 'line 1: the role is "root", expected read-only or admin'],
    [
      `local admin ${ALICE}`,
      'line 1: the name is "local", which Baton uses itself, expected another name',
    ],
    [
      `a\u001b admin ${ALICE}`,
      'line 1: the name is "a\\u001b", expected 1 to 63 letters, digits, ".", "_" and "-"',
    ],
    [
      `alice admin ${ALICE.slice(1)}`,
      'line 1: the token of alice is not valid, expected 32 to 256 of the characters A-Z a-z 0-9 . _ ~ + / - = (`baton token alice admin` prints a line with a new one)',
    ],
    [
      `alice admin ${ALICE}\nalice admin ${BOB}`,
      'line 2: the name alice occurs twice, expected another name',
    ],
    [
      `alice admin ${ALICE}\nbob admin ${ALICE}`,
      'line 2: has the same token as alice, expected another',
    ],
  ];
  const directory = t.testdir();
  for (const [text, message] of cases) {
    const file = fileOf(directory, text);
    try {
      readTokens(file);
      t.fail(message);
    } catch (error) {
      t.ok(error instanceof BatonError && error.code === 'BATON_TOKEN');
      const line = error instanceof BatonError ? error.toLine() : '';
      t.equal(line, `tokens file ${file}: ${message}`);
      t.notMatch(line, /a{31}|B-\._/);
    }
  }
});

t.test('the file itself', async (t) => {
  const directory = t.testdir();
  const refusal = (make: () => string): string => {
    try {
      readTokens(make());
      return '';
    } catch (error) {
      return error instanceof BatonError ? error.message : String(error);
    }
  };
  t.equal(
    refusal(() => join(directory, 'absent')),
    'cannot be read: there is no such file',
  );
  t.equal(
    refusal(() => fileOf(directory, '# nobody yet\n')),
    'has no token, expected 1 to 256',
  );
  t.equal(
    refusal(() => fileOf(directory, `#${' '.repeat(200_000)}`)),
    'is longer than 131072 bytes',
  );
  const many = Array.from({ length: 257 }, (_, n) => `n${n} admin ${ALICE}${n}`).join('\n');
  t.equal(
    refusal(() => fileOf(directory, many)),
    'has 257 tokens, expected 1 to 256',
  );
  t.equal(
    refusal(() => directory),
    'is not a regular file, expected a file with a line NAME ROLE TOKEN for each token',
  );
  t.equal(
    refusal(() => {
      const file = fileOf(directory, `alice admin ${ALICE}`);
      chmodSync(file, 0o640);
      return file;
    }),
    'mode 0640 gives access to other users, expected 0600',
  );
});

t.test('a new line is valid, and never the same', async (t) => {
  const lines = ['alice', 'bob'].map((name) => newTokenLine(name, 'admin'));
  const tokens = readTokens(fileOf(t.testdir(), lines.join('\n')));
  t.match(tokens.find(lines[1]?.split(' ')[2] ?? ''), { name: 'bob', role: 'admin' });
  t.throws(() => newTokenLine('balancer', 'admin'), { code: 'BATON_ARGUMENT' });
});
