/** The keys `api`, `metrics` and `accessLog`. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { renderCheck } from '../../src/cli/reports.js';
import { loadBalancerConfig } from '../../src/config/load.js';
import { BALANCER, directory, FILE, problems } from './fixture.js';

const API = 'api: {listen: "10.0.0.2:8443", certificate: api.pem, key: api.key, tokens: /t.txt}\n';
const METRICS = 'metrics: {listen: "127.0.0.1:9464"}\n';
const LOG = 'accessLog: {file: access.json}\n';

t.test('paths are made absolute, listeners become values', async (t) => {
  writeFileSync(FILE, BALANCER + API + METRICS + LOG);
  const config = loadBalancerConfig(FILE);
  t.same(config.api, {
    listen: { address: addressNumber('10.0.0.2'), port: 8443 },
    certificate: join(directory, 'api.pem'),
    key: join(directory, 'api.key'),
    tokens: '/t.txt',
  });
  t.same(config.metrics, { listen: { address: addressNumber('127.0.0.1'), port: 9464 } });
  t.same(config.accessLog, { file: join(directory, 'access.json'), format: 'json' });
  const shown = renderCheck(config);
  t.match(shown, /API +10\.0\.0\.2:8443, with TLS\n +certificate .*\/api\.pem\n/);
  t.match(shown, /metrics +127\.0\.0\.1:9464\n/);
  t.match(shown, /access log +\/.*\/access\.json, json/);
});

t.test('without the keys there is neither API over TLS, metrics nor log', async (t) => {
  writeFileSync(FILE, BALANCER);
  const config = loadBalancerConfig(FILE);
  t.same([config.api, config.metrics, config.accessLog], [undefined, undefined, undefined]);
  t.notMatch(renderCheck(config), /API|metrics|access log/);
});

t.test('each mistake in them gets a message with its place', async (t) => {
  const metrics = 'expected an address of this machine and a port such as 127.0.0.1:9464';
  const cases: [string, string][] = [
    [
      API.replace(', tokens: /t.txt', ''),
      '21:6: api.tokens: is missing, expected the path of a file',
    ],
    ['metrics: {listen: "0.0.0.0:9464"}\n', `21:19: metrics.listen: is "0.0.0.0:9464", ${metrics}`],
    ['metrics: {listen: "127.0.0.1"}\n', `21:19: metrics.listen: is "127.0.0.1", ${metrics}`],
    [
      'metrics: {port: 9464, listen: "127.0.0.1:9464"}\n',
      '21:11: metrics.port: is not a known key, expected listen',
    ],
    [
      'metrics: {listen: "10.99.0.100:80"}\n',
      '21:19: metrics.listen: is "10.99.0.100:80", already used by virtual server "www", expected another address or port',
    ],
    [
      `${API}metrics: {listen: "10.0.0.2:8443"}\n`,
      '22:19: metrics.listen: is "10.0.0.2:8443", already the value of api.listen, expected another value',
    ],
    [
      'accessLog: {file: a, format: xml}\n',
      '21:30: accessLog.format: is "xml", expected one of json, combined',
    ],
    [
      'accessLog: {file: ./key.hex}\n',
      '21:19: accessLog.file: is "./key.hex", the same file as keyFile, expected another',
    ],
    [
      `${API}accessLog: {file: /t.txt}\n`,
      '22:19: accessLog.file: is "/t.txt", the same file as api.tokens, expected another',
    ],
    [
      'accessLog: {file: baton.yaml}\n',
      '21:19: accessLog.file: is "baton.yaml", the same file as this config file, expected another',
    ],
  ];
  for (const [text, line] of cases)
    t.same(problems(loadBalancerConfig, BALANCER + text), [line], text);
});

t.test('a listener at a virtual address gets a warning', async (t) => {
  writeFileSync(FILE, `${BALANCER}metrics: {listen: "10.99.0.100:9464"}\n`);
  t.same(loadBalancerConfig(FILE).warnings, [
    `${FILE}:21:19: metrics.listen: is at a virtual address, so every client can reach it`,
  ]);
});
