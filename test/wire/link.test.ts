import t from 'tap';
import { ipv4Offset, LinkType, NoIpv4 } from '../../src/wire/link.js';

const IP = [0x45, 0, 0, 20];
const IP6 = [0x60, 0, 0, 0];
const MACS = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
const COOKED = [0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0];
const COOKED_2_REST = [0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 2, 0, 0];

// what it is, link type, frame, offset of its IPv4 header
const cases: [string, number, number[], number][] = [
  ['Ethernet', LinkType.ethernet, [...MACS, 8, 0, ...IP], 14],
  ['Ethernet, 802.1Q', LinkType.ethernet, [...MACS, 0x81, 0, 0, 5, 8, 0, ...IP], 18],
  [
    'Ethernet, 802.1ad and 802.1Q',
    LinkType.ethernet,
    [...MACS, 0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0, ...IP],
    22,
  ],
  ['Ethernet, ARP', LinkType.ethernet, [...MACS, 8, 6, ...IP], NoIpv4.other],
  ['Ethernet, IPv6', LinkType.ethernet, [...MACS, 0x86, 0xdd, ...IP6], NoIpv4.other],
  ['Ethernet, IPv4 by type alone', LinkType.ethernet, [...MACS, 8, 0, ...IP6], NoIpv4.other],
  ['Ethernet, nothing behind its header', LinkType.ethernet, [...MACS, 8, 0], NoIpv4.other],
  ['Ethernet, cut off within a tag', LinkType.ethernet, [...MACS, 0x81, 0, 0, 5, 8], NoIpv4.other],
  ['Ethernet, cut off', LinkType.ethernet, MACS.slice(0, 9), NoIpv4.other],
  ['Linux cooked', LinkType.linuxCooked, [...COOKED, 8, 0, ...IP], 16],
  ['Linux cooked, tagged', LinkType.linuxCooked, [...COOKED, 0x81, 0, 0, 5, 8, 0, ...IP], 20],
  ['Linux cooked, ARP', LinkType.linuxCooked, [...COOKED, 8, 6, ...IP], NoIpv4.other],
  ['Linux cooked, cut off', LinkType.linuxCooked, [...COOKED, 8], NoIpv4.other],
  ['Linux cooked 2', LinkType.linuxCooked2, [8, 0, ...COOKED_2_REST, ...IP], 20],
  [
    'Linux cooked 2, IPv6',
    LinkType.linuxCooked2,
    [0x86, 0xdd, ...COOKED_2_REST, ...IP6],
    NoIpv4.other,
  ],
  ['Linux cooked 2, cut off', LinkType.linuxCooked2, [8, 0, ...COOKED_2_REST], NoIpv4.other],
  ['raw IP', LinkType.raw, IP, 0],
  ['raw IP, OpenBSD', LinkType.rawOpenBsd, IP, 0],
  ['raw IP, others', LinkType.rawOther, IP, 0],
  ['raw IPv4', LinkType.rawIpv4, IP, 0],
  ['raw IP, IPv6', LinkType.raw, IP6, NoIpv4.other],
  ['raw IP, empty', LinkType.raw, [], NoIpv4.other],
  ['loopback, little-endian', LinkType.null, [2, 0, 0, 0, ...IP], 4],
  ['loopback, big-endian', LinkType.null, [0, 0, 0, 2, ...IP], 4],
  ['loopback, IPv6', LinkType.null, [30, 0, 0, 0, ...IP6], NoIpv4.other],
  ['loopback of OpenBSD', LinkType.loop, [0, 0, 0, 2, ...IP], 4],
  ['loopback of OpenBSD, wrong order', LinkType.loop, [2, 0, 0, 0, ...IP], NoIpv4.other],
  ['loopback, cut off', LinkType.null, [2, 0, 0, 0], NoIpv4.other],
  ['wireless', 105, [...MACS, 8, 0, ...IP], NoIpv4.unknownLink],
];

t.test('the IPv4 header is found behind each link layer', async (t) => {
  for (const [name, linkType, frame, expected] of cases) {
    for (const before of [0, 7]) {
      // Nothing behind the frame may be looked at: it would look like IPv4.
      const bytes = Uint8Array.from([
        ...new Array<number>(before).fill(0x45),
        ...frame,
        8,
        0,
        0x45,
        0x45,
      ]);
      const found = ipv4Offset(new DataView(bytes.buffer), linkType, before, frame.length);
      t.equal(found, expected < 0 ? expected : expected + before, `${name} at ${before}`);
    }
  }
});
