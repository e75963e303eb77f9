/** The listening sockets of this machine, as `listeners.ts` reads them. */
import t from 'tap';
import { addressNumber } from '../../../lab/packet.js';
import { parseListening } from '../../../src/balancer/machine/listeners.js';
import { requireAddress } from '../../../src/wire/address.js';

const VIRTUAL = '10.99.0.100';

t.test('the listening sockets of /proc/net/tcp', async (t) => {
  const text = [
    '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode',
    '   0: 6400630A:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0',
    '   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0',
    '   2: 0100007F:0050 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4713 1 0',
    '   3: 00000000000000000000000000000000:0050 0:0 0A 0 0 0 0 0 4714',
    '   4: 0000000000000000FFFF00006400630A:0051 0:0 0A 0:0 0:0 0 0 0 4715 1 0',
    '   5: 00000000000000000000000001000000:0051 0:0 0A 0:0 0:0 0 0 0 4716 1 0',
    'nonsense',
  ].join('\n');
  t.match(parseListening(text), [
    { address: addressNumber(VIRTUAL), port: 80, inode: '4711' },
    { address: addressNumber('0.0.0.0'), port: 8080, inode: '4712' },
    { address: undefined, port: 80 },
    { address: addressNumber(VIRTUAL), port: 81, inode: '4715' },
    { address: requireAddress('::1'), port: 81, inode: '4716' },
  ]);
  t.equal(parseListening(text).length, 5);
});
