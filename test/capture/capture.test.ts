/**
 * `baton capture` without a network: the stream of the control socket, and the file that the
 * command writes from both of its sources.
 */
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { ControlClient } from '../../src/api/client.js';
import { ControlApi } from '../../src/api/server.js';
import { CaptureFeed } from '../../src/balancer/capture-feed.js';
import type { TapStart } from '../../src/balancer/threads/engine-messages.js';
import { BatonError } from '../../src/base/errors.js';
import {
  type CaptureOptions,
  type CaptureSources,
  capture,
  summary,
} from '../../src/capture/capture.js';
import type { KernelTap } from '../../src/capture/kernel-tap.js';
import { FrameTap, lostRecord } from '../../src/datapath/frame-tap.js';
import { OutputFile } from '../../src/host/output-file.js';
import { PcapngReader } from '../../src/wire/pcapng.js';
import {
  TAP_RECORD_BYTES,
  TapKind,
  tapRecordBytes,
  writeTapRecord,
} from '../../src/wire/tap-record.js';

const WISH = { snapLength: 65_535, received: true };

t.setTimeout(FILE_TIMEOUT_MS);

/** The threads of an engine: the last message to each, and a tap on each. */
class FakeEngine {
  taps: FrameTap[] = [];
  starts: (TapStart | undefined)[] = [];

  constructor(private readonly threads: number) {}

  async setTaps(start: () => TapStart | undefined): Promise<void> {
    this.starts = Array.from({ length: this.threads }, start);
    this.taps = this.starts.flatMap((each) =>
      each === undefined ? [] : [new FrameTap(each.memory, each.wish)],
    );
  }

  get isTapped(): boolean {
    return this.taps.length > 0;
  }
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const limit = Date.now() + PATIENCE_MS; !holds(); ) {
    if (Date.now() > limit) throw new Error(`not within ${PATIENCE_MS} ms: ${what}`);
    await sleep(5);
  }
}

/** In a directory with a short name: the path of a socket may have 107 bytes. */
function socketPath(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'baton-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  return join(directory, 's');
}

function apiOf(engine: FakeEngine): ControlApi {
  const feed = new CaptureFeed(engine);
  return new ControlApi({ capture: (wish) => feed.open(wish) });
}

async function serve(t: Test, engine: FakeEngine): Promise<ControlClient> {
  const path = socketPath(t);
  const api = apiOf(engine);
  await api.start(path);
  t.teardown(() => api.stop());
  return new ControlClient(path);
}

t.test('the stream of the control socket', async (t) => {
  const engine = new FakeEngine(2);
  const client = await serve(t, engine);
  const pieces: Buffer[] = [];
  const wish = { ...WISH, client: 0xc000_0207, clientPort: 80 };
  const stream = await client.capture(wish, (bytes) => void pieces.push(Buffer.from(bytes)));
  t.same(
    engine.starts.map((start) => start?.wish),
    [wish, wish],
  );

  await t.rejects(
    client.capture(WISH, () => {}),
    { code: 'BATON_IN_USE', message: /another capture is running/ },
  );
  t.ok(engine.isTapped, 'the first capture continues');

  stream.close();
  await stream.ended;
  await until('the engine is told', () => !engine.isTapped);
  const again = await client.capture(WISH, () => {});
  again.close();
  await until('the engine is told again', () => !engine.isTapped);
});

t.test('a balancer that stops does not wait for a capture', async (t) => {
  const engine = new FakeEngine(1);
  const path = socketPath(t);
  const api = apiOf(engine);
  await api.start(path);
  const stream = await new ControlClient(path).capture(WISH, () => {});
  await api.stop();
  await stream.ended;
  await until('the engine is told', () => !engine.isTapped);
});

t.test('a query that is not valid', async (t) => {
  const client = await serve(t, new FakeEngine(1));
  await t.rejects(
    client.capture({ ...WISH, snapLength: 1 }, () => {}),
    { code: 'BATON_REQUEST' },
  );
  await t.rejects(
    client.capture({ ...WISH, clientPort: 70_000 }, () => {}),
    { code: 'BATON_REQUEST' },
  );
});

t.test('a client that does not read loses frames, and uses no memory', async (t) => {
  const engine = new FakeEngine(1);
  const feed = await new CaptureFeed(engine).open(WISH);
  const frame = new Uint8Array(60_000);
  for (let round = 0; round < 300; round++) {
    engine.taps[0]?.frame(TapKind.engine, frame, 0, frame.length);
    if (round % 50 === 0) await sleep(25);
  }
  t.ok((feed?.readableLength ?? 0) < 12 * 1024 * 1024);
  feed?.destroy();
  await once(feed!, 'close');
  t.notOk(engine.isTapped);
});

