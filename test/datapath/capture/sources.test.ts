/**
 * Captures from other sources: from the sending host, edited, truncated, or taken on a balancer,
 * with frames twice.
 */
import t from 'tap';
import type { ChecksumPolicy } from '../../../src/datapath/capture/checksums.js';
import { type ReplayResult, ReplayRun } from '../../../src/replay/replay-run.js';
import { toText } from '../../../src/replay/run.js';
import { openCapture } from '../../../src/wire/capture-file.js';
import { GrowingBytes, PcapWriter } from '../../../src/wire/pcap-writer.js';
import { capture } from '../../support/captures.js';
import { config } from './replay.js';

const SERVER = '192.150.187.43';
const REQUEST = 'GET /download/CHANGES.bro-aux.txt';
const IP = 14;
const TCP = 34;
/** The request is the fourth frame of get.pcap; the client sends seven. */
const REQUEST_FRAME = 3;
const CLIENT_FRAMES = 7;

interface Frame {
  seconds: number;
  nanoseconds: number;
  bytes: Uint8Array;
  /** Length on the wire. */
  length: number;
}

/** The frames of get.pcap, with a view of each. */
function frames(): (Frame & { view: DataView })[] {
  const reader = openCapture(capture('get.pcap'))!;
  const list: (Frame & { view: DataView })[] = [];
  while (reader.next()) {
    const { seconds, nanoseconds, offset, capturedLength } = reader;
    const bytes = reader.bytes.slice(offset, offset + capturedLength);
    list.push({
      seconds,
      nanoseconds,
      bytes,
      length: capturedLength,
      view: new DataView(bytes.buffer),
    });
  }
  return list;
}

function isOfClient({ view }: { view: DataView }): boolean {
  return view.getUint16(TCP + 2) === 80;
}

function run(list: readonly Frame[], checksums?: ChecksumPolicy): ReplayResult {
  const output = new GrowingBytes();
  const writer = new PcapWriter(output.append);
  for (const { bytes, seconds, nanoseconds, length } of list) {
    const at = output.contents().length;
    writer.frame(bytes, 0, bytes.length, seconds, nanoseconds);
    new DataView(output.contents().buffer).setUint32(at + 12, length, true);
  }
  return ReplayRun.open(output.contents().slice(), config([`${SERVER}:80`]), checksums)!.run();
}

/** Makes a frame's checksum wrong. */
function spoil({ view }: { view: DataView }): void {
  view.setUint16(TCP + 16, view.getUint16(TCP + 16) ^ 0x1234);
}

