/**
 * The farm itself. If it left things behind, or if frames took a wrong wire, the other tests here
 * would prove little.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { curl } from '../../lab/clients/curl.js';
import { wrk } from '../../lab/clients/wrk.js';
import { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm } from '../../lab/farm/needs.js';
import { run } from '../../lab/farm/process.js';
import { sweep } from '../../lab/farm/registry.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';

const namespaces = async (): Promise<string> => (await run('ip', ['netns', 'list'])).stdout;

t.setTimeout(FILE_TIMEOUT_MS);

t.test(
  'a farm without Baton delivers frames where they belong',
  { skip: whyNoFarm() },
  async (t) => {
    const farm = await Farm.create({ nodes: 2, clients: 2 });
    t.teardown(() => farm.stop());
    for (const [index, web] of farm.webs.entries()) {
      web.put('index.html', `node ${index + 1}\n`);
    }
    await farm.startWebs();

    for (const [index, node] of farm.nodes.entries()) {
      for (const client of farm.clients) {
        const answer = await curl(client, `http://${node.address}/`);
        t.equal(answer.body.toString(), `node ${index + 1}\n`);
        t.equal(answer.remoteAddress, node.address);
      }
    }
    await farm.waitFor(
      () => (farm.webs[0]?.requests().length ?? 0) >= 2,
      'two lines are in the log',
    );
    t.same(farm.webs[0]?.requests(), ['GET / HTTP/1.1', 'GET / HTTP/1.1']);

    const before = await farm.balancer.traffic();
    const load = await wrk(farm.client, `http://${farm.nodes[0]!.address}/`, {
      connections: 4,
      seconds: 1,
    });
    t.equal(load.failed, 0);
    const after = await farm.balancer.traffic();
    t.ok(
      after.receivedBytes - before.receivedBytes < 10_000,
      'the switch sends no frame to the wrong port',
    );

    await farm.stop();
    t.notMatch(await namespaces(), farm.tag);
    t.notOk(existsSync(farm.directory));
  },
);

t.test(
  'the next farm takes down the farm of a killed process',
  { skip: whyNoFarm() },
  async (t) => {
    const module = fileURLToPath(new URL('../../lab/farm/farm.js', import.meta.url));
    const script = `
    const { Farm } = await import(${JSON.stringify(module)});
    const farm = await Farm.create({ nodes: 1 });
    await farm.startWebs();
    console.log(farm.tag);
    setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const tag = line.toString().trim();
    t.match(await namespaces(), tag);
    child.kill('SIGKILL');
    await once(child, 'exit');
    t.match(await namespaces(), tag, 'the farm is still there');
    sweep();
    t.notMatch(await namespaces(), tag);
    t.notOk(existsSync(`/tmp/${tag}`));
    const { stdout } = await run('ps', ['-eo', 'args']);
    t.notMatch(stdout, `/tmp/${tag}/`, 'no web server is left');
  },
);
