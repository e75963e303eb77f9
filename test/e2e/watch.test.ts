/** `baton stats --watch` while a balancer works, is started again, and is gone. */
import { appendFileSync } from 'node:fs';
import t from 'tap';
import { curl } from '../../lab/clients/curl.js';
import { wrk } from '../../lab/clients/wrk.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { batonCommand } from '../../lab/farm/baton.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import type { StatsDocument } from '../../src/api/documents.js';
import { STAGE_NAMES } from '../../src/base/stages.js';
import type { Interval } from '../../src/cli/interval.js';

const resources = [{ path: '/', nodes: ['n1'] }];
const URL = `http://${VIRTUAL_ADDRESS}/a.txt`;
t.setTimeout(FILE_TIMEOUT_MS);

t.test('baton stats --watch follows a balancer', { skip: whyNoFarm() }, async (t) => {
  await withFarm(
    t,
    { nodes: 1, resources, fill: (farm) => farm.webs[0]?.put('a.txt', 'here\n') },
    async (farm) => {
      const watching = (name: string, ...args: string[]) =>
        farm.balancer.start(name, batonCommand(['stats', '-c', farm.balancerConfig, ...args]));
      const json = watching('watch-json', '--watch', '0.5', '--json');
      const text = watching('watch-text', '--watch', '0.5');
      const intervals = (): Interval[] =>
        json
          .log()
          .split('\n')
          .filter((line) => line.startsWith('{') && line.endsWith('}'))
          .map((line) => JSON.parse(line) as Interval);

      await t.test('intervals under load add up to the counters', async (t) => {
        await farm.waitFor(async () => intervals().length > 0, 'the first interval is there');
        const before = await farm.stats();
        const load = await wrk(farm.client, URL, {
          connections: 8,
          seconds: 2,
          close: true,
        });
        t.ok(load.requests > 0);
        // By then the interval with the last requests is over.
        const seen = intervals().length;
        await farm.waitFor(async () => intervals().length > seen + 1, 'the next interval is there');
        const after = await farm.stats();
        const once = await farm.baton(['stats', '-c', farm.balancerConfig, '--json']);
        const { version, counters, nodes } = JSON.parse(once.stdout) as StatsDocument;
        t.equal(version, after.version);
        t.equal(
          counters.requests,
          after.counters.requests,
          'the command prints what the socket answers',
        );
        t.match(nodes, [
          { name: 'n1', state: 'up', condition: 'up', adopted: after.nodes[0]?.adopted },
        ]);

        const all = intervals();
        const sum = (of: (interval: Interval) => number): number =>
          all.reduce((total, interval) => total + of(interval) * interval.seconds, 0);
        const delta = (name: string): number =>
          (after.counters[name] ?? 0) - (before.counters[name] ?? 0);
        t.ok(Math.abs(sum(({ events }) => events.requests) - delta('requests')) <= 1, 'requests');
        t.ok(Math.abs(sum(({ events }) => events.adopted) - delta('adopted')) <= 1, 'adopted');
        // Local services adopt too, so a node's share may be smaller than the counter.
        const byNode = (after.nodes[0]?.adopted ?? 0) - (before.nodes[0]?.adopted ?? 0);
        t.ok(
          Math.abs(sum(({ nodes }) => nodes[0]?.adopted ?? 0) - byNode) <= 1,
          'adopted by the node',
        );
        t.ok(sum(({ packets }) => packets.in) > 3 * load.requests, 'at least SYN, ACK and request');
        const toEngine = sum(({ packets }) => packets.toEngine);
        t.ok(toEngine >= load.requests, `${toEngine} frames for the engine`);
        t.ok(
          toEngine < 2 * load.requests,
          `${toEngine} frames for the engine: the kernel does the rest`,
        );

        const busiest = all.reduce((most, interval) =>
          interval.events.requests > most.events.requests ? interval : most,
        );
        t.equal(busiest.stages.length, 1);
        const [thread] = busiest.stages;
        for (const name of STAGE_NAMES) t.ok((thread?.microseconds[name] ?? 0) > 0, name);
        const total = STAGE_NAMES.reduce(
          (part, name) => part + (thread?.microseconds[name] ?? 0),
          0,
        );
        t.ok(Math.abs(total - 1e6) < 1, `a second is ${total} us`);
        t.ok((thread?.framesPerBatch ?? 0) >= 1);
        const waiting = all.at(-1)?.stages[0]?.microseconds.waiting ?? 0;
        t.ok(
          waiting > (thread?.microseconds.waiting ?? 0),
          `without load the engine sleeps: ${waiting} us`,
        );
        t.match(text.log(), /REQUESTS\/S[\s\S]*ENGINE TIME[\s\S]*\nn1 +up/);
      });

      await t.test('the watch goes on when the balancer is started again', async (t) => {
        await farm.balancerProgram?.stop();
        const gone = (): boolean =>
          /^baton: no answer: no balancer is running there$/m.test(json.log());
        await farm.waitFor(gone, 'the watch reports that no balancer runs');
        appendFileSync(farm.balancerConfig, 'limits: { halfOpen: 64 }\n');
        await farm.startBalancer();
        const seen = intervals().length;
        await farm.waitNodesUp();
        await curl(farm.client, URL);
        await farm.waitFor(
          async () => intervals().length > seen + 2,
          'intervals of the new balancer are there',
        );
        t.ok(json.running && text.running);
        t.match(json.log(), /^baton: the balancer was restarted$/m);
        const { counters } = await farm.stats();
        t.match(
          counters,
          { syn_cookie: 0, xdp_syn_answered: 1 },
          'few sessions may be half open, and one SYN is no flood',
        );
        const last = intervals().slice(seen);
        t.ok(last.every(({ uptimeMs }) => uptimeMs < 60_000));
      });

      await t.test('the watch ends by a signal while no balancer runs', async (t) => {
        text.signal('SIGINT');
        t.same(await text.exited, { code: 0, signal: null });
        await farm.balancerProgram?.stop();
        t.same(await json.exited, { code: 1, signal: null });
        t.match(
          json.log(),
          /^baton: control socket .*baton\.sock: the balancer has not answered for 1\d s: no balancer is running there/m,
        );
      });
    },
  );
});