/** The record of a frame that was seen this long before `now`. */
function record(
  kind: number,
  agoMs: number,
  text: string,
  now = process.hrtime.bigint(),
): Uint8Array {
  const bytes = new Uint8Array(tapRecordBytes(text.length));
  const time = now - BigInt(Math.round(agoMs * 1e6));
  writeTapRecord(new DataView(bytes.buffer), 0, { time, kind, length: text.length }, text.length);
  bytes.set(Buffer.from(text), TAP_RECORD_BYTES);
  return bytes;
}

/** The XDP program's tap. */
class FakeTap {
  records: Uint8Array[] = [];
  renewed = 0;
  closed = false;
  left = 0;
  current = true;
  drain(): Uint8Array {
    return Buffer.concat(this.records.splice(0));
  }
  renew(): void {
    this.renewed++;
  }
  lost(): number {
    return this.left;
  }
  close(): void {
    this.closed = true;
  }
}

/** Sources with frames of the test. The balancer can end and come back. */
class FakeSources {
  tap: FakeTap | 'no program' | 'other version' | 'in use' = new FakeTap();
  balancer: 'runs' | 'absent' = 'runs';
  wishes: unknown[] = [];
  toCommand: (bytes: Uint8Array) => void = () => {};
  endStream: () => void = () => {};
  readonly notes: string[] = [];

  get all(): CaptureSources {
    return {
      openKernelTap: () => this.tap as unknown as KernelTap,
      isCurrent: (tap) => (tap as unknown as FakeTap).current,
      client: {
        capture: async (wish, take) => {
          if (this.balancer === 'absent')
            throw new BatonError('BATON_CONTROL', 'no balancer is running there');
          this.wishes.push(wish);
          this.toCommand = take;
          let close: () => void = () => {};
          const ended = new Promise<void>((resolve) => {
            close = resolve;
          });
          this.endStream = close;
          return { ended, close };
        },
      },
    };
  }
}

const OPTIONS: CaptureOptions = {
  interface: 'eth0',
  nodeInterface: 'eth1',
  controlSocket: '/run/x.sock',
  wish: { snapLength: 65_535 },
};

/**
 * Runs a capture while `body` runs, then stops it. Resolves to the frames of the file.
 */
async function captured(
  t: Test,
  sources: FakeSources,
  options: Partial<CaptureOptions>,
  body: (file: string) => Promise<void>,
): Promise<{ frames: string[]; said: string }> {
  const file = join(t.testdir(), 'out.pcapng');
  const output = OutputFile.open(file);
  const stop = new AbortController();
  const note = (line: string): void => void sources.notes.push(line);
  const running = capture({ ...OPTIONS, ...options }, sources.all, output, note, stop.signal);
  let failed = false;
  running.catch(() => {
    failed = true;
  });
  await until('it captures', () => failed || sources.notes.some((line) => /^capturing/.test(line)));
  if (failed) await running;
  await body(file);
  stop.abort();
  const result = await running;
  output.close();
  return { frames: framesOf(file), said: summary(result) };
}

function framesOf(file: string): string[] {
  const reader = new PcapngReader(new Uint8Array(readFileSync(file)));
  const frames: string[] = [];
  while (reader.next()) {
    const { offset, capturedLength } = reader;
    frames.push(Buffer.from(reader.bytes.subarray(offset, offset + capturedLength)).toString());
  }
  t.equal(reader.fault, undefined);
  return frames;
}

t.test('frames of both sources are in the order of their times', async (t) => {
  const sources = new FakeSources();
  const tap = sources.tap as FakeTap;
  const { frames, said } = await captured(t, sources, {}, async () => {
    const now = process.hrtime.bigint();
    tap.records.push(
      record(TapKind.received, 50, 'SYN', now),
      record(TapKind.kernel, 30, 'ACK', now),
    );
    const engine = Buffer.concat([
      record(TapKind.engine, 40, 'SYN/ACK', now),
      record(TapKind.engine, 10, 'ADOPT', now),
    ]);
    // A piece of the stream may end anywhere.
    sources.toCommand(engine.subarray(0, 29));
    sources.toCommand(engine.subarray(29));
  });
  t.strictSame(frames, ['SYN', 'SYN/ACK', 'ACK', 'ADOPT']);
  t.equal(said, '4 frames captured, 0 lost');
  t.strictSame(
    sources.wishes,
    [{ snapLength: 65_535, received: false }],
    'the XDP program shows received frames',
  );
  t.ok(tap.closed);
});

