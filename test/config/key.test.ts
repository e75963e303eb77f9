import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { BatonError } from '../../src/base/errors.js';
import { newKey, readKey, writeNewKey } from '../../src/config/key.js';

const directory = mkdtempSync(join(tmpdir(), 'baton-key-'));
t.teardown(() => rmSync(directory, { recursive: true }));

const KEY = '000102030405060708090a0b0c0d0e0f';
let files = 0;

function write(text: string, mode = 0o600): string {
  const file = join(directory, `key${files++}`);
  writeFileSync(file, text);
  chmodSync(file, mode);
  return file;
}

function refusal(file: string): string {
  try {
    readKey(file);
  } catch (error) {
    if (error instanceof BatonError && error.code === 'BATON_KEY') return error.toLine();
    throw error;
  }
  return 'accepted';
}

t.test('a key is 32 hex digits, in either case, with white space around them', async (t) => {
  const bytes = Uint8Array.from({ length: 16 }, (_, index) => index);
  t.same(readKey(write(KEY)), bytes);
  t.same(readKey(write(`  ${KEY.toUpperCase()}\r\n\n`)), bytes);
  t.same(readKey(write(KEY, 0o400)), bytes);
});

t.test('each kind of invalid key has its message, and no message contains the key', async (t) => {
  const cases: [string, number, string][] = [
    ['', 0o600, 'is empty, expected 32 hex digits'],
    [' \n', 0o600, 'is empty, expected 32 hex digits'],
    [KEY.slice(1), 0o600, 'contains 31 hex digits, expected 32'],
    [`${KEY}00`, 0o600, 'contains 34 hex digits, expected 32'],
    [KEY.repeat(200), 0o600, 'contains many more hex digits, expected 32'],
    [
      `${KEY.slice(1)}g`,
      0o600,
      'contains other characters than hex digits, expected 32 hex digits only',
    ],
    [
      `${KEY}\n${KEY}`,
      0o600,
      'contains other characters than hex digits, expected 32 hex digits only',
    ],
  ];
  for (const [text, mode, message] of cases) {
    const file = write(text, mode);
    t.equal(refusal(file), `key file ${file}: ${message}`);
    if (text.trim() !== '') t.notMatch(refusal(file), text.slice(0, 8));
  }
});

t.test('a key file that other users may read or write is refused', async (t) => {
  for (const [mode, shown] of [
    [0o644, '0644'],
    [0o640, '0640'],
    [0o602, '0602'],
    [0o610, '0610'],
  ] as const) {
    const file = write(KEY, mode);
    t.equal(
      refusal(file),
      `key file ${file}: mode ${shown} gives access to other users, expected 0600 (run \`chmod 600 ${file}\`)`,
    );
  }
});

t.test('an absent file, a directory and a pipe are refused', async (t) => {
  const absent = join(directory, 'absent');
  t.equal(
    refusal(absent),
    `key file ${absent}: cannot be read: there is no such file (\`baton key FILE\` makes a key; balancer and nodes need the same key)`,
  );
  const folder = join(directory, 'folder');
  mkdirSync(folder, { mode: 0o700 });
  t.equal(
    refusal(folder),
    `key file ${folder}: is not a regular file, expected a file with 32 hex digits`,
  );
  const pipe = join(directory, 'pipe');
  execFileSync('mkfifo', ['-m', '600', pipe]);
  t.equal(
    refusal(pipe),
    `key file ${pipe}: is not a regular file, expected a file with 32 hex digits`,
  );
});

t.test('a new key is valid and private, and each new key differs', async (t) => {
  const file = join(directory, 'new');
  writeNewKey(file);
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.equal(readKey(file).length, 16);
  t.match(readFileSync(file, 'latin1'), /^[0-9a-f]{32}\n$/);
  t.throws(() => writeNewKey(file), {
    code: 'BATON_KEY',
    message: 'exists, and is not overwritten',
  });
  t.throws(() => writeNewKey(join(directory, 'no', 'such')), { code: 'BATON_KEY' });
  t.not(newKey(), newKey());
});
