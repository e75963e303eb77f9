import fc from 'fast-check';
import t from 'tap';
import { httpServer } from '../../lab/virtual-server.js';
import { ReplayRun } from '../../src/replay/replay-run.js';
import { requireAddress } from '../../src/wire/address.js';
import { openCapture } from '../../src/wire/capture-file.js';
import { ipv4Offset, LinkType } from '../../src/wire/link.js';
import { type CaptureReader, PcapReader } from '../../src/wire/pcap.js';
import { GrowingBytes, PcapWriter } from '../../src/wire/pcap-writer.js';
import { PcapngReader } from '../../src/wire/pcapng.js';
import { DEFAULTS } from '../datapath/capture/replay.js';
import { CAPTURES, capture } from '../support/captures.js';

interface Frames {
  places: string[];
  fault: string | undefined;
}

/** Reads the whole input, and checks the contract of a reader. */
function read(reader: CaptureReader): Frames {
  const places: string[] = [];
  let end = 0;
  while (reader.next()) {
    const { offset, capturedLength, seconds, nanoseconds, bytes } = reader;
    if (offset < end) throw new Error(`a frame at ${offset} overlaps the one before`);
    end = offset + capturedLength;
    if (end > bytes.length) throw new Error(`a frame ends at ${end}, the file at ${bytes.length}`);
    if (!Number.isInteger(seconds)) throw new Error(`${seconds} seconds`);
    if (!(nanoseconds >= 0 && nanoseconds < 1e9 && Number.isInteger(nanoseconds))) {
      throw new Error(`${nanoseconds} nanoseconds`);
    }
    places.push(`${offset}+${capturedLength}@${seconds}.${nanoseconds}`);
  }
  const { fault } = reader;
  if (fault !== undefined && (fault.offset < 0 || fault.offset > reader.bytes.length)) {
    throw new Error(`a fault at ${fault.offset}`);
  }
  return { places, fault: fault?.message };
}

const SMALL = CAPTURES.map(capture).filter((bytes) => bytes.length < 10_000);

t.test('arbitrary bytes never throw', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      const reader = openCapture(bytes);
      if (reader !== undefined) read(reader);
      read(new PcapReader(bytes));
      read(new PcapngReader(bytes));
    }),
    { numRuns: 3_000 },
  );
});

t.test('arbitrary bytes behind a valid start', async () => {
  for (const bytes of SMALL) {
    fc.assert(
      fc.property(
        fc.integer({ min: 4, max: 200 }),
        fc.uint8Array({ maxLength: 300 }),
        (keep, rest) => {
          read(openCapture(new Uint8Array(Buffer.concat([bytes.subarray(0, keep), rest])))!);
        },
      ),
      { numRuns: 300 },
    );
  }
});

t.test('a file with some bytes changed', async () => {
  const change = fc.tuple(fc.nat({ max: 9_999 }), fc.integer({ min: 0, max: 255 }));
  for (const bytes of SMALL) {
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), (changes) => {
        const changed = bytes.slice();
        for (const [at, value] of changes) changed[at % changed.length] = value;
        const reader = openCapture(changed);
        if (reader !== undefined) read(reader);
      }),
      { numRuns: 300 },
    );
  }
});

t.test('a file truncated at any byte gives its complete frames', async (t) => {
  for (const bytes of SMALL) {
    const whole = read(openCapture(bytes)!);
    t.equal(whole.fault, undefined);
    let most = 0;
    for (let length = 4; length < bytes.length; length++) {
      const part = read(openCapture(bytes.subarray(0, length))!);
      if (part.places.length < most) throw new Error(`fewer frames in more bytes, at ${length}`);
      most = part.places.length;
      for (const [index, place] of part.places.entries()) {
        if (place !== whole.places[index]) throw new Error(`frame ${index} differs, at ${length}`);
      }
    }
    t.ok(most >= whole.places.length - 1);
  }
});

