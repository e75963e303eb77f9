/** Debian's Prometheus scrapes a balancer, and its values equal what clients did. */
import path from 'node:path';
import t from 'tap';
import { curl, curlAll } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { CONTROL_SOCKET } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { checkMetrics, Prometheus, whyNoPrometheus } from '../../lab/servers/prometheus.js';

const LISTEN = '127.0.0.1:9464';
/** Requests for what n1 holds, for what n2 holds, and for what no node holds. */
const FIRST = 7;
const SECOND = 4;
const NOWHERE = 3;

const resources = [
  { path: '/first/', nodes: ['n1'] },
  { path: '/second/', nodes: ['n2'] },
];

t.setTimeout(FILE_TIMEOUT_MS);

t.test('Prometheus reads a balancer', { skip: whyNoFarm() || whyNoPrometheus() }, async (t) => {
  const fill = (farm: Farm): void => {
    for (const web of farm.webs) {
      web.put('first/a.txt', 'first\n');
      web.put('second/a.txt', 'second\n');
    }
  };
  const balancer = {
    metrics: { listen: LISTEN },
    // The second server's name is in the label, and nobody asks it for anything.
    virtualServers: [
      { name: 'www', address: VIRTUAL_ADDRESS, port: 80 },
      { name: 'other', address: VIRTUAL_ADDRESS, port: 8080 },
    ],
  };
  await withFarm(t, { nodes: 2, resources, fill, balancer }, async (farm) => {
    const ask = async (name: string, times: number): Promise<void> => {
      for (let i = 0; i < times; i++)
        await curl(farm.client, `http://${VIRTUAL_ADDRESS}/${name}/a.txt`);
    };
    await ask('first', FIRST);
    await ask('second', SECOND);
    await ask('nowhere', NOWHERE);
    const total = FIRST + SECOND + NOWHERE;

    const text = async (): Promise<string> =>
      (await curl(farm.balancer, `http://${LISTEN}/metrics`)).body.toString();
    await t.test('promtool has nothing to complain about', async (t) => {
      const { code, stdout, stderr } = await checkMetrics(await text());
      t.equal(stdout + stderr, '');
      t.equal(code, 0);
    });

    await t.test('PromQL gives what the clients did', async (t) => {
      const prometheus = Prometheus.start(farm.balancer, LISTEN, farm.directory);
      /** NaN: there is no value any more. */
      const becomes = async (query: string, value: number): Promise<void> => {
        let last = Number.NaN;
        await farm
          .waitFor(async () => {
            last = await prometheus.sum(query);
            return Object.is(last, value);
          }, query)
          .catch(() => {});
        t.ok(Object.is(last, value), `${query} is ${last}, expected ${value}`);
      };
      const www = 'virtual_server="www"';
      await becomes('up{job="baton"}', 1);
      await becomes(`baton_virtual_server_connections_total{${www}}`, total);
      await becomes(`baton_virtual_server_requests_total{${www}}`, total);
      await becomes(`baton_virtual_server_handoffs_total{${www}}`, FIRST + SECOND);
      await becomes(`baton_virtual_server_local_answers_total{${www},status="404"}`, NOWHERE);
      await becomes('baton_virtual_server_connections_total{virtual_server="other"}', 0);
      await becomes('baton_node_handoffs_total{node="n1"}', FIRST);
      await becomes('baton_node_handoffs_total{node="n2"}', SECOND);
      await becomes('baton_node_handoff_results_total{result="adopted"}', FIRST + SECOND);
      await becomes('baton_node_handoff_results_total{result!="adopted"}', 0);
      await becomes('baton_local_answers_total{status="404"}', NOWHERE);
      await becomes('baton_node_condition{condition="up"}', 2);
      await becomes('count(baton_node_report_age_seconds < 30)', 2);
      await becomes(`baton_time_to_handoff_seconds_count{${www}}`, FIRST + SECOND);
      // Nobody waited longer than curl did.
      await becomes(`baton_time_to_handoff_seconds_bucket{${www},le="10"}`, FIRST + SECOND);
      await becomes('histogram_quantile(1, baton_time_to_handoff_seconds_bucket) <= bool 10', 1);
      await becomes('baton_virtual_server_sessions', 0);
      await becomes('baton_established_total', total);
      // The clock of a thread is published some time after its counters.
      await becomes('sum(baton_engine_stage_seconds_total) > bool 1', 1);

      await ask('first', 1);
      await becomes('baton_node_handoffs_total{node="n1"}', FIRST + 1);

      // What is changed at run time shows, and what is removed disappears.
      const change = (...args: string[]): Promise<unknown> =>
        farm.baton([...args, '-c', farm.balancerConfig]);
      await change('weight', 'n1', '3');
      await becomes('baton_node_weight{node="n1"}', 3);
      await change('drain', 'n2');
      await becomes('baton_node_state{node="n2",state="draining"}', 1);
      await becomes('baton_node_state{state="up"}', 1);
      await change('remove', 'resource', '/second/');
      await change('remove', 'node', 'n2');
      await change('remove', 'virtual', 'other');
      await becomes('count({node="n2"})', Number.NaN);
      await becomes('count({virtual_server="other"})', Number.NaN);
      await becomes('baton_node_info', 1);
      await becomes('baton_node_handoffs_total{node="n1"}', FIRST + 1);
    });

    await t.test('the control socket has the same metrics', async (t) => {
      const socket = path.join(farm.directory, CONTROL_SOCKET);
      const names = (metrics: string): string[] =>
        metrics.split('\n').filter((line) => line.startsWith('# TYPE'));
      const answer = await curl(farm.balancer, 'http://localhost/metrics', [
        '--unix-socket',
        socket,
      ]);
      t.equal(answer.status, 200);
      t.match(answer.headers, /content-type: text\/plain; version=0\.0\.4/i);
      t.same(names(answer.body.toString()), names(await text()));
    });

    await t.test('scrapers without end delay nobody', async (t) => {
      const flood = curlAll(
        farm.balancer,
        Array.from({ length: 200 }, () => `http://${LISTEN}/metrics`),
      );
      const answers = await Promise.all(
        Array.from({ length: 10 }, () =>
          curl(farm.client, `http://${VIRTUAL_ADDRESS}/first/a.txt`),
        ),
      );
      t.same(
        answers.map(({ status }) => status),
        new Array(10).fill(200),
      );
      const scrapes = await flood;
      t.same(new Set(scrapes.map(({ status }) => status)), new Set([200]));
    });
  });
});
