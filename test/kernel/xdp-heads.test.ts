/**
 * The XDP program and heads that the engine has judged before: which of them it forwards by itself,
 * and what it notes.
 */
import t from 'tap';
import { build, type PacketSpec, type TcpSpec } from '../../lab/packet.js';
import {
  HEAD_MOST_BYTES,
  HEAD_NODES,
  HEAD_WAYS,
  JUDGED_HEAD,
  JUDGED_HEAD_BYTES,
  SESSION_MOVES,
  SESSION_MOVES_BYTES,
} from '../../src/datapath/heads-layout.js';
import { JudgedHeads, voidHeads } from '../../src/engine/moving/judged-heads.js';
import { SessionAction } from '../../src/engine/table/session-record.js';
import { SessionFlag, SessionState } from '../../src/engine/table/session-table.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import { CLIENT_ISN, NODE, onward, SERVER_ISN, segment, Verdict } from './xdp-packets.js';

const { tx, redirect } = Verdict;
const SETS = 4;
const HEAD = 'GET /a HTTP/1.1\r\nHost: a\r\n\r\n';
const FOLLOWED = SessionAction.forward | SessionAction.payloadUp | SessionAction.heads;
/** Where the next head begins, and what the client has acknowledged of the answer before. */
const NEXT = (CLIENT_ISN + 500) >>> 0;
const ACKED = SERVER_ISN + 100;
const MAX_ADVANCE = 1 << 24;
const FORWARDED = { verdict: tx, counters: ['forwarded', 'head_forwarded'] };
const UP = { verdict: redirect, counters: ['payload_up'] };
const CLOCK = 7;

interface Setting {
  fast: Fast;
  judged: JudgedHeads;
  /** Requests that were counted: virtual server, resource, how many. */
  counted: [number, number, number][];
  /** How often a head took the place of another one. */
  replaced: () => number;
  slot: number;
}

/** The usual client's session at the usual node, which may move and is at the start of a head. */
function setting(test: { teardown(action: () => void): void }, workers = 1): Setting {
  const fast = new Fast({ headSets: SETS, workers });
  test.teardown(() => fast.close());
  fast.engine(true);
  const counted: [number, number, number][] = [];
  let replaced = 0;
  const judged = new JudgedHeads(fast.headMemory(), {
    requests: (...what) => counted.push(what),
    judged: (replaces) => {
      if (replaces) replaced += 1;
    },
  });
  const slot = fast.session(FOLLOWED, (table, at) => {
    table.setHandedTo(at, NEXT);
    table.setReceiveNext(at, NEXT);
    table.setClientAck(at, ACKED);
  });
  return { fast, judged, counted, replaced: () => replaced, slot };
}

/** Tells the program about a head, as the engine does at the second time that it judges it. */
function judge({ judged }: Setting, head: string, node: number = NODE.index, server = 0): void {
  const bytes = Buffer.from(`..${head}`);
  const { generation } = judged;
  for (let time = 0; time < 2; time++)
    judged.offer(generation, server, node, 3, bytes, 2, bytes.length, 0, 6, CLOCK);
}

function request(change: TcpSpec = {}, head = HEAD, rest: PacketSpec = {}): PacketSpec {
  return segment({ flags: 'PA', seq: NEXT, ack: ACKED, ...change }, head, rest);
}

/** What the program has noted about a session: requests, and the number of the last head. */
function noted({ fast, slot }: Setting): [number, number] {
  const view = new DataView(fast.object.mapMemory('moves'), slot * SESSION_MOVES_BYTES);
  return [view.getUint32(SESSION_MOVES.requests, true), view.getUint32(SESSION_MOVES.head, true)];
}

