/** The key `via` of a node. */
import t from 'tap';
import { loadBalancerConfig } from '../../src/config/load.js';
import { BALANCER, changed, FILE, problems } from './fixture.js';

const NODE = '    address: 10.99.0.4\n';
const ROUTED = changed(NODE, `${NODE}    via: ixp\n`);
const at = '16:10: nodes[1].via: ';

t.test('a node can be behind routers', async (t) => {
  t.same(problems(loadBalancerConfig, ROUTED), []);
  t.same(problems(loadBalancerConfig, changed('datapath: packet', 'datapath: xdp', ROUTED)), []);
  t.equal(loadBalancerConfig(FILE).nodes[1]?.via, 'ixp');
  t.equal(loadBalancerConfig(FILE).nodes[0]?.via, undefined);
});

t.test('what cannot work is refused with the reason', async (t) => {
  const port = '    port: 80\n';
  const cases = [
    [
      changed('10.99.0.100', '"fd99::100"', ROUTED),
      'is "ixp", but virtual server "www" has an IPv6 address, expected "link"',
    ],
    [
      changed('10.99.0.4', '"fd99::4"', ROUTED),
      'is "ixp", but the node has an IPv6 address, expected "link"',
    ],
  ] as const;
  for (const [text, problem] of cases)
    t.same(problems(loadBalancerConfig, text), [`${at}${problem}`]);
  t.match(
    problems(loadBalancerConfig, changed(port, `${port}    mode: forward\n`, ROUTED)).join('\n'),
    'has mode: forward, expected "link"',
  );
  t.match(
    problems(loadBalancerConfig, changed('via: ixp', 'via: tunnel', ROUTED)).join('\n'),
    'is "tunnel", expected',
  );
  t.same(problems(loadBalancerConfig, BALANCER), []);
});