t.test('written files read back', async () => {
  const frame = fc.record({
    bytes: fc.uint8Array({ maxLength: 100 }),
    seconds: fc.nat({ max: 0xffff_ffff }),
    nanoseconds: fc.nat({ max: 999_999_999 }),
  });
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 20 }), fc.boolean(), (frames, nanoseconds) => {
      const file = new GrowingBytes();
      const writer = new PcapWriter(file.append, { nanoseconds });
      for (const { bytes, seconds, nanoseconds: part } of frames) {
        writer.frame(bytes, 0, bytes.length, seconds, part);
      }
      const reader = openCapture(file.contents())!;
      for (const { bytes, seconds, nanoseconds: part } of frames) {
        if (!reader.next()) throw new Error('a frame is missing');
        const read = reader.bytes.subarray(reader.offset, reader.offset + reader.capturedLength);
        const exact = nanoseconds ? part : Math.floor(part / 1000) * 1000;
        if (!Buffer.from(read).equals(bytes)) throw new Error('bytes differ');
        if (reader.seconds !== seconds || reader.nanoseconds !== exact)
          throw new Error('times differ');
      }
      if (reader.next() || reader.fault !== undefined) throw new Error('there is more');
    }),
    { numRuns: 500 },
  );
});

t.test('link headers: no read beyond the frame', async () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...Object.values(LinkType), 105),
      fc.array(fc.constantFrom(0, 1, 2, 8, 0x45, 0x60, 0x81, 0x88, 0xa8), { maxLength: 40 }),
      (linkType, frame) => {
        const bytes = Uint8Array.from(frame); // of exactly this size, so that a read beyond it throws
        const at = ipv4Offset(new DataView(bytes.buffer), linkType, 0, bytes.length);
        if (at >= 0 && (bytes[at] ?? 0) >>> 4 !== 4) throw new Error(`no IPv4 at ${at}`);
      },
    ),
    { numRuns: 5_000 },
  );
});

t.test(
  'a changed capture through the whole engine: no exception, and every session ends',
  async (t) => {
    const config = {
      address: undefined,
      virtualServers: ['192.150.187.43', '75.98.70.31'].map((address) =>
        httpServer(address, requireAddress(address), 80, 'least-connections'),
      ),
      nodes: [{ name: 'n1', address: requireAddress('10.99.0.3'), weight: 1 }],
      resources: [{ host: undefined, path: '/', nodes: [0] }],
      limits: {
        sessions: 100,
        halfOpen: 10,
        headBytes: 2_000,
        heads: 10,
        handoffTries: 2,
        synAckTries: 5,
      },
      timeouts: DEFAULTS.timeouts,
    };
    // In each capture the server's FIN may be damaged: the session still ends.
    const FIN_LOST: [number, number][][] = [
      [
        [110, 0],
        [6_199, 0],
      ],
      [[19_507, 0]],
    ];
    let sessions = 0;
    for (const name of ['get.pcap', 'zero-length-bodies-with-drops.pcap']) {
      const bytes = capture(name);
      const change = fc.tuple(fc.nat({ max: bytes.length - 1 }), fc.integer({ min: 0, max: 255 }));
      fc.assert(
        fc.property(
          fc.array(change, { minLength: 1, maxLength: 30 }),
          fc.boolean(),
          (changes, detect) => {
            const changed = bytes.slice();
            for (const [at, value] of changes) changed[at] = value;
            const result = ReplayRun.open(changed, config, detect ? 'detect' : 'verify')?.run();
            if (result === undefined) return;
            sessions += result.sessions.length;
            const open = result.sessions.filter(({ closed }) => closed === null);
            if (open.length > 0) throw new Error(`still open: ${JSON.stringify(open)}`);
            const { refused, stray } = result.nodeSide;
            if (refused + stray > 0)
              throw new Error(`nodes were sent what is not theirs: ${refused}, ${stray}`);
          },
        ),
        { numRuns: 400, examples: FIN_LOST.map((changes) => [changes, false]) },
      );
    }
    t.ok(sessions > 400, `${sessions} sessions`);
  },
);
