import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { BatonError } from '../../src/base/errors.js';
import { takeLock } from '../../src/host/lock.js';

const NAME = `t${process.pid}`;

t.test('one process has the lock for its role and interface', async (t) => {
  const lock = await takeLock('node', NAME);
  await t.rejects(takeLock('node', NAME), {
    code: 'BATON_IN_USE',
    message: 'another node is running on this interface',
    where: NAME,
  });
  const other = await takeLock('balancer', NAME);
  await other.release();
  await lock.release();
  const again = await takeLock('node', NAME);
  await again.release();
});

t.test('the lock of a killed process is free', async (t) => {
  const module = new URL('../../src/host/lock.js', import.meta.url);
  const source = `import('${module}').then((m) => m.takeLock('node', '${NAME}')).then(() => { console.log('held'); setInterval(() => {}, 1000); })`;
  const child = spawn(process.execPath, ['-e', source], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  await once(child.stdout, 'data');
  await t.rejects(takeLock('node', NAME), BatonError);
  child.kill('SIGKILL');
  await exited;
  const lock = await takeLock('node', NAME);
  await lock.release();
});
