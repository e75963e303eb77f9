/** What the API gets of the objects of a balancer. */
import t from 'tap';
import { httpServer, serverSlot } from '../../../lab/virtual-server.js';
import { BalancerControl, type ControlParts } from '../../../src/balancer/objects/control.js';
import { requireAddress } from '../../../src/wire/address.js';

t.test(
  'a name means the object in use, also while a removed one of that name has sessions',
  async (t) => {
    const node = { name: 'n1', address: '10.99.0.3', condition: 'removed' };
    const www = (port: number) => httpServer('www', requireAddress('10.99.0.100'), port);
    const nodes = [node];
    const servers = [serverSlot(0, www(80), { retired: true })];
    const control = new BalancerControl({
      stats: { stats: async () => ({ nodes }) },
      engine: { snapshot: async () => ({ perServer: [], heldByServer: [4, 5] }) },
      farm: { farm: { servers } },
    } as unknown as ControlParts);
    t.match(await control.node('n1'), { condition: 'removed' });
    t.match(await control.virtualServer('www'), { state: 'removed', held: 4 });
    nodes.push({ ...node, address: '10.99.0.9', condition: 'up' });
    servers.push(serverSlot(1, www(8080)));
    t.match(await control.node('n1'), { condition: 'up', address: '10.99.0.9' });
    t.match(await control.virtualServer('www'), { state: 'up', port: 8080, held: 5 });
    await t.rejects(control.node('n2'), { code: 'BATON_UNKNOWN' });
  },
);