t.test('without an XDP program the engine shows received frames', async (t) => {
  const sources = new FakeSources();
  sources.tap = 'no program';
  await captured(t, sources, {}, async () => {});
  t.match(sources.wishes, [{ received: true }]);
});

t.test('lost frames are reported for each source', async (t) => {
  const sources = new FakeSources();
  const tap = sources.tap as FakeTap;
  const { said } = await captured(t, sources, {}, async () => {
    tap.left = 1_200;
    sources.toCommand(lostRecord(34));
  });
  t.match(said, /^0 frames captured, 1,234 lost \(1,200 of the XDP program, 34 of the engine/);
});

t.test('a capture ends at its limit of frames or time', async (t) => {
  const sources = new FakeSources();
  const tap = sources.tap as FakeTap;
  for (let frame = 0; frame < 5; frame++)
    tap.records.push(record(TapKind.received, 400 - frame, `${frame}`));
  const output = OutputFile.open(join(t.testdir(), 'count.pcapng'));
  const never = new AbortController().signal;
  const result = await capture({ ...OPTIONS, count: 3 }, sources.all, output, () => {}, never);
  t.equal(result.frames, 3);
  const after = await capture(
    { ...OPTIONS, seconds: 0.1 },
    new FakeSources().all,
    output,
    () => {},
    never,
  );
  t.equal(after.frames, 0);
  output.close();
});

t.test('a capture without a source, or beside another capture, is refused', async (t) => {
  const nobody = new FakeSources();
  nobody.tap = 'no program';
  nobody.balancer = 'absent';
  const file = join(t.testdir({ 'out.pcapng': 'of an earlier one' }), 'out.pcapng');
  const output = OutputFile.open(file);
  await t.rejects(
    capture(OPTIONS, nobody.all, output, () => {}, new AbortController().signal),
    { code: 'BATON_CONTROL' },
  );
  output.close();
  t.equal(
    readFileSync(file, 'latin1'),
    'of an earlier one',
    'the file of an earlier capture stays',
  );
  const busy = new FakeSources();
  busy.tap = 'in use';
  await t.rejects(
    captured(t, busy, {}, async () => {}),
    { code: 'BATON_IN_USE', where: 'eth0' },
  );
});

t.test('a balancer ends, and comes back with another XDP program', async (t) => {
  const sources = new FakeSources();
  const first = sources.tap as FakeTap;
  const second = new FakeTap();
  const { frames } = await captured(t, sources, {}, async () => {
    first.records.push(record(TapKind.kernel, 5, 'before'));
    sources.balancer = 'absent';
    sources.endStream();
    await until('it is said', () =>
      sources.notes.some((line) => /the balancer has ended/.test(line)),
    );
    first.records.push(record(TapKind.kernel, 4, 'meanwhile'));
    sources.tap = second;
    first.current = false;
    sources.balancer = 'runs';
    await until('it goes on', () =>
      sources.notes.some((line) => /a balancer is running again/.test(line)),
    );
    await until('the old tap is closed', () => first.closed);
    second.records.push(record(TapKind.kernel, 1, 'after'));
    await until('the new one is kept open', () => second.renewed > 0);
  });
  t.strictSame(frames, ['before', 'meanwhile', 'after']);
});

t.test('without a balancer, the frames of its XDP program are captured', async (t) => {
  const sources = new FakeSources();
  sources.balancer = 'absent';
  const { frames } = await captured(t, sources, {}, async () => {
    (sources.tap as FakeTap).records.push(record(TapKind.kernel, 1, 'forwarded'));
  });
  t.strictSame(frames, ['forwarded']);
  t.match(
    sources.notes[0],
    /no balancer is running there: until a balancer runs, only frames that the XDP program/,
  );
});

t.test('only its owner may read the file, and the first write empties an old one', async (t) => {
  const file = join(t.testdir(), 'out.pcapng');
  writeFileSync(file, 'of an earlier one', { mode: 0o644 });
  OutputFile.open(file).close();
  t.equal(readFileSync(file, 'latin1'), 'of an earlier one', 'nothing is written yet');
  const output = OutputFile.open(file);
  output.append(Buffer.from('new'));
  output.flush();
  output.append(Buffer.from('er'));
  output.close();
  t.equal(statSync(file).mode & 0o777, 0o600);
  t.equal(readFileSync(file, 'latin1'), 'newer');
  const absent = join(t.testdir(), 'no/such/place.pcapng');
  t.throws(() => OutputFile.open(absent), {
    code: 'BATON_CAPTURE',
    message: /there is no such directory/,
  });
  t.notOk(existsSync(absent));
});
