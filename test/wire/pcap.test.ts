import t from 'tap';
import { openCapture } from '../../src/wire/capture-file.js';
import { LinkType } from '../../src/wire/link.js';
import { type CaptureReader, PcapReader } from '../../src/wire/pcap.js';
import { GrowingBytes, PcapWriter } from '../../src/wire/pcap-writer.js';
import { CAPTURES, capture, FileBuilder } from '../support/captures.js';

const MICRO = 0xa1b2c3d4;
const NANO = 0xa1b23c4d;

interface Seen {
  linkType: number;
  seconds: number;
  nanoseconds: number;
  bytes: number[];
  originalLength: number;
}

function readAll(reader: CaptureReader): Seen[] {
  const seen: Seen[] = [];
  while (reader.next()) {
    const { linkType, seconds, nanoseconds, originalLength, offset, capturedLength } = reader;
    const bytes = [...reader.bytes.subarray(offset, offset + capturedLength)];
    seen.push({ linkType, seconds, nanoseconds, bytes, originalLength });
  }
  return seen;
}

function header(
  littleEndian: boolean,
  magic: number,
  link = 1,
  major = 2,
  minor = 4,
  snap = 65_535,
): FileBuilder {
  return new FileBuilder(littleEndian).u32(magic).u16(major, minor).u32(0, 0, snap, link);
}

for (const littleEndian of [true, false]) {
  for (const magic of [MICRO, NANO]) {
    t.test(
      `${littleEndian ? 'little' : 'big'}-endian, ${magic === NANO ? 'nano' : 'micro'}seconds`,
      async (t) => {
        const file = header(littleEndian, magic)
          .u32(1_700_000_000, 123_456, 3, 3)
          .bytes([1, 2, 3])
          .u32(1_700_000_001, 999_999, 2, 60)
          .bytes([4, 5])
          .u32(4_294_967_295, 0, 0, 0)
          .build();
        const unit = magic === NANO ? 1 : 1000;
        const reader = openCapture(file)!;
        t.strictSame(readAll(reader), [
          {
            linkType: 1,
            seconds: 1_700_000_000,
            nanoseconds: 123_456 * unit,
            bytes: [1, 2, 3],
            originalLength: 3,
          },
          {
            linkType: 1,
            seconds: 1_700_000_001,
            nanoseconds: 999_999 * unit,
            bytes: [4, 5],
            originalLength: 60,
          },
          { linkType: 1, seconds: 4_294_967_295, nanoseconds: 0, bytes: [], originalLength: 0 },
        ]);
        t.equal(reader.fault, undefined);
        t.equal(reader.next(), false, 'the end stays the end');
      },
    );
  }
}

t.test('the time in ms keeps its fraction', async (t) => {
  const reader = openCapture(header(true, NANO).u32(1_700_000_000, 123_456_789, 0, 0).build())!;
  t.ok(reader.next());
  t.ok(
    Math.abs(reader.timestamp - 1_700_000_000_000 - 123.456_789) < 0.000_25,
    String(reader.timestamp),
  );
});

t.test('the upper half of the link type field is ignored', async (t) => {
  const reader = openCapture(header(true, MICRO, 0x5000_0001).u32(1, 0, 0, 0).build())!;
  t.ok(reader.next());
  t.equal(reader.linkType, LinkType.ethernet);
});

t.test('a fraction beyond a second is carried over', async (t) => {
  const reader = openCapture(header(true, MICRO).u32(7, 2_500_000, 0, 0).build())!;
  t.ok(reader.next());
  t.match(reader, { seconds: 9, nanoseconds: 500_000_000 });
});

t.test('old versions have the two lengths in reverse order', async (t) => {
  for (const [minor, first, second] of [
    [2, 60, 2],
    [3, 60, 2],
    [3, 2, 60],
    [4, 2, 60],
  ] as const) {
    const reader = openCapture(
      header(true, MICRO, 1, 2, minor).u32(1, 0, first, second).u8(8, 9).build(),
    )!;
    t.ok(reader.next(), `2.${minor}`);
    t.match(reader, { capturedLength: 2, originalLength: 60 }, `2.${minor}`);
  }
});

