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

t.test('a unicast address is one that a machine on a link can have', async (t) => {
  const cases: [string, string | undefined][] = [
    ['10.99.0.3', undefined],
    ['223.255.255.255', undefined],
    ['0.0.0.0', 'an address that no machine can have'],
    ['127.0.0.1', 'a loopback address'],
    ['224.0.0.1', 'a multicast address'],
    ['255.255.255.255', 'a reserved or broadcast address'],
    ['::1', 'a loopback address'],
    ['::ffff:10.0.0.1', 'an IPv4 address in the form of IPv6'],
    ['fd99::3', undefined],
    ['10.99.0.03', 'not an IP address'],
    ['10.99.3', 'not an IP address'],
    ['10.99.0.3/24', 'not an IP address'],
    ['web.example.org', 'not an IP address'],
  ];
  for (const [text, why] of cases) t.equal(whyNotUnicast(text), why, text);
});

t.test('an IPv6 address is one as well, in its usual form', async (t) => {
  const cases: [string, string | undefined][] = [
    ['10.99.0.3', undefined],
    ['fd99::100', undefined],
    ['2001:db8::1', undefined],
    ['::', 'an address that no machine can have'],
    ['::1', 'a loopback address'],
    ['ff02::1', 'a multicast address'],
    ['fe80::1', 'a link-local address, which is not unique'],
    ['::ffff:10.0.0.1', 'an IPv4 address in the form of IPv6'],
    ['FD99::100', 'not in the usual form fd99::100 (RFC 5952)'],
    ['fd99:0::100', 'not in the usual form fd99::100 (RFC 5952)'],
    ['fd99::/64', 'not an IP address'],
    ['fd99::1%eth0', 'not an IP address'],
    ['10.99.0.03', 'not an IP address'],
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

t.test('the known word that is nearest to a mistyped one', async (t) => {
  const keys = ['interface', 'keyFile', 'nodes', 'log', 'port'];
  t.equal(nearest('kefFile', keys), 'keyFile');
  t.equal(nearest('keyfile', keys), 'keyFile');
  t.equal(nearest('interfcae', keys), 'interface');
  t.equal(nearest('node', keys), 'nodes');
  t.equal(nearest('prot', keys), 'port');
  t.equal(nearest('timeouts', keys), undefined);
  t.equal(nearest('n2', ['n1', 'n3']), undefined, 'among short names each is near to the others');
  t.equal(nearest('N1', ['n1', 'n3']), 'n1');
});
