import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { nearest, parseDuration, parseListener, whyNotUnicast } from '../../src/config/values.js';

t.test('durations are a number and a unit', async (t) => {
  const cases: [string, number | undefined][] = [
    ['1ms', 1],
    ['300ms', 300],
    ['10s', 10_000],
    ['1.5s', 1_500],
    ['15m', 900_000],
    ['24h', 86_400_000],
    ['0ms', undefined],
    ['0.4ms', undefined],
    ['25h', undefined],
    ['10', undefined],
    ['10 s', undefined],
    ['-1s', undefined],
    ['1d', undefined],
    ['1e3ms', undefined],
    ['99999999999h', undefined],
    ['', undefined],
  ];
  for (const [text, ms] of cases) t.equal(parseDuration(text), ms, JSON.stringify(text));
});

t.test('an address of one machine', async (t) => {
  const cases: [string, string | undefined][] = [
    ['10.99.0.3', undefined],
    ['223.255.255.255', undefined],
    ['0.0.0.0', 'an address of no machine'],
    ['127.0.0.1', 'a loopback address'],
    ['224.0.0.1', 'a multicast address'],
    ['255.255.255.255', 'a reserved or broadcast address'],
    ['::1', 'an IPv6 address, but Baton does IPv4 only'],
    ['::ffff:10.0.0.1', 'an IPv6 address, but Baton does IPv4 only'],
    ['10.99.0.03', 'no IPv4 address'],
    ['10.99.3', 'no IPv4 address'],
    ['10.99.0.3/24', 'no IPv4 address'],
    ['web.example.org', 'no IPv4 address'],
  ];
  for (const [text, why] of cases) t.equal(whyNotUnicast(text), why, text);
});

t.test('a listener is an address and a port', async (t) => {
  t.same(parseListener('127.0.0.1:8080'), {
    address: addressNumber('127.0.0.1'),
    port: 8080,
  });
  t.same(parseListener('10.99.0.3:65535'), {
    address: addressNumber('10.99.0.3'),
    port: 65_535,
  });
  for (const text of [
    '8080',
    ':8080',
    '127.0.0.1',
    '127.0.0.1:0',
    '127.0.0.1:65536',
    '0.0.0.0:80',
    '[::1]:80',
    '127.0.0.1:080',
  ]) {
    t.equal(parseListener(text), undefined, text);
  }
});

t.test('what a word was probably meant to be', async (t) => {
  const keys = ['interface', 'keyFile', 'nodes', 'log', 'port'];
  t.equal(nearest('kefFile', keys), 'keyFile');
  t.equal(nearest('keyfile', keys), 'keyFile');
  t.equal(nearest('interfcae', keys), 'interface');
  t.equal(nearest('node', keys), 'nodes');
  t.equal(nearest('prot', keys), 'port');
  t.equal(nearest('timeouts', keys), undefined);
  t.equal(nearest('n2', ['n1', 'n3']), undefined, 'of short names each is near to any other');
  t.equal(nearest('N1', ['n1', 'n3']), 'n1');
});
