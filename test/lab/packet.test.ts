import t from 'tap';
import { build, IXCP, IXP } from '../../lab/packet.js';
import { differences, parse } from '../support/packet-parse.js';

const KEY = new Uint8Array(16).fill(3);

t.test('a frame has the expected bytes', async (t) => {
  // Header by header. The checksums come from a program that shares no code with this one.
  const frame = build({
    ethernet: { source: '02:00:00:00:00:0a', destination: '02:00:00:00:00:0b' },
    ip: { source: '10.0.0.1', destination: '10.0.0.2', id: 0x1234 },
    tcp: {
      sourcePort: 40_000,
      destinationPort: 80,
      seq: 1,
      ack: 0,
      flags: 'S',
      window: 64_240,
      options: { mss: 1460 },
    },
  });
  t.equal(
    Buffer.from(frame).toString('hex'),
    '02000000000b02000000000a0800' +
      '4500002c123440004006149' +
      '6' +
      '0a0000010a000002' +
      '9c4000500000000100000000' +
      '6002faf0' +
      'eca10000' +
      '020405b4',
  );
});

t.test('parse reads back every kind of frame that build makes', async (t) => {
  const specs = [
    {
      ip: { source: '10.0.0.1', tos: 4, ttl: 9 },
      tcp: { flags: 'FSRPAUEC', urgent: 5, options: { sack: [[1, 2]] as const } },
      payload: 'odd',
    },
    {
      ip: { source: '10.0.0.1' },
      ixp: { type: 2, session: 0xffff_ffff, confirm: 7, scales: 0x97 },
      tcp: { seq: 0xffff_ffff },
      payload: 'x',
    },
    {
      ip: { destination: '10.0.0.9' },
      ixcp: { type: 3, reason: 2, seq: 5, ack: 0x8000_0000, clientPort: 9 },
    },
    {
      ip: { destination: '10.0.0.9' },
      icmp: { type: 3, code: 4, rest: 1400, quoted: Uint8Array.of(1, 2, 3) },
    },
    {
      ip: { options: new Uint8Array(8) },
      tcp: { options: { timestamps: [1, 2] as const, windowScale: 3, sackPermitted: true } },
      trailer: Uint8Array.of(0, 0),
    },
  ];
  for (const spec of specs) {
    const packet = parse(build(spec, KEY), KEY);
    t.same(packet.problems, []);
    t.same(differences(spec, packet), []);
  }
});

t.test('parse notices every damaged bit behind the MAC addresses', async (t) => {
  for (const spec of [
    { ip: {}, tcp: { seq: 9 }, payload: 'text' },
    { ip: {}, ixcp: { session: 1 } },
    { ip: {}, ixp: { session: 1 }, tcp: {}, payload: 'y' },
  ]) {
    const whole = build(spec, KEY);
    const read = parse(whole, KEY);
    for (let bit = 12 * 8; bit < whole.length * 8; bit++) {
      const frame = whole.slice();
      frame[bit >> 3]! ^= 1 << (bit & 7);
      const hole = 34 + 16;
      if (read.ixcp !== undefined && (bit >> 3 === hole || bit >> 3 === hole + 1)) continue;
      const packet = parse(frame, KEY);
      if (packet.problems.length === 0) t.fail(`bit ${bit} of ${JSON.stringify(spec)}`);
    }
  }
  t.equal(IXP.length + IXCP.length, 76);
});

t.test('parse reports a wrong tag, and differences reports each difference', async (t) => {
  const packet = parse(
    build({ ip: { source: '10.0.0.1' }, ixcp: { session: 1, tag: 5n } }, KEY),
    KEY,
  );
  t.same(packet.problems, ['wrong IXCP tag']);
  t.same(differences({ ip: { source: '10.0.0.2' }, tcp: {} }, packet), [
    'the frame is faulty: wrong IXCP tag',
    'ip source: expected 10.0.0.2, got 10.0.0.1',
    'ixcp was not expected',
    'there is no tcp',
  ]);
});