if (insideNamespace(import.meta.url)) {
  t.test('it forwards a head that was judged, and notes how far it got', async (t) => {
    const all = setting(t);
    const { fast, judged, counted, slot } = all;
    const table = fast.tables[0]!;
    t.match(fast.run(request()), UP, 'not judged yet');
    judge(all, HEAD);
    const frame = request();
    const outcome = fast.run(frame);
    t.match(outcome, FORWARDED);
    t.equal(table.handedTo(slot), (NEXT + HEAD.length) >>> 0);
    t.equal(table.receiveNext(slot), (NEXT + HEAD.length) >>> 0);
    t.equal(table.packets(slot), 1);
    t.ok(table.lastSeen(slot) > 1, 'the session is not idle');
    const [requests, number] = noted(all);
    t.equal(requests, 1);
    t.equal(Buffer.from(judged.textOf(judged.find(number))).toString(), 'GET /a');

    // The client sends it again, and then the next one.
    t.match(fast.run(frame), { verdict: tx, counters: ['forwarded'] }, 'a retransmission');
    t.equal(noted(all)[0], 1, 'which is no request');
    t.match(fast.run(request({ seq: NEXT + HEAD.length, ack: ACKED + 1000 })), FORWARDED);
    t.equal(table.clientAck(slot), ACKED + 1000);
    t.equal(noted(all)[0], 2);
    judged.tick(CLOCK);
    judged.tick(CLOCK);
    t.same(counted, [[0, 3, 2]], 'each is counted once');
    fast.engine(false);
    t.match(
      fast.run(request({ seq: NEXT + 2 * HEAD.length })),
      FORWARDED,
      'without an engine, too',
    );
  });

  t.test('frames go on as they came', async (t) => {
    const all = setting(t);
    judge(all, HEAD);
    const spec = request({ options: { timestamps: [1, 2] } });
    const { frame } = all.fast.run(spec);
    t.strictSame([...frame], [...onward(build(spec))]);
  });

  t.test('any other segment goes to the engine', async (t) => {
    const all = setting(t);
    const { fast, slot } = all;
    const table = fast.tables[0]!;
    judge(all, HEAD);
    const others: [string, PacketSpec][] = [
      ['another head', request({}, HEAD.replace('/a', '/b'))],
      ['a longer one', request({}, `${HEAD}x`)],
      ['a part', request({}, HEAD.slice(0, -1))],
      ['before the next head, with new bytes', request({ seq: NEXT - 1 })],
      ['behind it', request({ seq: NEXT + 1 })],
      ['an acknowledgement that cannot be', request({ ack: ACKED + MAX_ADVANCE + 1 })],
      ['one that is too old', request({ ack: (ACKED - MAX_ADVANCE - 1) >>> 0 })],
      ['no answer is acknowledged', request({ ack: SERVER_ISN + 1 })],
      ['no acknowledgement', request({ flags: 'P' })],
    ];
    for (const [name, packet] of others) t.match(fast.run(packet), UP, name);
    const states: [string, () => void, () => void][] = [
      [
        'the kernel does not follow',
        () => fast.setAction(slot, FOLLOWED & ~SessionAction.heads),
        () => fast.setAction(slot, FOLLOWED),
      ],
      [
        'the client has sent FIN',
        () => table.setFlags(slot, SessionFlag.clientFin),
        () => table.setFlags(slot, 0),
      ],
      [
        'the node has sent FIN',
        () => table.setFlags(slot, SessionFlag.nodeFin),
        () => table.setFlags(slot, 0),
      ],
      ['another node has the session', () => table.setNode(slot, 2), () => table.setNode(slot, 1)],
      [
        'a node without a bit',
        () => table.setNode(slot, HEAD_NODES + NODE.index),
        () => table.setNode(slot, NODE.index),
      ],
      [
        'the node is not resolved',
        () => fast.node(NODE.index, { mac: NODE.mac, interface: 0 }),
        () => fast.node(NODE.index, { mac: NODE.mac, interface: 1 }),
      ],
    ];
    fast.node(2, { mac: NODE.mac, interface: 1 });
    fast.node(HEAD_NODES + NODE.index, { mac: NODE.mac, interface: 1 });
    for (const [name, begin, end] of states) {
      begin();
      t.match(fast.run(request()), UP, name);
      end();
    }
    t.equal(table.handedTo(slot), NEXT);
    t.strictSame(noted(all), [0, 0]);
    t.match(fast.run(request()), FORWARDED);
  });

  t.test('a session that lingers is not followed', async (t) => {
    const all = setting(t);
    judge(all, HEAD);
    all.fast.tables[0]!.raise(all.slot, SessionFlag.adopted | SessionFlag.watched);
    all.fast.tables[0]!.setState(all.slot, SessionState.lingering);
    all.fast.setAction(all.slot, FOLLOWED);
    t.match(all.fast.run(request()), UP);
  });

  t.test('a head is judged for a virtual server and nodes', async (t) => {
    const all = setting(t);
    const { fast } = all;
    judge(all, HEAD, NODE.index, 1);
    t.match(fast.run(request()), UP, 'of another virtual server');
    judge(all, HEAD, 2);
    t.match(fast.run(request()), UP, 'of another node');
    judge(all, HEAD, HEAD_NODES);
    t.match(fast.run(request()), UP, 'a node without a bit');
    judge(all, HEAD);
    t.match(fast.run(request()), FORWARDED);
    fast.tables[0]!.setNode(all.slot, 2);
    fast.node(2, { mac: NODE.mac, interface: 1 });
    t.match(fast.run(request({ seq: NEXT + HEAD.length })), FORWARDED, 'both nodes');
  });

  t.test('a change voids all heads at once', async (t) => {
    const all = setting(t);
    const { fast, judged } = all;
    judge(all, HEAD);
    const memory = fast.headMemory();
    voidHeads(memory.generation);
    t.match(fast.run(request()), UP);
    const stale = judged.generation - 1;
    const bytes = Buffer.from(HEAD);
    judged.offer(stale, 0, NODE.index, 3, bytes, 0, bytes.length, 0, 6, CLOCK);
    t.match(fast.run(request()), UP, 'one that was judged before the change');
    judge(all, HEAD);
    t.match(fast.run(request()), FORWARDED);
    judged.directoryChanged(CLOCK);
    t.match(fast.run(request({ seq: NEXT + HEAD.length })), UP);
    t.same(all.counted, [[0, 3, 1]], 'counted in the directory that it belongs to');
  });

  t.test('heads of any length within the bounds', async (t) => {
    const all = setting(t);
    const { fast, slot } = all;
    const table = fast.tables[0]!;
    const edges = [16, 17, 23, 24, 25, 31, 32, 200, 1016, 1017, HEAD_MOST_BYTES];
    for (const length of edges) {
      const head = `GET /${'l'.repeat(length - 5)}`;
      table.setHandedTo(slot, NEXT);
      t.match(fast.run(request({}, head)), UP);
      judge(all, head);
      for (const at of [0, length - 9, length - 1].filter((place) => place >= 0)) {
        const other = `${head.slice(0, at)}x${head.slice(at + 1)}`;
        t.match(fast.run(request({}, other)), UP, `${length} bytes, byte ${at} differs`);
      }
      t.match(fast.run(request({}, head)), FORWARDED, `${length} bytes`);
    }
    for (const length of [15, HEAD_MOST_BYTES + 1]) {
      table.setHandedTo(slot, NEXT);
      const head = 'l'.repeat(length);
      judge(all, head);
      t.match(fast.run(request({}, head)), UP, `${length} bytes`);
    }
  });

  t.test('the map is bounded, and keeps what is asked for', async (t) => {
    const all = setting(t);
    const { fast, judged, slot } = all;
    const table = fast.tables[0]!;
    judge(all, HEAD);
    const places = SETS * HEAD_WAYS;
    const others = 10 * places;
    let found = 0;
    for (let n = 0; n < others; n++) {
      judge(all, `GET /${n} HTTP/1.1\r\n\r\n`);
      table.setHandedTo(slot, NEXT);
      if (fast.run(request()).verdict === tx) found += 1;
      judged.settleAll(CLOCK + n);
    }
    t.equal(found, others, 'a head that is asked for stays');
    t.ok(all.replaced() > others - 2 * places, `${all.replaced()} gave way`);
    const memory = fast.headMemory().heads;
    const generations = new Set(
      Array.from({ length: places }, (_, place) =>
        new DataView(memory).getUint32(place * JUDGED_HEAD_BYTES + JUDGED_HEAD.generation, true),
      ),
    );
    t.strictSame([...generations], [1]);
  });

  t.test('without sets, nothing is looked up', async (t) => {
    const fast = new Fast();
    t.teardown(() => fast.close());
    fast.engine(true);
    fast.session(FOLLOWED, (table, at) => {
      table.setHandedTo(at, NEXT);
      table.setClientAck(at, ACKED);
    });
    t.match(fast.run(request()), UP);
  });
}
