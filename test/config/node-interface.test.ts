/** The config key `nodeInterface`. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { loadBalancerConfig } from '../../src/config/load.js';

const directory = mkdtempSync(join(tmpdir(), 'baton-node-interface-'));
const FILE = join(directory, 'balancer.yaml');
t.teardown(() => rmSync(directory, { recursive: true, force: true }));

const load = (lines: string): ReturnType<typeof loadBalancerConfig> => {
  writeFileSync(
    FILE,
    `interface: eth0
${lines}keyFile: key.hex
virtualServers: [{ name: www, address: 10.99.0.100, port: 80 }]
nodes: [{ name: n1, address: 10.98.0.3 }]
resources: [{ path: /, nodes: [n1] }]
`,
  );
  return loadBalancerConfig(FILE);
};

t.test('without the key, there is no interface for nodes', async (t) => {
  t.equal(load('').nodeInterface, undefined);
});

t.test('the config keeps the place of the key for later errors', async (t) => {
  t.same(load('# where nodes are\nnodeInterface:   eth1.5\n').nodeInterface, {
    name: 'eth1.5',
    where: `${FILE}:3:18: nodeInterface`,
  });
});

t.test('invalid values are refused', async (t) => {
  const cases = [
    ['eth0', 'is "eth0", the same as interface, expected another interface, or leave out the key'],
    ['a b', 'is "a b", expected the name of a network interface such as eth0'],
    ['[eth1]', 'is a list of 1, expected the name of a network interface such as eth0'],
  ] as const;
  for (const [value, text] of cases) {
    t.throws(() => load(`nodeInterface: ${value}\n`), {
      code: 'BATON_CONFIG',
      message: `${FILE}:2:16: nodeInterface: ${text}`,
    });
  }
});