t.test('from the sending host: checksums that were left to hardware', async (t) => {
  const list = frames();
  for (const frame of list.filter(isOfClient)) spoil(frame);
  const result = run(list);
  t.match(result.sessions, [{ request: REQUEST, closed: 'fin', packets: 4, unusable: 0 }]);
  t.match(result.capture, { unfinished: CLIENT_FRAMES, damaged: 0 });
  t.strictSame(result.checksumsIgnored, [
    { client: '141.142.228.5', segments: CLIENT_FRAMES, wrong: CLIENT_FRAMES },
  ]);
  t.match(
    toText('x', result),
    /^141\.142\.228\.5: wrong checksums in 7 of 7 segments were ignored: .*\(--checksums verify/m,
  );
});

t.test('the same with `verify`: the result says that segments were dropped', async (t) => {
  const list = frames();
  for (const frame of list.filter(isOfClient)) spoil(frame);
  const result = run(list, 'verify');
  t.strictSame(result.sessions, []);
  t.match(result.capture, { unfinished: 0, damaged: CLIENT_FRAMES });
  const text = toText('x', result);
  t.match(text, /checksums are wrong: 7 \(--checksums ignore accepts them\)/);
  t.match(text, /no session: SYNs to a virtual server of this config were dropped/);
  t.notMatch(text, /no SYN/);
});

t.test('edited: the payload of one segment was changed', async (t) => {
  const list = frames();
  spoil(list[REQUEST_FRAME]!);
  const result = run(list);
  t.match(result.sessions, [
    { unusable: 1, why: 'all data of the client was dropped: closed without an answer' },
  ]);
  const text = toText('x', result);
  t.match(text, /checksums are wrong: 1 \(--checksums ignore accepts them\)/);
  t.notMatch(text, /the client sent nothing/);
  t.match(run(list, 'ignore').sessions, [{ request: REQUEST, closed: 'fin', unusable: 0 }]);
});

t.test('edited: addresses were changed, checksums were not', async (t) => {
  const list = frames();
  for (const frame of list.filter(isOfClient)) frame.view.setUint32(IP + 12, 0xc000_0207);
  for (const frame of list.filter((frame) => !isOfClient(frame)))
    frame.view.setUint32(IP + 16, 0xc000_0207);
  const result = run(list);
  t.match(result.sessions, [{ client: '192.0.2.7:59856', request: REQUEST, closed: 'fin' }]);
  t.match(result.counters, { drop_ipv4_checksum: 0, drop_tcp_checksum: 0 });
});

t.test('segments that were left to hardware: larger than the MTU, without a length', async (t) => {
  const list = frames();
  const request = list[REQUEST_FRAME]!;
  const large = new Uint8Array(TCP + 32 + 20_000);
  large.set(request.bytes);
  // The request, and bytes behind it that could be the next one's body.
  const view = new DataView(large.buffer);
  view.setUint16(IP + 2, 0);
  list[REQUEST_FRAME] = { ...request, bytes: large, view, length: large.length };
  const result = run(list, 'ignore');
  t.match(result.sessions, [{ request: REQUEST, node: 'n1', unusable: 0 }]);
  t.match(result.counters, { drop_malformed_ipv4: 0, requests: 1 });
  for (const frame of list.filter(isOfClient)) spoil(frame);
  t.match(
    run(list).sessions,
    [{ request: REQUEST, node: 'n1', unusable: 0 }],
    'as on the sending host',
  );
});

t.test('truncated by a snap length', async (t) => {
  const list = frames();
  const request = list[REQUEST_FRAME]!;
  request.bytes = request.bytes.slice(0, 96);
  const result = run(list);
  t.match(result.capture, { truncated: 1 });
  t.match(result.sessions, [
    { unusable: 1, why: 'all data of the client was dropped: closed without an answer' },
  ]);
  t.match(toText('x', result), /only their beginning: 1 \(`tcpdump -s 0`/);
});

t.test('taken on a balancer: forwarded frames are there twice, and count once', async (t) => {
  const twice: Frame[] = [];
  for (const frame of frames()) {
    twice.push(frame);
    if (!isOfClient(frame)) continue;
    const bytes = frame.bytes.slice();
    bytes.set(frame.bytes.subarray(0, 6), 6);
    bytes.set([2, 0, 0, 0, 0, 9], 0);
    if (frame.view.getUint8(TCP + 13) !== 2) twice.push({ ...frame, bytes });
  }
  const result = run(twice);
  t.match(result.capture, { delivered: CLIENT_FRAMES, sentOn: CLIENT_FRAMES - 1 });
  t.strictSame(result.sessions, run(frames()).sessions);
  t.match(
    toText('x', result),
    /because a balancer forwarded them, so the capture has them twice: 6/,
  );
});

t.test('without a SYN: the message says where tcpdump sees none', async (t) => {
  const text = toText('x', run(frames().slice(1)));
  t.match(text, /no SYN to a virtual server of this config/);
  t.match(text, /datapath xdp does not see SYNs: `baton capture/);
});

t.test('more servers than the message lists', async (t) => {
  const [syn] = frames();
  const list = Array.from({ length: 12 }, (_, index) => {
    const bytes = syn!.bytes.slice();
    new DataView(bytes.buffer).setUint16(TCP + 2, 8_000 + index);
    return { ...syn!, bytes };
  });
  t.match(toText('x', run(list)), /8007 and others$/m);
  t.notMatch(toText('x', run(list.slice(0, 8))), /others$/m);
});
