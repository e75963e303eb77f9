/** Mistakes of operators: one clear line, exit code 1, and an unchanged machine. */

import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { stringify } from 'yaml';
import { curl } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { WebServer } from '../../lab/servers/web.js';
import { GLOSSARY } from '../../src/cli/glossary.js';
import { refuses } from '../support/refusal.js';

const resources = [{ path: '/', nodes: ['n1'] }];
const NOBODY = 65534;

type Config = Record<string, unknown>;

/** Writes a config and a new key beside it. Returns the path of the config. */
function writeConfig(
  farm: Farm,
  name: string,
  config: Config,
  key = readFileSync(farm.keyFile, 'utf8'),
): string {
  const directory = path.join(farm.directory, name);
  mkdirSync(directory, { recursive: true });
  writeFileSync(path.join(directory, 'key.hex'), key, { mode: 0o600 });
  const file = path.join(directory, 'config.yaml');
  writeFileSync(file, stringify(config));
  return file;
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test(
  'a mistake of the operator gives one clear line and changes nothing',
  { skip: whyNoFarm() },
  async (t) => {
    const fill = (farm: Farm): void => {
      for (const web of farm.webs) {
        web.put('a.txt', 'here\n');
      }
    };
    await withFarm(t, { resources, fill, nodes: 2 }, async (farm) => {
      const [, node2] = farm.nodes;
      const free = node2!;
      await farm.agents[1]?.stop();
      const forBalancer = (more: Config): Config => ({
        interface: 'eth0',
        datapath: DATAPATH,
        keyFile: 'key.hex',
        controlSocket: 'baton.sock',
        virtualServers: [{ name: 'www', address: '10.99.0.101', port: 80 }],
        nodes: [{ name: 'n1', address: '10.99.0.3' }],
        resources,
        ...more,
      });
      const forNode = (more: Config): Config => ({
        interface: 'eth0',
        keyFile: 'key.hex',
        virtualAddresses: [VIRTUAL_ADDRESS],
        balancers: ['10.99.0.2'],
        ...more,
      });

      await t.test('programs without root are refused', async (t) => {
        const nobody = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'];
        for (const [command, config] of [
          ['balancer', forBalancer({})],
          ['node', forNode({})],
        ] as const) {
          const file = writeConfig(farm, `nobody-${command}`, config);
          chownSync(path.join(path.dirname(file), 'key.hex'), NOBODY, NOBODY);
          await refuses(t, free, [command, '-c', file], /root|CAP_/, nobody);
        }
      });

      await t.test('an interface that does not exist is refused', async (t) => {
        const balancer = writeConfig(farm, 'b-interface', forBalancer({ interface: 'eth9' }));
        await refuses(t, free, ['balancer', '-c', balancer], /eth9.*eth0|eth0.*eth9/);
        const node = writeConfig(farm, 'n-interface', forNode({ interface: 'eth9' }));
        await refuses(t, free, ['node', '-c', node], /eth9.*eth0|eth0.*eth9/);
      });

      await t.test('a key file that others can read, or without a key, is refused', async (t) => {
        const open = writeConfig(farm, 'key-open', forNode({}));
        chmodSync(path.join(path.dirname(open), 'key.hex'), 0o644);
        await refuses(t, free, ['node', '-c', open], /key\.hex.*chmod 600/);
        const short = writeConfig(farm, 'key-short', forBalancer({}), 'abc123\n');
        await refuses(t, free, ['balancer', '-c', short], /key\.hex.*hex digits.*32/);
      });

      await t.test('an agent with another key than the balancer ends with an error', async (t) => {
        const file = writeConfig(farm, 'key-wrong', forNode({}), `${'5a'.repeat(16)}\n`);
        await refuses(t, free, ['node', '-c', file], /key/);
        const { counters } = await farm.stats();
        t.ok((counters.drop_ixcp_tag ?? 0) > 0, 'the balancer counts wrong tags');
        const unexplained = Object.keys(counters).filter((name) => !GLOSSARY.has(name));
        t.same(unexplained, [], 'every counter has a help text');
      });

      await t.test(
        'a second balancer on the machine or on the virtual address is refused',
        async (t) => {
          const same = writeConfig(farm, 'second', forBalancer({}));
          await refuses(
            t,
            farm.balancer,
            ['balancer', '-c', same],
            /another (balancer|node) is running/,
          );
          const taken = forBalancer({
            virtualServers: [{ name: 'www', address: VIRTUAL_ADDRESS, port: 80 }],
          });
          await refuses(
            t,
            farm.client,
            ['balancer', '-c', writeConfig(farm, 'taken', taken)],
            /10\.99\.0\.100.*in use.*02:00:0a:63:00:02/i,
          );
        },
      );

      await t.test('a second agent on the machine is refused', async (t) => {
        await refuses(
          t,
          farm.nodes[0]!,
          ['node', '-c', writeConfig(farm, 'agent2', forNode({}))],
          /another (balancer|node) is running/,
        );
      });

      await t.test('a virtual server on a port with a listener is refused', async (t) => {
        const web = new WebServer(farm.client, farm.directory, { listen: '80' });
        await web.start();
        await refuses(
          t,
          farm.client,
          ['balancer', '-c', writeConfig(farm, 'port', forBalancer({}))],
          /80.*(use|listen|bound)/,
        );
        await web.stop();
      });

      await t.test('a file that cannot be an access log is refused', async (t) => {
        const cases: [string, RegExp][] = [
          ['.', /\/log-0: the access log cannot be written: it is a directory/],
          ['none/access.json', /log-1\/none\/access\.json: .*no such directory/],
          ['/dev/null', /\/dev\/null: .*it is not a regular file/],
        ];
        for (const [index, [file, pattern]] of cases.entries()) {
          const config = forBalancer({ accessLog: { file } });
          const name = writeConfig(farm, `log-${index}`, config);
          await refuses(t, farm.client, ['balancer', '-c', name], pattern);
        }
      });

      await t.test('the running farm goes on', async (t) => {
        const answer = await curl(farm.client, `http://${VIRTUAL_ADDRESS}/a.txt`);
        t.equal(answer.body.toString(), 'here\n');
      });
    });
  },
);
