/**
 * The version that a process tells is that of the code it runs, also after the files were replaced.
 */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';

const PROJECT = fileURLToPath(new URL('../../../', import.meta.url));

/** A balancer without an engine; its version before and after package.json has changed. */
const PROGRAM = `
  import { writeFileSync } from 'node:fs';
  import { BalancerStats } from './dist/src/balancer/stats.js';
  const snapshot = { nodes: [], inState: [], perServer: [], ring: [] };
  const stats = new BalancerStats({
    config: { interface: 'eth0', virtualServers: [], nodes: [] },
    nodes: [],
    engine: { snapshot: async () => snapshot, counters: () => ({}), stages: () => [] },
    machine: { datapath: 'packet', counters: () => ({ guard: {}, shim: {} }), runTime: () => null },
    watch: { notOffered: () => [] },
  });
  const before = (await stats.stats()).version;
  writeFileSync('package.json', '{"version": "2.0.0", "type": "module"}');
  console.log(before, (await stats.stats()).version);
`;

t.test('the version is the one that was started', async (t) => {
  const place = t.testdir();
  mkdirSync(join(place, 'dist'));
  cpSync(join(PROJECT, 'dist/src'), join(place, 'dist/src'), { recursive: true });
  symlinkSync(join(PROJECT, 'node_modules'), join(place, 'node_modules'));
  writeFileSync(join(place, 'package.json'), '{"version": "1.0.0", "type": "module"}');
  writeFileSync(join(place, 'program.js'), PROGRAM);
  const { stdout } = await promisify(execFile)(process.execPath, ['program.js'], { cwd: place });
  t.equal(stdout, '1.0.0 1.0.0\n');
});
