/**
 * The C parsers of the BPF programs under AddressSanitizer: shim/*.c, compiled here. FUZZ_SHIM_SEED
 * selects another run; the seed is printed, so that a failure can be repeated.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

/** Source, description, rounds (of about 540, 70 and 210 inputs), the least number of inputs. */
const HARNESSES = [
  ['harness.c', 'parsers, hash and packets of the shim and the guard', 4000, 2_000_000],
  ['client.c', 'segments, options and cookies of the XDP program', 30_000, 2_000_000],
  ['answers.c', "the shim's reader of answers", 20_000, 2_000_000],
] as const;
const project = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

for (const [source, name, rounds, fewest] of HARNESSES) {
  t.test(name, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'baton-fuzz-'));
    t.teardown(() => rmSync(folder, { recursive: true }));
    const program = join(folder, 'harness');
    const flags = ['-std=gnu11', '-O2', '-g', '-Wall', '-Wextra', '-Werror'];
    execFileSync('gcc', [
      ...flags,
      '-fsanitize=address,undefined',
      '-fno-sanitize-recover=all',
      `-I${join(project, 'bpf', 'lib')}`,
      '-o',
      program,
      join(project, 'test', 'fuzz', 'shim', source),
    ]);
    const seed = process.env.FUZZ_SHIM_SEED ?? '1';
    t.comment(`seed ${seed}`);
    const run = spawnSync(program, [String(rounds), seed], {
      encoding: 'utf8',
      timeout: FILE_TIMEOUT_MS,
      // Freed buffers are poisoned at once in any case; a large quarantine only costs memory.
      env: { ...process.env, ASAN_OPTIONS: 'quarantine_size_mb=8' },
    });
    t.equal(run.status, 0, run.stdout + run.stderr);
    const inputs = Number(/^inputs (\d+)/m.exec(run.stdout)?.[1] ?? 0);
    t.ok(inputs >= fewest, `${inputs} inputs`);
    t.comment(run.stdout.trim());
  });
}
