/**
 * bpf/lib/session.h and its counterparts in TypeScript have the same offsets, sizes, numbers and
 * hashes.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import {
  LEASE_UNITS,
  TAP_CONFIG,
  TAP_CONFIG_BYTES,
  UNIT_SHIFT,
} from '../../src/capture/kernel-tap.js';
import * as heads from '../../src/datapath/heads-layout.js';
import * as layout from '../../src/datapath/xdp-layout.js';
import * as forward from '../../src/engine/forward/layout.js';
import { HeadDigest } from '../../src/engine/moving/head-digest.js';
import { KERNEL_EVENT, KERNEL_EVENT_WORDS } from '../../src/engine/table/kernel-event.js';
import {
  SESSION_RECORD,
  SESSION_RECORD_BYTES,
  SessionAction,
  sessionHash,
  sessionWorker,
} from '../../src/engine/table/session-record.js';
import { SessionFlag, SessionState } from '../../src/engine/table/session-table.js';
import { IxpFlag } from '../../src/wire/ixp.js';
import { TAP_RECORD, TAP_RECORD_BYTES, TapKind } from '../../src/wire/tap-record.js';
import { project } from './shim-fixture.js';
import { KERNEL_EVENT as EVENT_BYTES, KERNEL_EVENT_BYTES } from './xdp-fixture.js';
import { SYN_ALIVE_MS } from './xdp-packets.js';

const HASHES = 64;

/** What find_head of bpf/xdp/xdp-heads.h does. */
const HEAD_DIGEST = `
static struct head_digest head_digest(const char *key, const char *text, unsigned bytes)
{
  struct sip_state s;
  __u64 word[2];
  memcpy(word, key, sizeof(word));
  head_digest_begin(&s, word);
  for (unsigned at = 0; at + 8 <= bytes; at += 8) {
    memcpy(word, text + at, 8);
    sip_word(&s, SIP_LE64(word[0]));
  }
  if (bytes % 8) {
    memcpy(word, text + bytes - 8, 8);
    sip_word(&s, SIP_LE64(word[0]));
  }
  return head_digest_end(&s, bytes);
}
`;

/** A string literal of C. */
function bytesOf(bytes: Uint8Array): string {
  return `"${[...bytes].map((byte) => `\\${byte.toString(8).padStart(3, '0')}`).join('')}"`;
}

