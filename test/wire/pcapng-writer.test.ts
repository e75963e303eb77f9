/** What is written as pcapng reads as the same frames, at the same times. */
import fc from 'fast-check';
import t from 'tap';
import { LinkType } from '../../src/wire/link.js';
import { GrowingBytes } from '../../src/wire/pcap-writer.js';
import { PcapngReader } from '../../src/wire/pcapng.js';
import { PacketDirection, PcapngWriter } from '../../src/wire/pcapng-writer.js';

const INTERFACES = [
  { name: 'eth0', description: 'received' },
  { name: 'eth0-engine', description: 'sent' },
];
const NS = 1_000_000_000n;

t.test('frames of any length at any time', async (t) => {
  const frame = fc.record({
    interface: fc.nat(1),
    time: fc.bigInt(0n, 4_000_000_000n * NS),
    direction: fc.constantFrom(PacketDirection.inbound, PacketDirection.outbound),
    bytes: fc.uint8Array({ maxLength: 70 }),
    more: fc.nat(2_000),
  });
  fc.assert(
    fc.property(fc.array(frame), (frames) => {
      const output = new GrowingBytes();
      const writer = new PcapngWriter(output.append, INTERFACES, 65_535);
      for (const { more, ...rest } of frames)
        writer.frame({ ...rest, length: rest.bytes.length + more });
      writer.statistics(0, 5n * NS, frames.length, 3);
      const reader = new PcapngReader(output.contents().slice());
      for (const { time, bytes, more } of frames) {
        if (!reader.next()) return false;
        const { offset, capturedLength, originalLength, seconds, nanoseconds, linkType } = reader;
        const read = reader.bytes.subarray(offset, offset + capturedLength);
        if (Buffer.compare(read, bytes) !== 0 || originalLength !== bytes.length + more)
          return false;
        if (BigInt(seconds) * NS + BigInt(nanoseconds) !== time || linkType !== LinkType.ethernet)
          return false;
      }
      return !reader.next() && reader.fault === undefined;
    }),
  );
  t.pass();
});

t.test('names, directions and counts are at the places of the specification', async (t) => {
  const output = new GrowingBytes();
  const writer = new PcapngWriter(output.append, INTERFACES, 96);
  writer.frame({
    interface: 1,
    time: (7n << 32n) | 9n,
    direction: PacketDirection.outbound,
    bytes: Uint8Array.of(1, 2, 3),
    length: 60,
  });
  writer.statistics(0, 0n, 10, 4);
  const bytes = output.contents();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const blocks: { type: number; at: number; length: number }[] = [];
  for (let at = 0; at < bytes.length; at += blocks.at(-1)!.length) {
    blocks.push({ type: view.getUint32(at, true), at, length: view.getUint32(at + 4, true) });
  }
  t.strictSame(
    blocks.map(({ type }) => type),
    [0x0a0d0d0a, 1, 1, 6, 5],
  );
  const [, first, , packet, statistics] = blocks;
  t.equal(view.getUint16(first!.at + 8, true), LinkType.ethernet);
  t.equal(view.getUint32(first!.at + 12, true), 96, 'snap length');
  t.equal(Buffer.from(bytes).toString('latin1', first!.at + 20, first!.at + 24), 'eth0');
  const body = packet!.at + 8;
  t.strictSame(
    [0, 4, 8, 12, 16].map((at) => view.getUint32(body + at, true)),
    [1, 7, 9, 3, 60],
  );
  t.strictSame([...bytes.subarray(body + 20, body + 24)], [1, 2, 3, 0], 'padded to a word');
  t.strictSame(
    [
      view.getUint16(body + 24, true),
      view.getUint16(body + 26, true),
      view.getUint32(body + 28, true),
    ],
    [2, 4, PacketDirection.outbound],
  );
  const counts = statistics!.at + 20;
  t.strictSame(
    [0, 12].map((at) => [
      view.getUint16(counts + at, true),
      Number(view.getBigUint64(counts + at + 4, true)),
    ]),
    [
      [4, 10],
      [5, 4],
    ],
  );
});
