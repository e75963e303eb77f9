/** A config file is replaced completely or not at all. */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { getuid } from 'node:process';
import t from 'tap';
import { saveConfig } from '../../src/config/save.js';
import { directory } from './fixture.js';

t.test('mode and symbolic link stay, nothing else is left', async (t) => {
  const place = join(directory, 'save');
  mkdirSync(join(place, 'real'), { recursive: true });
  const real = join(place, 'real', 'b.yaml');
  const link = join(place, 'link.yaml');
  writeFileSync(real, 'old');
  chmodSync(real, 0o640);
  symlinkSync('real/b.yaml', link);
  await saveConfig(link, 'new\n');
  t.equal(readFileSync(real, 'utf8'), 'new\n');
  t.equal(statSync(real).mode & 0o7777, 0o640);
  t.ok(lstatSync(link).isSymbolicLink());
  t.equal(readlinkSync(link), 'real/b.yaml');
  t.same(readdirSync(join(place, 'real')), ['b.yaml']);
});

t.test('a file that was removed meanwhile is made again', async (t) => {
  const file = join(directory, 'again.yaml');
  await saveConfig(file, 'text\n');
  t.equal(readFileSync(file, 'utf8'), 'text\n');
  t.equal(statSync(file).mode & 0o7777, 0o644);
});

t.test('what cannot be saved is said, and the file is as it was', async (t) => {
  await t.rejects(saveConfig(join(directory, 'absent', 'b.yaml'), ''), {
    code: 'BATON_SYSTEM',
    message: 'cannot be saved: there is no such directory; the file is as it was',
    where: join(directory, 'absent', 'b.yaml'),
  });
  const place = join(directory, 'locked');
  mkdirSync(place);
  const file = join(place, 'b.yaml');
  writeFileSync(file, 'old');
  chmodSync(place, 0o555);
  // Root may write anywhere.
  if (getuid?.() !== 0) {
    await t.rejects(saveConfig(file, 'new'), { message: /permission denied/ });
    t.equal(readFileSync(file, 'utf8'), 'old');
  }
  chmodSync(place, 0o755);
  t.same(readdirSync(place), ['b.yaml']);
});
