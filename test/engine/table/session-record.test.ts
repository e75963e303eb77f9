/**
 * src/engine/table/session-record.ts and kernel-event.ts against bpf/lib/session.h, as a C compiler
 * sees it.
 */
import fc from 'fast-check';
import t from 'tap';
import {
  eventMacHigh,
  eventMacLow,
  KERNEL_EVENT,
  KERNEL_EVENT_WORDS,
} from '../../../src/engine/table/kernel-event.js';
import {
  RecordReader,
  SESSION_RECORD,
  SESSION_RECORD_BYTES,
  SessionAction,
  SessionRecords,
  sessionHash,
  sessionWorker,
} from '../../../src/engine/table/session-record.js';
import { SessionFlag, SessionState } from '../../../src/engine/table/session-table.js';
import { check, evaluate } from '../../support/c-values.js';

const HEADER = 'session.h';

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

t.test('struct session_record', async (t) => {
  check(t, HEADER, [
    ['sizeof(struct session_record)', SESSION_RECORD_BYTES],
    ...Object.entries(SESSION_RECORD).map(
      ([field, offset]) =>
        [`offsetof(struct session_record, ${snakeCase(field)})`, offset] as const,
    ),
    ['SESSION_FREE', SessionState.free],
    ['SESSION_PASSING', SessionState.passing],
    ['SESSION_LINGERING', SessionState.lingering],
    ['SESSION_CLIENT_FIN', SessionFlag.clientFin],
    ['IXP_WSCALE_OK', SessionFlag.windowScaleOk],
    ['IXP_SACK_OK', SessionFlag.sackOk],
    ['IXP_TSTAMP_OK', SessionFlag.timestampsOk],
    ['ACTION_FORWARD', SessionAction.forward],
    ['ACTION_PAYLOAD_UP', SessionAction.payloadUp],
    ['ACTION_WRAP', SessionAction.wrap],
  ]);
});

t.test('struct kernel_event', async (t) => {
  const offset = (field: string): string => `offsetof(struct kernel_event, ${field}) / 4`;
  const inWord = (field: string): string => `offsetof(struct kernel_event, ${field}) % 4`;
  check(t, HEADER, [
    ['sizeof(struct kernel_event) / 4', KERNEL_EVENT_WORDS],
    [offset('client'), KERNEL_EVENT.client],
    [offset('port_server'), KERNEL_EVENT.portServer],
    [offset('client_isn'), KERNEL_EVENT.clientIsn],
    [offset('server_isn'), KERNEL_EVENT.serverIsn],
    [offset('ts_offset'), KERNEL_EVENT.tsOffset],
    [offset('tsval'), KERNEL_EVENT.tsval],
    [offset('mss'), KERNEL_EVENT.mssAndWindow],
    [inWord('mss'), 0],
    [offset('window'), KERNEL_EVENT.mssAndWindow],
    [inWord('window'), 2],
    [offset('scales'), KERNEL_EVENT.scalesFlagsAndMac],
    [inWord('scales'), 0],
    [inWord('flags'), 1],
    [offset('mac'), KERNEL_EVENT.scalesFlagsAndMac],
    [inWord('mac'), 2],
    [offset('mac[2]'), KERNEL_EVENT.mac],
  ]);
  const words = new Uint32Array(2 + KERNEL_EVENT_WORDS);
  new Uint8Array(words.buffer).set([0x02, 0x81, 0x92, 0xa3, 0xb4, 0xc5], 2 * 4 + 30);
  t.equal(eventMacHigh(words, 2), 0x0281);
  t.equal(eventMacLow(words, 2), 0x92a3b4c5);
});

t.test('the hash and the engine thread of a session', async (t) => {
  const edges = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
  const cases = [
    ...edges.map((word) => [word, word ^ 0x1234, 0xdead_beef, 7]),
    ...fc.sample(fc.array(fc.nat(0xffff_ffff), { minLength: 4, maxLength: 4 }), {
      numRuns: 200,
      seed: 4,
    }),
  ];
  check(
    t,
    HEADER,
    cases.flatMap(([client = 0, key = 0, seed = 0, other = 0], index) => {
      const hash = sessionHash(client >>> 0, key >>> 0, seed | 0, other | 0);
      const workers = 1 + (index % 8);
      const words = [client, key, seed, other].map((word) => `${word >>> 0}U`).join(', ');
      return [
        [`session_hash(${words})`, hash],
        [`session_worker(session_hash(${words}), ${workers})`, sessionWorker(hash, workers)],
      ] as const;
    }),
  );
});

/** Lets a test write fields that only a table may write. */
class OpenRecords extends SessionRecords {
  fill(slot: number): void {
    this.clear(slot, 0xfedc_ba98, 0x8001_0002, 0xa000_0001);
    this.writeState(slot, 4);
    this.writeAction(slot, 5);
    this.setNode(slot, 0xf00d);
    this.setLastSeen(slot, 0xa000_0002);
    this.countPacket(slot);
    this.setReceiveNext(slot, 0xa000_0003);
    this.setClientAck(slot, 0xa000_0004);
    this.setNonce(slot, 0xa000_0005);
    this.setClientIsn(slot, 0xa000_0006);
    this.setServerIsn(slot, 0xa000_0007);
    this.setHandedTo(slot, 0xa000_0008);
    this.setTsOffset(slot, 0xa000_0009);
    this.setTsval(slot, 0xa000_000a);
    this.setMss(slot, 0xfffe);
    this.setScales(slot, 0x97);
    this.setFlags(slot, 0x81);
    this.raise(slot, 0x06);
    this.setAnswer(slot, 6);
    this.setTries(slot, 250);
    this.setWindow(slot, 0xfffd);
  }
}

t.test('writing a field changes neither other fields nor neighbours', async (t) => {
  const memory = new ArrayBuffer(8 + 3 * SESSION_RECORD_BYTES);
  new Uint8Array(memory).fill(0x5a);
  new OpenRecords(memory, 8, 3).fill(1);
  const view = new DataView(memory, 8 + SESSION_RECORD_BYTES, SESSION_RECORD_BYTES);
  const read = new RecordReader(memory, 8);
  t.equal(read.capacity, 3);
  const little = evaluate(HEADER, ['__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__'])[0] === 1;
  const bytes = { state: 1, action: 1, scales: 1, flags: 1, answer: 1, tries: 1 } as Record<
    string,
    number
  >;
  const halves = { node: 1, mss: 1, window: 1 } as Record<string, number>;
  const seen = new Set<number>();
  for (const [field, offset] of Object.entries(SESSION_RECORD)) {
    const value =
      bytes[field] === 1
        ? view.getUint8(offset)
        : halves[field] === 1
          ? view.getUint16(offset, little)
          : view.getUint32(offset, little);
    t.equal(read[field as keyof typeof SESSION_RECORD](1), value, `${field}: ${value}`);
    seen.add(value);
  }
  t.equal(seen.size, Object.keys(SESSION_RECORD).length, 'all differ');
  t.ok(read.has(1, 0x02));
  t.notOk(read.has(1, 0x08));
  const outside = [...new Uint8Array(memory, 0, 72), ...new Uint8Array(memory, 8 + 128)];
  t.ok(outside.every((byte) => byte === 0x5a));
});