t.test('damage is reported with its place, and the frames before it are read', async (t) => {
  const good = (): FileBuilder => header(true, MICRO).u32(1, 0, 2, 2).u8(1, 2);
  const cases: [string, Uint8Array, number, number, RegExp][] = [
    [
      'a header of a record cut off',
      good().u32(1, 0, 2).build(),
      1,
      42,
      /record header is cut off after 12 bytes/,
    ],
    [
      'a frame cut off',
      good().u32(1, 0, 9, 9).u8(1).build(),
      1,
      42,
      /frame of 9 bytes is cut off after 1$/,
    ],
    [
      'an absurd length',
      good().u32(1, 0, 262_145, 9).build(),
      1,
      42,
      /claims 262145 captured bytes/,
    ],
    ['another version', header(true, MICRO, 1, 3).build(), 0, 4, /version 3\.4 is not supported/],
    [
      'a file header cut off',
      header(true, MICRO).build().subarray(0, 23),
      0,
      0,
      /cut off after 23 bytes/,
    ],
  ];
  for (const [name, file, frames, offset, message] of cases) {
    const reader = openCapture(file)!;
    t.equal(readAll(reader).length, frames, name);
    t.equal(reader.fault?.offset, offset, name);
    t.match(reader.fault?.message, message, name);
    t.equal(reader.next(), false, 'no frame follows the damage');
  }
});

t.test('a snap length above the default allows longer frames', async (t) => {
  const frame = new Uint8Array(300_000).fill(7);
  const file = header(true, MICRO, 1, 2, 4, 400_000).u32(1, 0, frame.length, frame.length).build();
  const whole = new Uint8Array(file.length + frame.length);
  whole.set(file);
  whole.set(frame, file.length);
  const reader = openCapture(whole)!;
  t.ok(reader.next());
  t.equal(reader.capturedLength, 300_000);
});

t.test('a file that is not a capture is refused', async (t) => {
  t.equal(openCapture(new Uint8Array(0)), undefined);
  t.equal(openCapture(new TextEncoder().encode('interface: eth0\n')), undefined);
  const reader = new PcapReader(Uint8Array.of(1, 2, 3, 4));
  t.equal(reader.next(), false);
  t.match(reader.fault, { offset: 0, message: 'this is not a pcap file' });
});

t.test('a reader can read a part of a larger buffer', async (t) => {
  const file = header(true, MICRO).u32(1, 0, 2, 2).u8(1, 2).build();
  const larger = new Uint8Array(file.length + 20).fill(0xee);
  larger.set(file, 13);
  t.strictSame(
    readAll(openCapture(larger.subarray(13, 13 + file.length))!),
    readAll(openCapture(file)!),
  );
});

t.test('a written file is read back', async (t) => {
  for (const nanoseconds of [true, false]) {
    const file = new GrowingBytes();
    const writer = new PcapWriter(file.append, { nanoseconds, linkType: LinkType.raw });
    const memory = Uint8Array.of(9, 9, 1, 2, 3, 9);
    writer.frame(memory, 2, 3, 1_700_000_000, 123_456_789);
    memory.fill(0);
    writer.frame(memory, 0, 0, 1_700_000_001, 0);
    const exact = nanoseconds ? 123_456_789 : 123_456_000;
    const reader = openCapture(file.contents())!;
    t.strictSame(readAll(reader), [
      {
        linkType: 101,
        seconds: 1_700_000_000,
        nanoseconds: exact,
        bytes: [1, 2, 3],
        originalLength: 3,
      },
      { linkType: 101, seconds: 1_700_000_001, nanoseconds: 0, bytes: [], originalLength: 0 },
    ]);
    t.equal(reader.fault, undefined);
  }
});

t.test('a frame that is too long for readers is cut, and its record shows that', async (t) => {
  const file = new GrowingBytes();
  new PcapWriter(file.append).frame(new Uint8Array(300_000), 0, 300_000, 1, 0);
  const reader = openCapture(file.contents())!;
  t.ok(reader.next());
  t.match(reader, { capturedLength: 262_144, originalLength: 300_000 });
  t.equal(reader.next(), false);
  t.equal(reader.fault, undefined);
});

t.test('every recorded pcap file, written again, is the same file', async (t) => {
  for (const name of CAPTURES) {
    const bytes = capture(name);
    const file = new GrowingBytes();
    const writer = new PcapWriter(file.append, { nanoseconds: false });
    const reader = openCapture(bytes)!;
    while (reader.next()) {
      writer.frame(bytes, reader.offset, reader.capturedLength, reader.seconds, reader.nanoseconds);
    }
    t.equal(reader.fault, undefined, name);
    if (name.endsWith('.pcapng')) continue;
    const copy = file.contents().slice();
    copy.set(bytes.subarray(16, 20), 16); // the snap lengths of the recordings differ
    t.ok(Buffer.from(copy).equals(bytes), name);
  }
});
