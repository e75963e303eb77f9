/** The map of nodes that the XDP program reads while it is written. */
import t from 'tap';
import { addressNumber } from '../../../lab/packet.js';
import { XdpNodes } from '../../../src/balancer/machine/xdp-nodes.js';
import { NODE, NODE_BYTES } from '../../../src/datapath/xdp-layout.js';
import { Aliases } from '../../../src/wire/alias.js';

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const BY = { index: 7, mac: Uint8Array.of(2, 0, 0, 0, 0, 9) };
const MTU = 1_500;

const OWN = { ipv4: addressNumber('10.0.0.9'), ipv6: undefined };

function made(): { nodes: XdpNodes; element: (node: number) => unknown } {
  const memory = new ArrayBuffer(3 * NODE_BYTES);
  const nodes = new XdpNodes(memory, BY, BY, MTU, OWN, new Aliases(new Uint8Array(16)));
  nodes.set(
    ['10.0.0.1', '10.0.0.2'].map((address, slot) => ({ slot, address: addressNumber(address) })),
  );
  const element = (node: number): unknown => {
    const bytes = new Uint8Array(memory, node * NODE_BYTES, NODE_BYTES);
    return {
      address: bytes.slice(NODE.address, NODE.address + 4).join('.'),
      destination: [...bytes.slice(NODE.destination, NODE.destination + 6)],
      source: [...bytes.slice(NODE.source, NODE.source + 6)],
      interface: bytes[NODE.interface],
      redirect: bytes[NODE.redirect],
    };
  };
  return { nodes, element };
}

t.test('a node is used from the time that its MAC address is known', async (t) => {
  const { nodes, element } = made();
  t.match(element(1), { address: '10.0.0.2', interface: 0 });
  nodes.setMac(1, MAC);
  t.same(element(1), {
    address: '10.0.0.2',
    destination: [...MAC],
    source: [...BY.mac],
    interface: BY.index,
    redirect: 0,
  });
  t.match(element(0), { address: '10.0.0.1', interface: 0 });
  nodes.setMac(1, undefined);
  t.match(element(1), { interface: 0 });
});

t.test('packets to nodes behind routers grow', async (t) => {
  const memory = new ArrayBuffer(3 * NODE_BYTES);
  const nodes = new XdpNodes(memory, BY, BY, MTU, OWN, new Aliases(new Uint8Array(16)));
  const view = new DataView(memory);
  const address = addressNumber('10.0.0.1');
  const shown = (slot: number): unknown => {
    const at = slot * NODE_BYTES;
    return [
      view.getUint32(at + NODE.carry, true),
      view.getUint32(at + NODE.most, true),
      view.getUint32(at + NODE.interface, true),
    ];
  };
  nodes.set([
    { slot: 0, address, via: 'link' },
    { slot: 1, address, via: 'ixp' },
  ]);
  for (const slot of [0, 1]) nodes.setMac(slot, MAC);
  t.same([0, 1].map(shown), [
    [0, MTU, BY.index],
    [28, MTU - 28, BY.index],
  ]);
  nodes.set([{ slot: 0, address, via: 'ixp' }]);
  t.same(shown(0), [28, MTU - 28, 0], 'with another way, the MAC address is another one');
  t.same(shown(1), [0, MTU, 0]);
});

t.test('how frames leave holds for all nodes, also for those resolved later', async (t) => {
  const { nodes, element } = made();
  nodes.setMac(0, MAC);
  nodes.setRedirects(true);
  t.match([element(0), element(1)], [{ redirect: 1 }, { redirect: 1 }]);
  nodes.setMac(1, MAC);
  t.match(element(1), { redirect: 1 });
  nodes.setRedirects(false);
  t.match([element(0), element(1)], [{ redirect: 0 }, { redirect: 0 }]);
  t.match(element(2), { redirect: 0, interface: 0 }, 'elements of no node stay empty');
});
