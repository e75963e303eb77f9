import t from 'tap';
import { loadBalancerConfig, loadNodeConfig } from '../../src/config/load.js';
import { changed, directory, NODE, problems } from './fixture.js';

t.test('each mistake in balancer.yaml gets a message with its place', async (t) => {
  const duration =
    'expected a duration from 1ms to 24h with its unit (ms, s, m, h), such as 300ms, 10s or 15m';
  const cases: [string, string, string][] = [
    [
      'interface: eth0\n',
      '',
      '1:1: interface: is missing, expected the name of a network interface such as eth0',
    ],
    [
      'eth0',
      '[eth0]',
      '1:12: interface: is a list of 1, expected the name of a network interface such as eth0',
    ],
    [
      'eth0',
      'a/b',
      '1:12: interface: is "a/b", expected the name of a network interface such as eth0',
    ],
    ['packet', 'XDP', '2:11: datapath: is "XDP", expected one of auto, xdp, packet'],
    ['packet', 'packet\nworkers: 9', '3:10: workers: is 9, expected a whole number from 1 to 8'],
    ['packet', 'packet\nworkers: 0', '3:10: workers: is 0, expected a whole number from 1 to 8'],
    ['keyFile:', 'kefFile: x\nkeyFile:', '3:1: kefFile: is not a known key, did you mean keyFile?'],
    [
      'keyFile:',
      'colour: red\nkeyFile:',
      '3:1: colour: is not a known key, expected one of interface, nodeInterface, datapath, workers, address, keyFile, controlSocket, virtualServers, nodes, resources, limits, timeouts, log, api, metrics, accessLog',
    ],
    ['key.hex', '', '3:1: keyFile: is empty, expected the path of a file'],
    ['key.hex', '0x12', '3:10: keyFile: is 18, expected the path of a file (put it in quotes)'],
    ['key.hex', 'a\nkeyFile: b', '4:1: keyFile: appears twice in this map, expected each key once'],
    [
      'baton.sock',
      'x'.repeat(120),
      `4:16: controlSocket: is a path of ${directory.length + 121} bytes, expected at most 107, the limit for a Unix socket`,
    ],
    [
      '10.99.0.100',
      '10.99.0.256',
      '7:14: virtualServers[0].address: is "10.99.0.256", not an IP address, expected an IP address such as 10.99.0.100 or fd99::100',
    ],
    [
      '10.99.0.100',
      'fe80::1',
      '7:14: virtualServers[0].address: is "fe80::1", a link-local address, which is not unique, expected an IP address such as 10.99.0.100 or fd99::100',
    ],
    [
      '10.99.0.100',
      '224.0.0.1',
      '7:14: virtualServers[0].address: is "224.0.0.1", a multicast address, expected an IP address such as 10.99.0.100 or fd99::100',
    ],
    ['80', '0', '8:11: virtualServers[0].port: is 0, expected a port number from 1 to 65535'],
    [
      '80',
      '65536',
      '8:11: virtualServers[0].port: is 65536, expected a port number from 1 to 65535',
    ],
    ['80', '80.5', '8:11: virtualServers[0].port: is 80.5, expected a port number from 1 to 65535'],
    ['80', '"80"', '8:11: virtualServers[0].port: is "80", expected a port number from 1 to 65535'],
    [
      'least-connections',
      'random',
      '9:16: virtualServers[0].predictor: is "random", expected one of round-robin, least-connections',
    ],
    [
      'nodes:\n',
      'nodes:\n  - {name: n1, address: 10.99.0.9}\n',
      '12:11: nodes[1].name: is "n1", already the name of a node, expected another value',
    ],
    [
      'nodes:\n',
      'nodes:\n  - {name: n 2, address: 10.99.0.9}\n',
      '11:12: nodes[0].name: is "n 2", expected a name of 1 to 63 letters, digits, ".", "_" and "-"',
    ],
    [
      '10.99.0.4',
      '10.99.0.3',
      '15:14: nodes[1].address: is "10.99.0.3", already the address of node "n1", expected another value',
    ],
    [
      '10.99.0.4',
      '10.99.0.100',
      '15:14: nodes[1].address: is "10.99.0.100", already a virtual address, expected another value',
    ],
    [
      'weight: 1',
      'weight: 0',
      '13:13: nodes[0].weight: is 0, expected a whole number from 1 to 1000',
    ],
    [
      'weight: 1',
      'weight: 1001',
      '13:13: nodes[0].weight: is 1001, expected a whole number from 1 to 1000',
    ],
    ['/images/', 'images/', '17:11: resources[0].path: is "images/": a path must begin with "/"'],
    [
      '/images/',
      '/',
      '19:11: resources[1].path: has the same host and path as resources[0], expected each pair only once',
    ],
    [
      '/images/',
      '/x/../',
      '19:11: resources[1].path: has the same host and path as resources[0], expected each pair only once',
    ],
    [
      '[n2, n1]',
      '[n2, nx]',
      '18:17: resources[0].nodes[1]: is "nx", but no node has this name, expected the name of a node',
    ],
    [
      '[n2, n1]',
      '[n2, N1]',
      '18:17: resources[0].nodes[1]: is "N1", but no node has this name, did you mean n1?',
    ],
    [
      '[n2, n1]',
      '[n2, n1, n2]',
      '18:21: resources[0].nodes[2]: is "n2" again, expected each node only once',
    ],
    [
      '[n2, n1]',
      '[]',
      '18:12: resources[0].nodes: is an empty list, expected a list of at least one node name',
    ],
    [
      'nodes: [n1]\n',
      'nodes: [n1]\naddress: 10.99.0.3\n',
      '12:14: nodes[0].address: is "10.99.0.3", already the balancer\'s own address, expected another value',
    ],
    [
      'nodes: [n1]\n',
      'nodes: [n1]\naddress: 10.99.0.100\n',
      '21:10: address: is "10.99.0.100", already a virtual address, expected another value',
    ],
    [
      'nodes: [n1]\n',
      'nodes: [n1]\ntimeouts: {idle: 10}\n',
      `21:18: timeouts.idle: is 10, ${duration}`,
    ],
    [
      'nodes: [n1]\n',
      'nodes: [n1]\ntimeouts: {idle: 2d}\n',
      `21:18: timeouts.idle: is "2d", ${duration}`,
    ],
    ['nodes: [n1]\n', 'nodes: [n1]\nlimits:\n', '21:1: limits: is empty, expected a map of limits'],
    [
      'nodes: [n1]\n',
      'nodes: [n1]\nlimits: {headBytes: 65536}\n',
      '21:21: limits.headBytes: is 65536, expected a whole number from 1024 to 65535',
    ],
    [
      'nodes: [n1]\n',
      'nodes: [n1]\nlimits: {session: 2000}\n',
      '21:10: limits.session: is not a known key, did you mean sessions?',
    ],
    [
      'nodes: [n1]\n',
      'nodes: [n1]\nlog: {level: loud}\n',
      '21:14: log.level: is "loud", expected one of error, warn, info, debug',
    ],
  ];
  for (const [piece, replacement, line] of cases) {
    t.same(
      problems(loadBalancerConfig, changed(piece, replacement)),
      [line],
      `${piece} -> ${replacement}`,
    );
  }
});

