/** The thread that reads, checks and writes configs. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { getPriority, tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { stringify } from 'yaml';
import { FILE_TIMEOUT_MS } from '../../../lab/patience.js';
import { ConfigThread } from '../../../src/balancer/objects/config-handle.js';
import { checkData } from '../../../src/config/check-data.js';
import type { BalancerData } from '../../../src/config/data.js';
import { addNode, addResource } from '../../../src/config/edit.js';
import { loadBalancerConfig, loadBalancerFile } from '../../../src/config/load.js';
import { Directory } from '../../../src/directory/directory.js';
import { manyResources } from '../../config/many-resources.js';

t.setTimeout(FILE_TIMEOUT_MS);

const directory = mkdtempSync(join(tmpdir(), 'baton-config-thread-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const FILE = join(directory, 'balancer.yaml');
/**
 * The longest block may take this long, or this share of the whole, if that is longer because of
 * other processes. Without them it takes 10 ms of 1 s.
 */
const LONGEST_BLOCK = { ms: 125, share: 1 / 4 };
const DATA = manyResources(2_500, 10);

function write(data: BalancerData): string {
  const text = `# a comment\n${stringify(data)}`;
  writeFileSync(FILE, text);
  return text;
}

/** The names of the nodes that hold a path of this host. */
function holders(
  { config, directory }: Awaited<ReturnType<ConfigThread['check']>>,
  host: string,
  path: string,
): (string | undefined)[] {
  const found = new Directory(directory);
  const bytes = [Buffer.from(host), Buffer.from(path)] as const;
  const resource = found.find(bytes[0], bytes[0].length, bytes[1], bytes[1].length);
  if (resource < 0) return [];
  const { start, node, setOf } = directory.holders;
  const set = setOf[resource]!;
  return [...node.subarray(start[set], start[set + 1])].map((index) => config.nodes[index]?.name);
}

t.test('load, check and render give what the main thread would make', async (t) => {
  const thread = new ConfigThread();
  t.teardown(() => thread.stop());
  const priority = getPriority();
  const text = write(DATA);
  const loaded = await thread.load(FILE);
  t.same({ config: loaded.config, data: loaded.data, text: loaded.text }, loadBalancerFile(FILE));
  t.equal(loaded.text, text);
  t.equal(getPriority(), priority, 'the priority of this thread has not changed');
  t.same(holders(loaded, 'www7.example.org', '/collection/7/x'), ['node-0', 'node-7']);
  t.ok(loaded.directory.holders.node.buffer instanceof SharedArrayBuffer);

  const changed = addResource(addNode(loaded.data, { name: 'new', address: '10.9.0.1' }), {
    path: '/new/',
    nodes: ['new'],
  });
  const checked = await thread.check(changed, FILE);
  t.same(checked.config, checkData(changed, FILE));
  t.equal(checked.data, changed);
  t.same(holders(checked, 'other', '/new/a'), ['new']);

  const rendered = await thread.render(loaded.text, changed);
  t.match(rendered, /^# a comment\n/);
  writeFileSync(FILE, rendered);
  t.same(loadBalancerConfig(FILE), checked.config);
});

t.test('a mistake is the same error as in the main thread', async (t) => {
  const thread = new ConfigThread();
  t.teardown(() => thread.stop());
  await t.rejects(thread.load(join(directory, 'absent.yaml')), {
    name: 'BatonError',
    code: 'BATON_CONFIG',
    message: 'cannot be read: there is no such file',
    where: join(directory, 'absent.yaml'),
  });
  const bad = { ...DATA, nodes: DATA.nodes.with(3, { name: 'node-3', address: '::1' }) };
  let expected: unknown;
  try {
    checkData(bad, FILE);
  } catch (error) {
    expected = error;
  }
  t.match(expected, { code: 'BATON_CONFIG', message: /^nodes\[3\]\.address: is "::1"/ });
  await t.rejects(thread.check(bad, FILE), expected as Error);
  const without = { ...DATA, resources: undefined } as unknown as BalancerData;
  await t.rejects(thread.check(without, FILE), { message: /^resources: is (missing|empty)/ });
  t.ok((await thread.check(DATA, FILE)).config, 'the thread goes on');
});

t.test('the thread ends when it is idle, starts again, and is ended by stop', async (t) => {
  const thread = new ConfigThread(20);
  write(DATA);
  t.equal((await thread.load(FILE)).config.nodes.length, 10);
  while (thread.running) await new Promise((resolve) => setTimeout(resolve, 5));
  t.equal((await thread.load(FILE)).config.nodes.length, 10, 'it starts again');
  const last = thread.load(FILE);
  const refused = t.rejects(last, { code: 'BATON_SYSTEM', message: /has ended/ });
  await thread.stop();
  await refused;
  t.notOk(thread.running);
  await t.rejects(thread.load(FILE), { message: /has ended/ });
});

t.test(
  'a thread that fails is an error for the caller, and the next call starts another',
  async (t) => {
    const program = join(directory, 'fails.mjs');
    writeFileSync(
      program,
      `import { parentPort } from 'node:worker_threads';
parentPort.on('message', () => { throw new Error('out of memory'); });`,
    );
    const thread = new ConfigThread(10_000, pathToFileURL(program));
    t.teardown(() => thread.stop());
    for (let round = 0; round < 2; round++) {
      await t.rejects(thread.load(FILE), {
        code: 'BATON_SYSTEM',
        message: 'the thread that reads configs has failed: out of memory',
      });
      t.notOk(thread.running);
    }
  },
);

t.test(
  '1,000 nodes and 25,000 resources do not block the main thread',
  {
    timeout: FILE_TIMEOUT_MS,
  },
  async (t) => {
    const thread = new ConfigThread();
    t.teardown(() => thread.stop());
    write(manyResources(25_000, 1_000));
    const timed = async <Result>(what: string, work: () => Promise<Result>): Promise<Result> => {
      const delay = monitorEventLoopDelay({ resolution: 1 });
      delay.enable();
      const start = performance.now();
      const result = await work();
      const took = performance.now() - start;
      // A turn more, so that the last block is seen.
      await new Promise((resolve) => setTimeout(resolve, 20));
      delay.disable();
      const longest = delay.max / 1e6;
      t.comment(`${what}: ${took.toFixed(0)} ms, longest block ${longest.toFixed(1)} ms`);
      const most = Math.max(LONGEST_BLOCK.ms, took * LONGEST_BLOCK.share);
      t.ok(longest < most, `${what} lets the main thread work`);
      return result;
    };
    const loaded = await timed('load', () => thread.load(FILE));
    t.equal(loaded.config.resources.length, 25_000);
    const changed = addResource(loaded.data, { path: '/new/', nodes: ['node-1'] });
    const checked = await timed('check', () => thread.check(changed, FILE));
    t.equal(checked.config.resources.length, 25_001);
  },
);
