import t from 'tap';
import { openCapture } from '../../src/wire/capture-file.js';
import type { CaptureReader } from '../../src/wire/pcap.js';
import { PcapngReader } from '../../src/wire/pcapng.js';
import { block, capture, FileBuilder } from '../support/captures.js';

const SECTION = 0x0a0d0d0a;
const BYTE_ORDER = 0x1a2b3c4d;

/** One byte order for all that it builds. */
class Blocks {
  constructor(readonly littleEndian: boolean) {}

  body(): FileBuilder {
    return new FileBuilder(this.littleEndian);
  }

  block(type: number, body: FileBuilder): Uint8Array {
    return block(this.littleEndian, type, body.build());
  }

  section(major = 1): Uint8Array {
    return this.block(
      SECTION,
      this.body().u32(BYTE_ORDER).u16(major, 0).u32(0xffff_ffff, 0xffff_ffff),
    );
  }

  /** An interface with the bytes of options. */
  interface(linkType: number, snapLength = 0, options: FileBuilder = this.body()): Uint8Array {
    return this.block(1, this.body().u16(linkType, 0).u32(snapLength).bytes(options.build()));
  }

  resolution(value: number): FileBuilder {
    return this.body().u16(9, 1).u8(value, 0, 0, 0);
  }

  enhanced(
    index: number,
    high: number,
    low: number,
    data: readonly number[],
    original = data.length,
  ): Uint8Array {
    return this.block(6, this.body().u32(index, high, low, data.length, original).bytes(data));
  }
}