t.test('each mistake in node.yaml gets a message with its place', async (t) => {
  const cases: [string, string, string][] = [
    [
      '[10.99.0.100]',
      '10.99.0.100',
      '3:19: virtualAddresses: is "10.99.0.100", expected a list of 1 to 64 IP addresses',
    ],
    [
      '[10.99.0.100]',
      '[]',
      '3:19: virtualAddresses: is an empty list, expected a list of 1 to 64 IP addresses',
    ],
    [
      '[10.99.0.100]',
      '[10.99.0.100, 10.99.0.100]',
      '3:33: virtualAddresses[1]: is "10.99.0.100", already a virtual address, expected another value',
    ],
    [
      '[10.99.0.100]',
      '["::1"]',
      '3:20: virtualAddresses[0]: is "::1", a loopback address, expected an IP address such as 10.99.0.100 or fd99::100',
    ],
    [
      '[10.99.0.2]',
      '[10.99.0.100]',
      '4:13: balancers[0]: is "10.99.0.100", already a virtual address, expected another value',
    ],
    [
      'balancers',
      'listen: 8080\nbalancers',
      '4:9: listen: is 8080, expected an address and a port such as 127.0.0.1:8080 (put it in quotes)',
    ],
    [
      'balancers',
      'listen: 127.0.0.1:0\nbalancers',
      '4:9: listen: is "127.0.0.1:0", expected an address and a port such as 127.0.0.1:8080',
    ],
    [
      'balancers',
      'maxSessions: 10\nbalancers',
      '4:14: maxSessions: is 10, expected a whole number from 1024 to 4194304',
    ],
    [
      'balancers',
      'address: 10.99.0.100\nbalancers',
      '4:10: address: is "10.99.0.100", already a virtual address, expected another value',
    ],
  ];
  for (const [piece, replacement, line] of cases) {
    t.same(
      problems(loadNodeConfig, changed(piece, replacement, NODE)),
      [line],
      `${piece} -> ${replacement}`,
    );
  }
});
