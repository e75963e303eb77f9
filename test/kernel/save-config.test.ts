/** Saving a config where the kernel refuses it: on a full and on a read-only file system. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

t.setTimeout(FILE_TIMEOUT_MS);

const SAVE = new URL('../../src/config/save.js', import.meta.url).href;
/** Saves argument 2 bytes to the file in argument 1, and prints what happened. */
const PROGRAM = `
const [file, bytes] = process.argv.slice(1);
import('${SAVE}').then(({ saveConfig }) => saveConfig(file, 'x'.repeat(+bytes))).then(
  () => console.log('saved'),
  (error) => console.log(error.code + ': ' + error.message),
);
`;
/** The file system exists only for these commands: the namespace ends with them. */
const COMMANDS = `
mount -t tmpfs -o size=64k none "$1"
cd "$1"
save() { "$node" -e "$program" "$1/balancer.yaml" "$2"; }
printf old > balancer.yaml
chown 12:34 balancer.yaml
chmod 640 balancer.yaml
save . 1000000
cat balancer.yaml; echo; ls -A
save . 8
cat balancer.yaml; echo; stat -c '%u:%g %a' balancer.yaml; ls -A
mount -o remount,ro "$1"
save . 5
cat balancer.yaml; echo; ls -A
`;

t.test(
  'the old file stays, and its owner and mode',
  { skip: process.getuid?.() === 0 ? false : 'mounting needs root' },
  async (t) => {
    const place = mkdtempSync(join(tmpdir(), 'baton-save-'));
    t.teardown(() => rmSync(place, { recursive: true }));
    const { stdout, stderr, status } = spawnSync(
      'unshare',
      ['--mount', 'sh', '-ec', COMMANDS, '-', place],
      { encoding: 'utf8', env: { ...process.env, node: process.execPath, program: PROGRAM } },
    );
    t.equal(stderr, '');
    t.equal(status, 0);
    t.same(stdout.trimEnd().split('\n'), [
      'BATON_SYSTEM: cannot be saved: there is no room left on the disk; the file is as it was',
      'old',
      'balancer.yaml',
      'saved',
      'xxxxxxxx',
      '12:34 640',
      'balancer.yaml',
      'BATON_SYSTEM: cannot be saved: the file system is read-only; the file is as it was',
      'xxxxxxxx',
      'balancer.yaml',
    ]);
  },
);
