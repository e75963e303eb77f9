/** Segments larger than a frame of the wire: the pieces together equal the whole. */
import fc from 'fast-check';
import t from 'tap';
import { build, type PacketSpec } from '../../lab/packet.js';
import { SegmentCutter } from '../../src/datapath/cutter.js';
import { finish, sumBytes } from '../../src/wire/checksum.js';
import { verifyTcpChecksum } from '../../src/wire/tcp.js';

const IP = 14;
const TCP = 34;
const FIN = 1;
const PSH = 8;
/** Offsets of the frame in its memory, and of the piece in its own. */
const FROM = 5;
const INTO = 3;

interface Piece {
  frame: Uint8Array;
  sequence: number;
  flags: number;
  payload: Uint8Array;
}

function cut(frame: Uint8Array, most: number, cutter = new SegmentCutter()): Piece[] {
  const memory = new Uint8Array(FROM + frame.length + 9);
  memory.set(frame, FROM);
  if (!cutter.take(memory, FROM, frame.length)) throw new Error('not taken');
  const pieces: Piece[] = [];
  while (cutter.more) {
    const bytes = new Uint8Array(INTO + most);
    const length = cutter.next({ bytes, view: new DataView(bytes.buffer) }, INTO, most);
    const piece = bytes.slice(INTO, INTO + length);
    const view = new DataView(piece.buffer);
    const payload = piece.subarray(TCP + (view.getUint8(TCP + 12) >> 4) * 4);
    pieces.push({
      frame: piece,
      sequence: view.getUint32(TCP + 4),
      flags: view.getUint8(TCP + 13),
      payload,
    });
  }
  return pieces;
}

const spec = (
  payload: Uint8Array,
  sequence: number,
  flags: string,
  timestamps: boolean,
): PacketSpec => ({
  ip: { source: '10.1.2.3', destination: '10.99.0.100', id: 77, ttl: 9, tos: 2 },
  tcp: {
    sourcePort: 40_000,
    destinationPort: 80,
    seq: sequence,
    ack: 7,
    flags,
    ...(timestamps ? { options: { timestamps: [1, 2] as [number, number] } } : {}),
  },
  payload,
});

/** Whether an incomplete checksum, the pseudo-header's sum, is right once hardware completes it. */
function finishes(frame: Uint8Array): boolean {
  const copy = frame.slice();
  const view = new DataView(copy.buffer);
  const tcp = copy.length - TCP;
  view.setUint16(TCP + 16, finish(sumBytes(view, TCP, tcp, 0)));
  return verifyTcpChecksum(view, TCP, tcp, view.getUint32(26), view.getUint32(30));
}

t.test(
  'pieces contain all of the payload, and all but the last are as large as allowed',
  async () => {
    const cutter = new SegmentCutter();
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 5000 }),
        fc.nat(0xffff_ffff),
        fc.integer({ min: 100, max: 1514 }),
        fc.constantFrom('A', 'PA', 'FA', 'FPA'),
        fc.boolean(),
        (payload, sequence, most, flags, timestamps) => {
          const whole = build(spec(payload, sequence, flags, timestamps));
          const pieces = cut(whole, most, cutter);
          const room = most - (timestamps ? 66 : 54);
          let at = 0;
          for (const [index, piece] of pieces.entries()) {
            const last = index === pieces.length - 1;
            const view = new DataView(piece.frame.buffer);
            const right =
              piece.sequence === (sequence + at) >>> 0 &&
              Buffer.from(piece.payload).equals(payload.subarray(at, at + room)) &&
              view.getUint16(IP + 2) === piece.frame.length - IP &&
              finish(sumBytes(view, IP, 20, 0)) === 0 &&
              finishes(piece.frame) &&
              (last ? piece.flags === whole[TCP + 13] : (piece.flags & (FIN | PSH)) === 0) &&
              // Fields that depend on neither length nor position.
              Buffer.from(piece.frame.subarray(0, 16)).equals(whole.subarray(0, 16)) &&
              Buffer.from(piece.frame.subarray(42, 46)).equals(whole.subarray(42, 46));
            if (!right) return false;
            at += piece.payload.length;
          }
          return at === payload.length && pieces.length === Math.ceil(payload.length / room);
        },
      ),
    );
  },
);

t.test('a wrong IPv4 checksum stays wrong', async (t) => {
  const whole = build({
    ...spec(new Uint8Array(3000), 1, 'A', false),
    ip: { source: '10.1.2.3', destination: '10.99.0.100', checksum: 0x1234 },
  });
  for (const { frame } of cut(whole, 1514)) {
    t.not(finish(sumBytes(new DataView(frame.buffer), IP, 20, 0)), 0);
  }
});

t.test('a frame that is no whole segment is not cut', async (t) => {
  const whole = build(spec(new Uint8Array(2000), 1, 'A', false));
  const cutter = new SegmentCutter();
  t.ok(cutter.take(whole, 0, whole.length));
  const cases: [string, number, number][] = [
    ['IPv4 options', IP, 0x46],
    ['IPv6', IP, 0x60],
    ['UDP', IP + 9, 17],
    ['a first fragment', IP + 6, 0x20],
    ['a later fragment', IP + 7, 1],
    ['a data offset below the header', TCP + 12, 0x40],
    ['a total length beyond the frame', IP + 2, 0xff],
    ['a total length below the headers', IP + 2, 0],
  ];
  for (const [name, at, value] of cases) {
    const frame = whole.slice();
    frame[at] = value;
    if (value === 0 && at === IP + 2) frame[at + 1] = 39;
    t.notOk(cutter.take(frame, 0, frame.length), name);
  }
  for (let length = 0; length < whole.length; length += 13) t.notOk(cutter.take(whole, 0, length));
});
