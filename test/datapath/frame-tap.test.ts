/** The engine's part of a capture: frames that fit come in order, the others are counted. */
import fc from 'fast-check';
import t from 'tap';
import { addressNumber, build } from '../../lab/packet.js';
import { FrameTap, FrameTapReader, type TapWish, tapMemory } from '../../src/datapath/frame-tap.js';
import { readTapRecords, TapKind, type TapRecord } from '../../src/wire/tap-record.js';

const RING = 4_096;
const ALL: TapWish = { snapLength: 65_535, received: true };

function pair(wish: TapWish = ALL): { tap: FrameTap; read: () => TapRecord[] } {
  const memory = tapMemory(RING);
  const reader = new FrameTapReader(memory);
  const read = (): TapRecord[] => {
    const records: TapRecord[] = [];
    const bytes = reader.take();
    const used = readTapRecords(bytes, (record) => records.push(record));
    if (used !== bytes.length) throw new Error('a record is not whole');
    return records;
  };
  return { tap: new FrameTap(memory, wish), read };
}

t.test('frames of any length, read at any time: each is unchanged, or counted', async (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(1_600), { maxLength: 60 }),
      fc.integer({ min: 1, max: 9 }),
      (lengths, every) => {
        const { tap, read } = pair();
        const shown: number[] = [];
        let lost = 0;
        const take = (): void => {
          for (const { kind, length, bytes } of read()) {
            if (kind === TapKind.lost) lost += length;
            else if (bytes.length !== length || bytes.some((byte) => byte !== (length & 0xff)))
              throw new Error();
            else shown.push(length);
          }
        };
        for (const [index, length] of lengths.entries()) {
          tap.frame(TapKind.engine, new Uint8Array(length).fill(length & 0xff), 0, length);
          if (index % every === 0) take();
        }
        take();
        let at = 0;
        for (const length of lengths) if (shown[at] === length) at++;
        return at === shown.length && shown.length + lost === lengths.length;
      },
    ),
  );
  t.pass();
});

t.test('a reader that does not read loses frames, and does not block the engine', async (t) => {
  const { tap, read } = pair();
  const frame = new Uint8Array(100);
  for (let sent = 0; sent < 1_000; sent++) tap.frame(TapKind.nodes, frame, 0, frame.length);
  const records = read();
  const lost = records.at(-1);
  t.match(lost, { kind: TapKind.lost, length: 1_000 - (records.length - 1) });
  t.equal(records.length - 1, RING / 128);
  t.strictSame(read(), [], 'told once');
});

t.test('descriptors: received frames only if they were asked for', async (t) => {
  const descriptors = Uint32Array.of(10, 20, 0, 0, 50, 30, 0, 0, 99, 99, 0, 0);
  const memory = Uint8Array.from({ length: 100 }, (_, index) => index);
  for (const received of [true, false]) {
    const { tap, read } = pair({ ...ALL, received });
    tap.received(memory, descriptors, 1);
    tap.sent(memory, descriptors, 2);
    tap.sent(memory, descriptors, 0);
    const records = read();
    t.strictSame(
      records.map(({ kind, length, bytes }) => [kind, length, bytes[0]]),
      [
        ...(received ? [[TapKind.received, 20, 10]] : []),
        [TapKind.engine, 20, 10],
        [TapKind.engine, 30, 50],
      ],
    );
    t.ok(records.every(({ time }) => process.hrtime.bigint() - time < 60_000_000_000n));
  }
});

t.test('frames are truncated to the snap length', async (t) => {
  const { tap, read } = pair({ ...ALL, snapLength: 64 });
  tap.frame(TapKind.engine, new Uint8Array(500), 0, 500);
  t.strictSame(
    read().map(({ length, bytes }) => [length, bytes.length]),
    [[500, 64]],
  );
});

t.test('only one client: wherever a frame has its address', async (t) => {
  const client = '192.0.2.7';
  const of = { source: client, destination: '192.0.2.100' };
  const to = { source: '192.0.2.100', destination: client };
  const stranger = { source: '192.0.2.8', destination: '192.0.2.100' };
  const tcp = { sourcePort: 4_000, destinationPort: 80 };
  const answer = { sourcePort: 80, destinationPort: 4_000 };
  const about = (address: string) => ({
    type: 1,
    client: address,
    clientPort: 4_000,
    virtualAddress: '192.0.2.100',
    virtualPort: 80,
  });
  const between = { source: '192.0.2.3', destination: '192.0.2.2' };
  const cases: [string, Uint8Array, boolean, boolean][] = [
    ['from it', build({ ip: of, tcp }), true, true],
    ['to it', build({ ip: to, tcp: answer }), true, true],
    ['from another port', build({ ip: of, tcp: { ...tcp, sourcePort: 4_001 } }), true, false],
    ['from a stranger', build({ ip: stranger, tcp }), false, false],
    ['a notice', build({ ip: between, ixcp: about(client) }, new Uint8Array(16)), true, true],
    [
      'a notice about another client',
      build({ ip: between, ixcp: about('192.0.2.8') }, new Uint8Array(16)),
      false,
      false,
    ],
    ['too short to tell', new Uint8Array(20), false, false],
  ];
  for (const [what, frame, byAddress, byPort] of cases) {
    for (const [clientPort, wanted] of [
      [undefined, byAddress],
      [4_000, byPort],
    ] as const) {
      const { tap, read } = pair({ ...ALL, client: addressNumber(client), clientPort });
      tap.frame(TapKind.engine, frame, 0, frame.length);
      t.equal(
        read().length,
        wanted ? 1 : 0,
        `${what}${clientPort === undefined ? '' : ', by port'}`,
      );
    }
  }
});
