/** ARP of the balancer, and the MAC addresses of nodes as they change. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { ArpPort } from '../../src/balancer/machine/arp-port.js';
import { type NeighbourChange, NeighbourWatch } from '../../src/balancer/machine/neighbours.js';
import type { NodeSlot } from '../../src/balancer/objects/farm.js';
import { native } from '../../src/host/native.js';
import { type ArpPacket, buildArpRequest } from '../../src/wire/arp.js';
import { formatMac } from '../../src/wire/ethernet.js';
import { insideNamespace, macOf, Peer, run, until } from './namespace.js';

const OWN = '10.99.0.2';
const PEER = '10.99.0.3';
const PEER_MAC = '02:00:00:00:00:03';

/**
 * Between two checks of the neighbours, and the time within which a change must be reported without
 * a check.
 */
const LOOK_MS = 1000;
const BEFORE_NEXT_LOOK_MS = 900;

if (insideNamespace(import.meta.url)) {
  const peer = await Peer.make('eth0', `${PEER}/24`, PEER_MAC);
  run('ip', 'address', 'add', `${OWN}/24`, 'dev', 'eth0');
  t.teardown(() => peer.stop());
  const index = (): number => native().interfaceInfo('eth0')?.index ?? 0;

  t.test('ARP in both directions', async (t) => {
    const packets: ArpPacket[] = [];
    const port = new ArpPort(index(), (packet) => packets.push(packet));
    const mac = native().interfaceInfo('eth0')?.mac ?? new Uint8Array(6);
    // More packets than the ring has slots.
    for (let sent = 0; sent < 100; sent++) {
      port.send(buildArpRequest(mac, addressNumber(OWN), addressNumber(PEER)));
      await sleep(1);
    }
    await until('100 answers', () => packets.length >= 100);
    t.ok(
      packets.every(
        (packet) =>
          packet.senderAddress === addressNumber(PEER) && formatMac(packet.senderMac) === PEER_MAC,
      ),
    );
    port.close();
  });

  t.test('neighbours', async (t) => {
    const changes: NeighbourChange[] = [];
    run('ip', 'neigh', 'flush', 'dev', 'eth0');
    const watch = new NeighbourWatch({
      localMac: new Uint8Array(6),
      interface: 'eth0',
      nodes: [PEER, '10.99.0.66', '192.0.2.1', '198.51.100.1'].map((address, slot) => ({
        slot,
        address: addressNumber(address),
      })),
      onChange: (change) => changes.push(change),
    });
    run('ip', 'route', 'add', '192.0.2.1', 'dev', 'eth0');
    const began = performance.now();
    await watch.start();
    const of = (node: number): NeighbourChange[] =>
      changes.filter((change) => change.node === node);
    await until('the first', () => of(0).length === 1);
    t.ok(performance.now() - began < LOOK_MS, 'at once, not at the next check');
    t.same(of(0), [{ node: 0, mac: macOf(PEER_MAC), why: '' }]);
    t.same(of(3), [{ node: 3, mac: undefined, why: '198.51.100.1 is not on the link of eth0' }]);
    await until('silence', () => of(1).length === 1 && of(2).length === 1);
    t.same(of(1), [{ node: 1, mac: undefined, why: '10.99.0.66 does not answer ARP' }]);
    t.same(
      of(2),
      [{ node: 2, mac: undefined, why: '192.0.2.1 does not answer ARP' }],
      'a route makes it reachable on the link',
    );

    peer.run('ip', 'link', 'set', 'eth0', 'address', '02:00:00:00:00:33');
    peer.run('ip', 'address', 'add', '10.99.0.66/24', 'dev', 'eth0');
    run('ip', 'neigh', 'flush', 'dev', 'eth0');
    await until('the new ones', () => of(0).length === 2 && of(1).length === 2);
    t.same(
      of(0)[1],
      { node: 0, mac: macOf('02:00:00:00:00:33'), why: '' },
      'never unknown in between',
    );
    t.same(of(1)[1], { node: 1, mac: macOf('02:00:00:00:00:33'), why: '' });

    // A change is reported when it happens. Two changes in a row: the check of each second would be
    // too late for one of them.
    const moved = async (mac: string): Promise<void> => {
      const seen = of(0).length;
      peer.run('ip', 'link', 'set', 'eth0', 'address', mac);
      await until(`${mac} to be reported`, () => of(0).length > seen, BEFORE_NEXT_LOOK_MS);
      t.same(of(0).at(-1), { node: 0, mac: macOf(mac), why: '' });
    };
    peer.run('sysctl', '-qw', 'net.ipv4.conf.eth0.arp_notify=1');
    await moved('02:00:00:00:00:44');
    await moved('02:00:00:00:00:45');

    // The peer does not announce this change. A doubt about the address causes an ARP request, but
    // not repeatedly.
    peer.run('sysctl', '-qw', 'net.ipv4.conf.eth0.arp_notify=0');
    peer.run('ip', 'link', 'set', 'eth0', 'address', '02:00:00:00:00:55');
    watch.recheck(0);
    await until('the answer', () => of(0).length === 5, BEFORE_NEXT_LOOK_MS);
    t.same(of(0)[4]?.mac, macOf('02:00:00:00:00:55'));
    peer.run('ip', 'link', 'set', 'eth0', 'address', '02:00:00:00:00:33');
    watch.recheck(0);
    t.match(run('ip', 'neigh', 'show', PEER), /02:00:00:00:00:55/);
    await until('a later doubt', () => {
      watch.recheck(0);
      return of(0).length === 6;
    });
    t.same(of(0)[5]?.mac, macOf('02:00:00:00:00:33'));
    // An entry that the kernel did not learn itself stays.
    run(
      'ip',
      'neigh',
      'replace',
      '10.99.0.66',
      'lladdr',
      PEER_MAC,
      'dev',
      'eth0',
      'nud',
      'permanent',
    );
    watch.recheck(1);
    t.match(run('ip', 'neigh', 'show', '10.99.0.66'), /PERMANENT/);
    run('ip', 'neigh', 'del', '10.99.0.66', 'dev', 'eth0');
    const known = of(0).length;

    // Slots get other nodes.
    const slots = (...places: [number, string][]): NodeSlot[] =>
      places.map(([slot, address]) => ({
        slot,
        name: address,
        address: addressNumber(address),
        weight: 1,
        retired: false,
      }));
    peer.run('ip', 'address', 'add', '10.99.0.67/24', 'dev', 'eth0');
    run('ip', 'route', 'add', '192.0.2.2', 'dev', 'eth0');
    peer.run('ip', 'address', 'add', '192.0.2.2/32', 'dev', 'eth0');
    const gone = of(2).length;
    watch.setNodes(slots([0, PEER], [1, '10.99.0.67'], [9, '192.0.2.2'], [500, '198.51.100.2']));
    await until('the new nodes', () => of(9).length > 0 && of(1).at(-1)?.mac !== undefined);
    t.same(of(1).at(-1), { node: 1, mac: macOf('02:00:00:00:00:33'), why: '' });
    t.same(of(9), [{ node: 9, mac: macOf('02:00:00:00:00:33'), why: '' }], 'by its route');
    await until('the other', () => of(500).length > 0);
    t.same(of(500), [
      { node: 500, mac: undefined, why: '198.51.100.2 is not on the link of eth0' },
    ]);
    t.equal(of(0).length, known, 'what is known of a node that stays is no news');
    t.equal(of(2).length, gone, 'nothing about a node that is gone');
    watch.recheck(2);

    run('ip', 'link', 'set', 'eth0', 'down');
    await until('the interface to be down', () => of(0).length === known + 1);
    t.same(of(0)[known], { node: 0, mac: undefined, why: 'interface eth0 is down' });
    run('ip', 'link', 'set', 'eth0', 'up');
    await until('it is back', () => of(0).length === known + 2);
    watch.stop();
  });
}