function join(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

function readAll(reader: CaptureReader): (readonly [number, number, number, number[], number])[] {
  const seen: (readonly [number, number, number, number[], number])[] = [];
  while (reader.next()) {
    const bytes = [...reader.bytes.subarray(reader.offset, reader.offset + reader.capturedLength)];
    seen.push([reader.linkType, reader.seconds, reader.nanoseconds, bytes, reader.originalLength]);
  }
  return seen;
}

/** A count of 10^-6 s in the two halves of a timestamp. */
function halves(count: number): [number, number] {
  return [Math.floor(count / 2 ** 32), count % 2 ** 32];
}

for (const littleEndian of [true, false]) {
  const b = new Blocks(littleEndian);
  const order = littleEndian ? 'little-endian' : 'big-endian';

  t.test(`${order}: all packet blocks, and blocks and options to skip`, async (t) => {
    const options = b.body().u16(2, 3).bytes([0x65, 0x74, 0x68]).pad().u16(0, 0);
    const file = join(
      b.section(),
      b.interface(1, 0, options),
      b.interface(101),
      b.block(0x0bad, b.body().bytes([1, 2, 3, 4, 5])),
      b.enhanced(0, ...halves(1_700_000_000_123_456), [1, 2, 3]),
      b.enhanced(1, ...halves(1_700_000_001_000_000), [4], 60),
      b.block(
        2,
        b
          .body()
          .u16(1, 5)
          .u32(...halves(1_700_000_002_000_000), 2, 2)
          .bytes([5, 6]),
      ),
      b.block(3, b.body().u32(2).bytes([7, 8])),
      b.block(5, b.body().u32(0, 0, 0)),
    );
    const reader = openCapture(file)!;
    t.strictSame(readAll(reader), [
      [1, 1_700_000_000, 123_456_000, [1, 2, 3], 3],
      [101, 1_700_000_001, 0, [4], 60],
      [101, 1_700_000_002, 0, [5, 6], 2],
      [1, 1_700_000_002, 0, [7, 8], 2],
    ]);
    t.equal(reader.fault, undefined);
  });

  t.test(`${order}: a simple packet is cut at the snap length`, async (t) => {
    const file = join(b.section(), b.interface(1, 2), b.block(3, b.body().u32(60).bytes([7, 8])));
    t.strictSame(readAll(openCapture(file)!), [[1, 0, 0, [7, 8], 60]]);
  });

  t.test(`${order}: an offset of the clock, before and after 1970`, async (t) => {
    const offset = (high: number, low: number): FileBuilder =>
      b
        .body()
        .u16(14, 8)
        .u32(...(littleEndian ? [low, high] : [high, low]));
    const file = join(
      b.section(),
      b.interface(1, 0, offset(0, 1_000)),
      b.interface(1, 0, offset(0xffff_ffff, 0xffff_fff6)),
      b.enhanced(0, 0, 5_000_000, []),
      b.enhanced(1, 0, 15_000_000, []),
    );
    t.strictSame(readAll(openCapture(file)!), [
      [1, 1_005, 0, [], 0],
      [1, 5, 0, [], 0],
    ]);
  });
}

t.test('resolutions: powers of ten and of two', async (t) => {
  const b = new Blocks(true);
  // resolution, count as a bigint of the test, what it is in seconds and nanoseconds
  const cases: [number, bigint, number, number][] = [
    [0, 1_700_000_000n, 1_700_000_000, 0],
    [3, 1_700_000_000_123n, 1_700_000_000, 123_000_000],
    [6, 1_700_000_000_999_999n, 1_700_000_000, 999_999_000],
    [9, 1_700_000_000_123_456_789n, 1_700_000_000, 123_456_789],
    [9, 1_700_000_000_999_999_999n, 1_700_000_000, 999_999_999],
    [10, 17_000_000_001_234_567_891n, 1_700_000_000, 123_456_789],
    [12, 1_700_000_123_456_789_012n, 1_700_000, 123_456_789],
    [13, 12_345_123_456_789_012n, 1_234, 512_345_678],
    [0x80, 1_700_000_000n, 1_700_000_000, 0],
    [0x80 + 10, 1_700_000_000n * 1024n + 512n, 1_700_000_000, 500_000_000],
    [0x80 + 32, (1_700_000_000n << 32n) + (1n << 30n), 1_700_000_000, 250_000_000],
    [0x80 + 45, (300_000n << 45n) + (1n << 44n), 300_000, 500_000_000],
    [0x80 + 60, (3n << 60n) + (1n << 59n), 3, 500_000_000],
    [0x80 + 64, 1n << 63n, 0, 500_000_000],
  ];
  for (const [resolution, count, seconds, nanoseconds] of cases) {
    const file = join(
      b.section(),
      b.interface(1, 0, b.resolution(resolution)),
      b.enhanced(0, Number(count >> 32n), Number(count & 0xffff_ffffn), []),
    );
    t.strictSame(
      readAll(openCapture(file)!),
      [[1, seconds, nanoseconds, [], 0]],
      `${resolution}: ${count}`,
    );
  }
});

t.test('sections: each with its byte order and its own interfaces', async (t) => {
  const little = new Blocks(true);
  const big = new Blocks(false);
  const file = join(
    little.section(),
    little.interface(1),
    little.enhanced(0, 0, 1_000_000, [1]),
    big.section(),
    big.interface(113),
    big.interface(276),
    big.enhanced(1, 0, 2_000_000, [2]),
    little.section(),
    little.enhanced(0, 0, 3_000_000, [3]),
  );
  const reader = openCapture(file)!;
  t.strictSame(readAll(reader), [
    [1, 1, 0, [1], 1],
    [276, 2, 0, [2], 1],
  ]);
  t.match(
    reader.fault?.message,
    /interface 0, which has no description/,
    'the third section has none',
  );
});

t.test('damage is reported with its place, and the frames before it are read', async (t) => {
  const b = new Blocks(true);
  const start = join(b.section(), b.interface(1));
  const good = join(start, b.enhanced(0, 0, 0, [1, 2, 3, 4]));
  const at = good.length;
  const with32 = (offset: number, value: number): Uint8Array => {
    const file = good.slice();
    new DataView(file.buffer).setUint32(offset, value, true);
    return file;
  };
  const cases: [string, Uint8Array, number, number, RegExp][] = [
    [
      'a block cut off',
      join(good, Uint8Array.of(6, 0, 0, 0)),
      1,
      at,
      /block is cut off after 4 bytes/,
    ],
    [
      'a block longer than the file',
      good.subarray(0, at - 4),
      0,
      start.length,
      /36 bytes is cut off after 32/,
    ],
    [
      'a length that is no multiple of 4',
      with32(start.length + 4, 37),
      0,
      start.length + 4,
      /length of 37 bytes/,
    ],
    ['a length of 0', with32(start.length + 4, 0), 0, start.length + 4, /length of 0 bytes/],
    [
      'lengths that differ',
      with32(at - 4, 40),
      0,
      at - 4,
      /differ: 36 at its start, 40 at its end/,
    ],
    [
      'another interface',
      with32(start.length + 8, 7),
      0,
      start.length + 8,
      /interface 7, which has no description/,
    ],
    [
      'more captured than there is',
      with32(start.length + 20, 5),
      0,
      start.length,
      /claims 5 captured bytes, but its block has 4/,
    ],
    [
      'a packet block too short',
      join(start, b.block(6, b.body().u32(0))),
      0,
      start.length,
      /packet block is too short/,
    ],
    [
      'a simple packet too short',
      join(start, b.block(3, b.body())),
      0,
      start.length,
      /packet block is too short/,
    ],
    [
      'a simple packet without interface',
      join(b.section(), b.block(3, b.body().u32(0))),
      0,
      28,
      /has no description/,
    ],
    [
      'an interface block too short',
      join(b.section(), b.block(1, b.body().u32(1))),
      0,
      28,
      /interface block is too short/,
    ],
    [
      'an option that reaches too far',
      join(b.section(), b.interface(1, 0, b.body().u16(9, 9).u32(0))),
      0,
      44,
      /option 9 of 9 bytes reaches past its block/,
    ],
    ['another version', b.section(2), 0, 12, /version 2\.0 is not supported/],
    ['no byte order', join(b.section().fill(0, 8, 12)), 0, 8, /no byte-order magic/],
    ['a section header cut off', b.section().subarray(0, 20), 0, 0, /section header is cut off/],
  ];
  for (const [name, file, frames, offset, message] of cases) {
    const reader = openCapture(file)!;
    t.equal(readAll(reader).length, frames, name);
    t.equal(reader.fault?.offset, offset, name);
    t.match(reader.fault?.message, message, name);
    t.equal(reader.next(), false, 'no frame follows the damage');
  }
  const reader = new PcapngReader(join(b.interface(1), good));
  t.equal(reader.next(), false);
  t.match(reader.fault, { offset: 0, message: 'this is not a pcapng file' });
});

t.test('the recorded file', async (t) => {
  const frames = readAll(openCapture(capture('zeek-image-1080-80-x.pcapng'))!);
  t.equal(frames.length, 17);
  t.ok(
    frames.every(([linkType, , , bytes, original]) => linkType === 1 && bytes.length === original),
  );
});
