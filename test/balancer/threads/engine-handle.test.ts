/** What the balancer's main thread sees of an engine thread that ends or hangs. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t, { type Test } from 'tap';
import type { Farm } from '../../../src/balancer/objects/farm.js';
import { EngineHandle } from '../../../src/balancer/threads/engine-handle.js';
import type { EngineStart } from '../../../src/balancer/threads/engine-messages.js';

/** An engine thread with this program, which ignores its start data. */
async function start(
  t: Test,
  program: string,
): Promise<{ handle: EngineHandle; died: Promise<string> }> {
  const directory = mkdtempSync(join(tmpdir(), 'baton-engine-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'engine.mjs');
  writeFileSync(file, `import { parentPort } from 'node:worker_threads';\n${program}`);
  let tell: (reason: string) => void = () => {};
  const died = new Promise<string>((resolve) => {
    tell = resolve;
  });
  const listener = { event: () => {}, died: (reason: string) => tell(reason) };
  const handle = await EngineHandle.start(pathToFileURL(file), {} as EngineStart, listener);
  return { handle, died };
}

t.test('the end of an engine is reported, and it can still be stopped', async (t) => {
  const program = `parentPort.postMessage({ kind: 'ready' });
    setTimeout(() => { throw new Error('a fault of its own'); }, 20);`;
  const { handle, died } = await start(t, program);
  const question = t.rejects(handle.snapshot(), /the engine has ended/);
  t.match(await died, /a fault of its own/);
  await question;
  const before = performance.now();
  await t.rejects(handle.snapshot(), /the engine has ended/);
  await t.rejects(handle.commit(), /the engine has ended/);
  t.ok(performance.now() - before < 1_000, 'later questions do not wait for an answer');
  await handle.stop();
});

t.test('an engine that ignores the stop message is terminated', async (t) => {
  const program = `parentPort.on('message', () => {}); parentPort.postMessage({ kind: 'ready' });`;
  const { handle, died } = await start(t, program);
  await handle.stop();
  t.equal(await Promise.race([died, Promise.resolve('asked for')]), 'asked for');
});

t.test('a change that was sent counts, also when its answer is late', async (t) => {
  const program = `parentPort.on('message', () => {}); parentPort.postMessage({ kind: 'ready' });`;
  const { handle } = await start(t, program);
  const [commit, prepare] = await Promise.allSettled([handle.commit(), handle.prepare({} as Farm)]);
  t.match(commit, { status: 'fulfilled' });
  t.match(prepare, { status: 'rejected', reason: /did not answer within 5000 ms/ });
  await handle.stop();
});

t.test('an engine that cannot start gives the reason', async (t) => {
  const failing = `throw Object.assign(new Error('no ring'), { name: 'BatonError', code: 'BATON_SYSTEM', hint: 'try' });`;
  await t.rejects(start(t, failing), { message: 'no ring' });
  await t.rejects(start(t, ''), { message: 'the engine thread ended unexpectedly' });
});
