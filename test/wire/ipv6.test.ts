/** IPv6: addresses as text, aliases, and neighbour discovery. */
import fc from 'fast-check';
import t from 'tap';
import {
  type Address6,
  addressBytes,
  formatAddress,
  formatEndpoint,
  isAddress6,
  isLoopback,
  parseAddress,
  requireAddress,
  sameNetwork,
  toAddress6,
  wordsOf,
} from '../../src/wire/address.js';
import { Aliases, aliasKey } from '../../src/wire/alias.js';
import { buildNdpAnnouncement, buildNdpProbe, NdpType, parseNdp } from '../../src/wire/ndp.js';
import { check } from '../support/c-values.js';

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 7);
const VIRTUAL = address6('fd99::100');

function address6(text: string): Address6 {
  const address = requireAddress(text);
  if (!isAddress6(address)) throw new Error(`${text} is not IPv6`);
  return address;
}

const words = fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff_ffff })), {
  minLength: 4,
  maxLength: 4,
});

t.test('an address becomes text and back, in the form of RFC 5952', async (t) => {
  fc.assert(
    fc.property(words, (four) => {
      const address = toAddress6(four);
      const text = formatAddress(address);
      // The URL parser of Node.js writes addresses in this form.
      return (
        parseAddress(text) === address &&
        new URL(`http://[${text}]/`).hostname === `[${text}]` &&
        wordsOf(address).every((word, index) => word === four[index])
      );
    }),
  );
  t.equal(parseAddress('::ffff:10.0.0.1'), parseAddress('::ffff:a00:1'));
  t.equal(formatAddress(address6('1:0:0:2:0:0:0:3')), '1:0:0:2::3');
  t.equal(formatAddress(address6('1:0:2:3:4:5:6:7')), '1:0:2:3:4:5:6:7');
  for (const wrong of [
    '',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '::12345',
    '1:2:3:4:5:6:7::8',
    '::1%2',
    '::g',
    '::1.2.3.256',
    '1.2.3.4::',
    '::1.2.3.4:5',
  ])
    t.equal(parseAddress(wrong), undefined, wrong);
  t.equal(formatEndpoint({ address: VIRTUAL, port: 80 }), '[fd99::100]:80');
  t.ok(isLoopback(address6('::1')));
  t.ok(sameNetwork(VIRTUAL, address6('fd99::1'), 64));
  t.notOk(sameNetwork(VIRTUAL, address6('fd98::1'), 16));
  t.notOk(sameNetwork(VIRTUAL, requireAddress('10.0.0.1'), 0), 'of another family');
  t.equal(Buffer.from(addressBytes(VIRTUAL)).toString('hex'), 'fd990000000000000000000000000100');
});

t.test('kernel and engine give an address the same alias', async (t) => {
  const key = Uint8Array.from({ length: 16 }, (_, index) => index * 11);
  const aliases = new Aliases(key);
  const given = [...aliasKey(key)].map((word) => `${word}U`).join(',');
  const some = ['fd99::100', '2001:db8::1', '::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'];
  check(
    t,
    'alias.h',
    some.map((text) => {
      const bytes = [...addressBytes(address6(text))].join(',');
      const address = `&(struct in6_addr){.in6_u.u6_addr8={${bytes}}}`;
      return [
        `BE32(alias_of(${address},(const __u32[]){${given}}))`,
        aliases.of(address6(text)),
      ] as [string, number];
    }),
  );
  t.not(aliases.of(VIRTUAL), new Aliases(new Uint8Array(16)).of(VIRTUAL), 'another key');
  fc.assert(
    fc.property(words, words, (one, other) => {
      const same = one.every((word, index) => word === other[index]);
      return same || aliases.of(toAddress6(one)) !== aliases.of(toAddress6(other));
    }),
  );
});

t.test('a probe and an announcement are what they say', async (t) => {
  t.match(parseNdp(buildNdpProbe(MAC, VIRTUAL)), {
    type: NdpType.solicitation,
    source: 0n,
    target: VIRTUAL,
    mac: MAC,
  });
  const announcement = buildNdpAnnouncement(MAC, VIRTUAL);
  t.match(parseNdp(announcement), {
    type: NdpType.advertisement,
    source: VIRTUAL,
    target: VIRTUAL,
    mac: MAC,
  });
  t.equal(Buffer.from(announcement.subarray(0, 6)).toString('hex'), '333300000001');
});

t.test('a malformed message is none', async (t) => {
  const frame = buildNdpAnnouncement(MAC, VIRTUAL);
  for (let length = 0; length < frame.length; length++)
    t.equal(parseNdp(frame.slice(0, length)), undefined, `cut to ${length} bytes`);
  // Every byte counts that the checksum covers, and each field that it does not.
  const free = new Set([...Array(12).keys(), 15, 16, 17]);
  for (let at = 0; at < frame.length; at++) {
    if (free.has(at)) continue;
    const changed = frame.slice();
    changed[at]! ^= at === 14 ? 0x10 : 0x01;
    t.equal(parseNdp(changed), undefined, `byte ${at} changed`);
  }
  const random = fc.uint8Array({ minLength: 0, maxLength: 120 });
  fc.assert(
    fc.property(random, (bytes) => {
      const mixed = frame.slice();
      mixed.set(bytes.subarray(0, frame.length - 54), 54);
      return parseNdp(bytes) === undefined && (parseNdp(mixed) === undefined || bytes.length < 3);
    }),
  );
});
