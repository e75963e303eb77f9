/** A process reports the version of the code that it runs, even after the files were replaced. */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';

const PROJECT = fileURLToPath(new URL('../../../', import.meta.url));

/** The stats of a balancer without an engine. Prints its version before and after an upgrade. */
const PROGRAM = `
  import { writeFileSync } from 'node:fs';
  import { BalancerStats } from './dist/src/balancer/stats.js';
  const snapshot = { nodes: [], inState: [], perServer: [], ring: [] };
  const stats = new BalancerStats({
    config: { interface: 'eth0', limits: {} },
    slots: () => ({ nodes: [], servers: [] }),
    engine: { snapshot: async () => snapshot, counters: () => ({}), stages: () => [] },
    machine: { datapath: 'packet', counters: () => ({ guard: {} }), runTime: () => null },
    watch: { notOffered: () => [] },
    forwarder: { counts: () => ({}) },
    accessLog: { counters: () => ({}) },
    api: { read: () => ({}) },
  });
  const before = (await stats.stats()).version;
  writeFileSync('package.json', '{"version": "2.0.0", "type": "module"}');
  console.log(before, (await stats.stats()).version);
`;

t.test('the version is that of the start', async (t) => {
  const place = t.testdir();
  mkdirSync(join(place, 'dist'));
  cpSync(join(PROJECT, 'dist/src'), join(place, 'dist/src'), { recursive: true });
  symlinkSync(join(PROJECT, 'node_modules'), join(place, 'node_modules'));
  writeFileSync(join(place, 'package.json'), '{"version": "1.0.0", "type": "module"}');
  writeFileSync(join(place, 'program.js'), PROGRAM);
  const { stdout } = await promisify(execFile)(process.execPath, ['program.js'], { cwd: place });
  t.equal(stdout, '1.0.0 1.0.0\n');
});