/** Values of C expressions over bpf/lib/session.h. */
function evaluate(expressions: readonly string[]): number[] {
  const folder = mkdtempSync(join(tmpdir(), 'baton-layout-'));
  try {
    const lines = expressions.map((each) => `printf("%llu\\n", (unsigned long long)(${each}));`);
    const headers = [
      '<stddef.h>',
      '<stdio.h>',
      '<string.h>',
      '"session.h"',
      '"forward.h"',
      '"tap.h"',
      '"heads.h"',
    ];
    const included = headers.map((header) => `#include ${header}`);
    const source = [...included, HEAD_DIGEST, 'int main(void) {', '(void)head_digest;'];
    writeFileSync(join(folder, 'values.c'), [...source, ...lines, 'return 0; }'].join('\n'));
    const include = `-I${join(project, 'bpf', 'lib')}`;
    execFileSync('gcc', [
      '-Wall',
      '-Werror',
      include,
      '-o',
      join(folder, 'values'),
      join(folder, 'values.c'),
    ]);
    return execFileSync(join(folder, 'values'), { encoding: 'utf8' })
      .trim()
      .split('\n')
      .map(Number);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function check(test: Test, pairs: readonly (readonly [expression: string, value: number])[]): void {
  const values = evaluate(pairs.map(([expression]) => expression));
  test.equal(values.length, pairs.length);
  pairs.forEach(([expression, value], index) => {
    test.equal(value, values[index], expression);
  });
}

/** Every field of an object of offsets: `portServer` is `port_server` in C. */
function offsets(struct: string, fields: Readonly<Record<string, number>>): [string, number][] {
  return Object.entries(fields).map(([field, offset]) => {
    const name = field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    return [`offsetof(struct ${struct}, ${name})`, offset];
  });
}

t.test('session_record', async (t) => {
  check(t, [
    ...offsets('session_record', SESSION_RECORD),
    ['sizeof(struct session_record)', SESSION_RECORD_BYTES],
    ['SESSION_FREE', SessionState.free],
    ['SESSION_SYN_RECEIVED', SessionState.synReceived],
    ['SESSION_PASSING', SessionState.passing],
    ['SESSION_LINGERING', SessionState.lingering],
    ['SESSION_CLIENT_FIN', SessionFlag.clientFin],
    ['SESSION_NODE_FIN', SessionFlag.nodeFin],
    ['IXP_WSCALE_OK', SessionFlag.windowScaleOk],
    ['IXP_SACK_OK', SessionFlag.sackOk],
    ['IXP_TSTAMP_OK', SessionFlag.timestampsOk],
    ['IXP_WSCALE_OK', IxpFlag.windowScaleOk],
    ['ACTION_FORWARD', SessionAction.forward],
    ['ACTION_PAYLOAD_UP', SessionAction.payloadUp],
    ['ACTION_WRAP', SessionAction.wrap],
    ['ACTION_ANSWERED', SessionAction.answered],
    ['ACTION_ENDED', SessionAction.ended],
    ['ACTION_HEADS', SessionAction.heads],
    ['ACTION_CLOSING', SessionAction.closing],
  ]);
  t.equal(Object.keys(SESSION_RECORD).length, 22, 'every field');
});

t.test('other shared structs and numbers', async (t) => {
  check(t, [
    ...offsets('xdp_control', layout.CONTROL),
    ['sizeof(struct xdp_control)', layout.CONTROL_BYTES],
    ...offsets('xdp_node', layout.NODE),
    ['sizeof(struct xdp_node)', layout.NODE_BYTES],
    ['sizeof(struct index_line)', layout.INDEX_LINE_WORDS * 4],
    ['INDEX_LINE_WORDS', layout.INDEX_LINE_WORDS],
    ['sizeof(struct inline_server)', layout.INLINE_SERVER_BYTES],
    ['INLINE_SERVERS', layout.INLINE_SERVERS],
    ['SERVER_RETIRED', layout.SERVER_RETIRED],
    ['SERVER_ACKS_UP', layout.SERVER_ACKS_UP],
    ['SERVER_SLOT', layout.SERVER_SLOT],
    ['NO_SERVER', layout.NO_SERVER],
    ['SESSION_NODE_FIN', SessionFlag.nodeFin],
    ['SHARED_LAYOUT', layout.SHARED_LAYOUT],
    ['OUTPUT_REDIRECT', layout.OUTPUT.redirect],
    ['OUTPUT_GENERIC', layout.OUTPUT.generic],
    ['MAX_WORKERS', layout.MAX_WORKERS],
    ['MAX_XDP_NODES', layout.MAX_XDP_NODES],
    ['MAX_QUEUES', layout.MAX_QUEUES],
    ['SYN_ALIVE_MS', SYN_ALIVE_MS],
  ]);
});

t.test('tables of mode forward', async (t) => {
  check(t, [
    ...offsets('forward_server', forward.FORWARD_SERVER),
    ['sizeof(struct forward_server)', forward.FORWARD_SERVER_BYTES],
    ['FORWARD_PICKS', forward.MOST_PICKS],
    ['FORWARD_IN_USE', forward.ServerFlag.inUse],
    ['FORWARD_CLOSED', forward.ServerFlag.closed],
    ...offsets('forward_bucket', forward.FORWARD_BUCKET),
    ['sizeof(struct forward_bucket)', forward.FORWARD_BUCKET_BYTES],
    ['sizeof(struct forward_node)', forward.FORWARD_NODE_BYTES],
    ['FORWARD_KEEPS', forward.NodeFlag.keeps],
    ['FORWARD_TAKES', forward.NodeFlag.takes],
    ...offsets('forward_flow', forward.FORWARD_FLOW),
    ['sizeof(struct forward_flow)', forward.FORWARD_FLOW_BYTES],
    ['FORWARD_WAYS', forward.WAYS],
    ['FORWARD_FLOW', forward.FlowKind.flow],
    ['FORWARD_STICKY', forward.FlowKind.sticky],
    ['FORWARD_FRAGMENT', forward.FlowKind.fragment],
    ['FORWARD_KIND_MASK', forward.KIND_MASK],
    ['FORWARD_SECOND << FORWARD_STATE_SHIFT', forward.FlowState.second],
    ['FORWARD_FIN << FORWARD_STATE_SHIFT', forward.FlowState.fin],
    ['FORWARD_RST << FORWARD_STATE_SHIFT', forward.FlowState.rst],
    ...offsets('forward_address', forward.FORWARD_ADDRESS),
    ['sizeof(struct forward_address)', forward.FORWARD_ADDRESS_BYTES],
    ...offsets('forward_span', forward.FORWARD_SPAN),
    ['sizeof(struct forward_span)', forward.FORWARD_SPAN_BYTES],
    ...offsets('forward_range', forward.FORWARD_RANGE),
    ['sizeof(struct forward_range)', forward.FORWARD_RANGE_BYTES],
    ...offsets('inline_span', forward.INLINE_SPAN),
    ['sizeof(struct inline_span)', forward.INLINE_SPAN_BYTES],
    ['INLINE_SPANS', forward.INLINE_SPANS],
    ['SPAN_COUNT_SHIFT', forward.SPAN_COUNT_SHIFT],
    ['SPAN_TRANSPORT_SHIFT', forward.SPAN_TRANSPORT_SHIFT],
    ['FORWARD_NEAR_SETS', forward.NEAR_SETS],
    ['FORWARD_CANDIDATES', forward.CANDIDATES],
    ['MOST_FORWARD_RANGES', forward.MOST_FORWARD_RANGES],
    ...offsets('forward_count', forward.FORWARD_COUNT),
    ['sizeof(struct forward_count)', forward.FORWARD_COUNT_BYTES],
    ['FORWARD_TICK_SHIFT', forward.TICK_SHIFT],
    ['FORWARD_TICK_MASK', forward.TICK_MASK],
    ['FORWARD_TICKS_AHEAD', forward.TICKS_AHEAD],
    ['NO_NODE', forward.NO_NODE],
    ['MOST_SERVERS', layout.MOST_VIRTUAL_SERVERS],
  ]);
});

t.test('heads that were judged', async (t) => {
  check(t, [
    ...offsets('judged_head', heads.JUDGED_HEAD),
    ['sizeof(struct judged_head)', heads.JUDGED_HEAD_BYTES],
    ...offsets('session_moves', heads.SESSION_MOVES),
    ['sizeof(struct session_moves)', heads.SESSION_MOVES_BYTES],
    ...offsets('node_moves', heads.NODE_MOVES),
    ['sizeof(struct node_moves)', heads.NODE_MOVES_BYTES],
    ['MOST_PARKED', heads.MOST_PARKED],
    ['HEAD_SOLE', heads.HEAD_SOLE],
    ['HEAD_WAYS', heads.HEAD_WAYS],
    ['HEAD_LEAST_BYTES', heads.HEAD_LEAST_BYTES],
    ['HEAD_MOST_BYTES', heads.HEAD_MOST_BYTES],
    ['HEAD_NODES', heads.HEAD_NODES],
  ]);
});

t.test('digests of heads', async (t) => {
  const key = Uint8Array.from({ length: 16 }, (_, index) => index * 17 + 3);
  const digest = new HeadDigest(key);
  const pairs: [string, number][] = [];
  for (const length of [16, 17, 23, 24, 63, 64, 200, heads.HEAD_MOST_BYTES]) {
    const text = Uint8Array.from({ length }, (_, index) => (index * 29 + length) & 0xff);
    digest.compute(Uint8Array.of(1, 2, ...text), 2, 2 + length);
    digest.words.forEach((word, index) => {
      const half = `head_digest(${bytesOf(key)}, ${bytesOf(text)}, ${length}).word[${index >> 1}]`;
      pairs.push([`(__u32)(${half} >> ${(index & 1) * 32})`, word]);
    });
  }
  check(t, pairs);
  t.throws(() => digest.compute(key, 0, heads.HEAD_LEAST_BYTES - 1), RangeError);
});

t.test('records of a capture', async (t) => {
  check(t, [
    ...offsets('tap_record', TAP_RECORD),
    ['sizeof(struct tap_record)', TAP_RECORD_BYTES],
    ['TAP_RECEIVED', TapKind.received],
    ['TAP_KERNEL', TapKind.kernel],
    ...offsets('tap_config', TAP_CONFIG),
    ['sizeof(struct tap_config)', TAP_CONFIG_BYTES],
    ['TAP_UNIT_SHIFT', UNIT_SHIFT],
  ]);
  t.ok(evaluate(['TAP_LONGEST'])[0]! >= LEASE_UNITS);
});

t.test('kernel_event', async (t) => {
  const { mssAndWindow, scalesFlagsAndMac, mac, ...wholes } = KERNEL_EVENT;
  const bytes = Object.fromEntries(Object.entries(wholes).map(([name, word]) => [name, word * 4]));
  check(t, [
    ...offsets('kernel_event', bytes),
    ['offsetof(struct kernel_event, mss)', mssAndWindow * 4],
    ['offsetof(struct kernel_event, window)', mssAndWindow * 4 + 2],
    ['offsetof(struct kernel_event, scales)', scalesFlagsAndMac * 4],
    ['offsetof(struct kernel_event, flags)', scalesFlagsAndMac * 4 + 1],
    ['offsetof(struct kernel_event, mac)', scalesFlagsAndMac * 4 + 2],
    ['offsetof(struct kernel_event, mac[2])', mac * 4],
    ['sizeof(struct kernel_event)', KERNEL_EVENT_WORDS * 4],
    ...offsets('kernel_event', EVENT_BYTES),
    ['sizeof(struct kernel_event)', KERNEL_EVENT_BYTES],
  ]);
});

t.test('hash and worker', async (t) => {
  const pairs: [string, number][] = [];
  for (let i = 0; i < HASHES; i++) {
    const [client, port, clientSeed, portSeed] = [
      0x9e37_79b9, 0x85eb_ca6b, 0xc2b2_ae35, 0x27d4_eb2f,
    ].map((factor) => Math.imul(i * 7919 + 1, factor) >>> 0) as [number, number, number, number];
    const hash = sessionHash(client, port, clientSeed, portSeed);
    pairs.push([`session_hash(${client}u, ${port}u, ${clientSeed}u, ${portSeed}u)`, hash]);
    for (const workers of [1, 3, 8]) {
      pairs.push([`session_worker(${hash}u, ${workers})`, sessionWorker(hash, workers)]);
    }
  }
  check(t, pairs);
});
