/** The address `local` of a node. */
import t from 'tap';
import { loadBalancerConfig } from '../../src/config/load.js';
import { formatNodeAddress } from '../../src/wire/address.js';
import { BALANCER, changed, FILE, problems } from './fixture.js';

const NODE = 'address: 10.99.0.4';
const LOCAL = changed(NODE, 'address: local');

t.test('the balancer itself can be a node', async (t) => {
  t.same(problems(loadBalancerConfig, LOCAL), []);
  t.equal(formatNodeAddress(loadBalancerConfig(FILE).nodes[1]!.address), 'local');
});

t.test('what cannot work is refused with line and reason', async (t) => {
  const cases: [string, string][] = [
    [
      changed('address: 10.99.0.3', 'address: local', LOCAL),
      '15:14: nodes[1].address: is "local", already the address of node "n1", expected another value',
    ],
    [
      changed('address: local', 'address: local\n    via: ixp', LOCAL),
      '16:10: nodes[1].via: is "ixp", but the node is this machine itself (address: local): leave out the key',
    ],
    [
      changed(NODE, 'address: 127.0.0.1'),
      '15:14: nodes[1].address: is "127.0.0.1", a loopback address',
    ],
    [
      changed(NODE, 'address: here'),
      '15:14: nodes[1].address: is "here", not an IP address, expected',
    ],
  ];
  for (const [text, problem] of cases) {
    const found = problems(loadBalancerConfig, text).join('\n');
    t.ok(found.startsWith(problem), found);
  }
  t.same(problems(loadBalancerConfig, BALANCER), []);
});
