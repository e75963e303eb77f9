import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { routeTo } from '../../src/host/addresses.js';
import {
  interfaceNames,
  ownAddresses,
  requireInterface,
  requireLoopback,
} from '../../src/host/interfaces.js';
import {
  type Address,
  formatAddress,
  type OwnAddresses,
  requireAddress,
} from '../../src/wire/address.js';
import { insideNamespace, run } from '../kernel/namespace.js';

if (insideNamespace(import.meta.url)) {
  run('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'peer0');

  t.test('an interface that Baton cannot work on is refused', async (t) => {
    t.ok(interfaceNames().includes('eth0'));
    t.throws(() => requireInterface('eth9'), {
      code: 'BATON_INTERFACE',
      where: 'eth9',
      message: 'no such interface',
      hint: `this machine has ${interfaceNames().join(', ')}`,
    });
    t.throws(() => requireInterface('lo'), { code: 'BATON_INTERFACE', message: /loopback/ });
    t.throws(() => requireInterface('eth0'), {
      code: 'BATON_INTERFACE',
      message: 'the interface is down',
    });
  });

  t.test('the own address of an interface', async (t) => {
    run('ip', 'link', 'set', 'eth0', 'up');
    run('ip', 'link', 'set', 'peer0', 'up');
    t.throws(() => ownAddresses('eth0', requireInterface('eth0'), undefined, [], []), {
      code: 'BATON_INTERFACE',
      message: 'has no IPv4 address of its own',
    });
    run('ip', 'address', 'add', '10.99.0.100/32', 'dev', 'eth0');
    run('ip', 'address', 'add', '10.99.0.2/24', 'dev', 'eth0');
    run('ip', 'address', 'add', '10.99.0.7/24', 'dev', 'eth0');
    const info = requireInterface('eth0');
    const virtual = addressNumber('10.99.0.100');
    const own = (wanted: Address | undefined, peers: readonly Address[] = []): OwnAddresses =>
      ownAddresses('eth0', info, wanted, [virtual], peers);
    t.equal(own(undefined).ipv4, addressNumber('10.99.0.2'));
    const second = addressNumber('10.99.0.7');
    t.equal(own(second).ipv4, second);
    t.throws(() => own(addressNumber('10.99.0.8')), {
      message: 'does not have the address 10.99.0.8',
      hint: 'it has 10.99.0.2, 10.99.0.7',
    });
    const peer6 = requireAddress('fd99::3');
    t.throws(() => own(undefined, [peer6]), {
      code: 'BATON_INTERFACE',
      message: 'has no IPv6 address of its own, which fd99::3 needs',
    });
  });

  t.test('one address of each family, and none that belongs to the link alone', async (t) => {
    run('sysctl', '-qw', 'net.ipv6.conf.eth0.disable_ipv6=0');
    run('ip', 'address', 'add', 'fd99::2/64', 'dev', 'eth0', 'nodad');
    run('ip', 'address', 'add', 'fd99::7/64', 'dev', 'eth0', 'nodad');
    const info = requireInterface('eth0');
    const peers = [requireAddress('fd99::3'), requireAddress('10.99.0.3')];
    const own = ownAddresses('eth0', info, requireAddress('fd99::2'), [], peers);
    t.equal(own.ipv6, requireAddress('fd99::2'));
    t.type(own.ipv4, 'number');
    t.notOk(info.addresses.some(({ address }) => formatAddress(address).startsWith('fe80')));
  });

  t.test('the loopback interface must be up', async (t) => {
    t.doesNotThrow(requireLoopback);
    run('ip', 'link', 'set', 'lo', 'down');
    t.throws(requireLoopback, { code: 'BATON_INTERFACE', where: 'lo' });
    run('ip', 'link', 'set', 'lo', 'up');
  });

  t.test('the route to an address', async (t) => {
    run('ip', 'route', 'add', '192.0.2.0/24', 'via', '10.99.0.1');
    t.same(await routeTo(addressNumber('10.99.0.3')), {
      interface: 'eth0',
      gateway: undefined,
      source: addressNumber('10.99.0.2'),
    });
    t.same(await routeTo(addressNumber('192.0.2.1')), {
      interface: 'eth0',
      gateway: addressNumber('10.99.0.1'),
      source: addressNumber('10.99.0.2'),
    });
    t.equal(await routeTo(addressNumber('198.51.100.1')), undefined);
  });
}
