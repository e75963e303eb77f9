/** Plain data is checked by the same schema and rules as a file. */
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { parse } from 'yaml';
import { checkData } from '../../src/config/check-data.js';
import type { BalancerData } from '../../src/config/data.js';
import { loadBalancerFile } from '../../src/config/load.js';
import { BALANCER, FILE, problems } from './fixture.js';

const MORE = `nodeInterface: eth1
metrics: {listen: "127.0.0.1:9464"}
accessLog: {file: a}
timeouts: {idle: 5m}
`;
const data = (text: string): BalancerData => parse(text) as BalancerData;

/** What is said about `text` as data. */
const said = (text: string): string[] => problems(() => checkData(data(text), FILE), text);

t.test('a loaded file keeps its text, and its own keys without defaults', async (t) => {
  const text = BALANCER + MORE;
  writeFileSync(FILE, text);
  const loaded = loadBalancerFile(FILE);
  t.equal(loaded.text, text);
  t.same(loaded.data, data(text));
  t.equal(loaded.config.accessLog?.format, 'json', 'the config has the defaults');
});

t.test('data gives the same config as the file', async (t) => {
  writeFileSync(FILE, BALANCER + MORE);
  const loaded = loadBalancerFile(FILE);
  const before = structuredClone(loaded.data);
  const config = checkData(loaded.data, FILE);
  t.same(loaded.data, before, 'the data stays as it is');
  const { nodeInterface, ...rest } = config;
  const { nodeInterface: _, ...expected } = loaded.config;
  t.same(rest, expected);
  t.same(nodeInterface, { name: 'eth1', where: 'nodeInterface' });
});

t.test('the place of a mistake is its key path', async (t) => {
  const text = `${BALANCER}metrics: {listen: "10.99.0.100:80"}\n`
    .replace('10.99.0.4', '::1')
    .replace('[n2, n1]', '[n2, N1]')
    .replace('keyFile: key.hex\n', '')
    .replace('weight: 1', 'wieght: 1');
  t.same(said(text), [
    'keyFile: is missing, expected the path of a file',
    'nodes[0].wieght: is not a known key, did you mean weight?',
    'nodes[1].address: is "::1", a loopback address, expected an IP address such as 10.99.0.3 or fd99::3, or local',
    'resources[0].nodes[1]: is "N1", but no node has this name, did you mean n1?',
    'metrics.listen: is "10.99.0.100:80", already used by virtual server "www", expected another address or port',
  ]);
  t.same(said('[]'), [
    'is an empty list, expected a map of keys such as interface, virtualServers, nodes and resources',
  ]);
});

t.test('warnings have key paths too', async (t) => {
  const config = checkData(data(BALANCER.replace('[n2, n1]', '[n1]')), FILE);
  t.same(config.warnings, [
    'nodes[1].name: node "n2" holds no resource, so it gets no sessions: add it to a resource or remove it',
  ]);
});

t.test('an error lists at most 200 problems', async (t) => {
  const nodes = Array.from({ length: 300 }, (_, index) => ({ name: `n${index}`, address: 'x' }));
  const lines = said(JSON.stringify({ ...data(BALANCER), nodes }));
  t.equal(lines.length, 201);
  t.match(lines.at(-1), /^and \d+ more problems$/);
});

t.test('a config has at most 1,048,576 resources', async (t) => {
  const nodes = ['n1'];
  const resources = Array.from({ length: 1_048_577 }, (_, at) => ({ path: `/${at}`, nodes }));
  let message = '';
  try {
    checkData({ ...data(BALANCER), resources }, FILE);
  } catch (error) {
    message = (error as Error).message;
  }
  t.match(message, /^resources: is a list of 1048577, expected a list of up to 1048576 resources$/);
});
