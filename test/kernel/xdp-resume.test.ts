/**
 * The XDP program and parked sockets: which ENDED notices it notes, and with which heads it brings
 * a session back to a node where it is parked.
 */
import t from 'tap';
import { build, type PacketSpec, type TcpSpec } from '../../lab/packet.js';
import { SESSION_MOVES, SESSION_MOVES_BYTES } from '../../src/datapath/heads-layout.js';
import { JudgedHeads } from '../../src/engine/moving/judged-heads.js';
import { NO_NODE } from '../../src/engine/node-table.js';
import { SessionAction } from '../../src/engine/table/session-record.js';
import { IxcpType } from '../../src/wire/ixcp.js';
import { IXP, IxpFlag, IxpType } from '../../src/wire/ixp.js';
import { insideNamespace } from './namespace.js';
import { Fast } from './xdp-fixture.js';
import { CLIENT_ISN, NODE, notice, SERVER_ISN, segment, Verdict } from './xdp-packets.js';

const { tx, redirect, drop } = Verdict;
const HEAD = 'GET /a HTTP/1.1\r\nHost: a\r\n\r\n';
const FOLLOWED = SessionAction.forward | SessionAction.payloadUp | SessionAction.heads;
const OTHER = { index: 2, mac: '02:00:00:00:00:04' } as const;
/** Where the next head begins, and the end of the answers: S and A. */
const NEXT = (CLIENT_ISN + 500) >>> 0;
const ACKED = SERVER_ISN + 100;
const IXP_OFFSET = 34;
const UP = { verdict: redirect, counters: ['payload_up'] };
const MOVED = { verdict: tx, counters: ['head_moved'] };
const NOTED = { verdict: drop, counters: ['ended_noted'] };
const FORWARDED = { verdict: tx, counters: ['forwarded'] };
const CLOCK = 7;

/**
 * The usual client's session at the usual node, which has got two requests, and is parked at
 * another one. The other node alone may get HEAD.
 */
function setting(test: { teardown(action: () => void): void }) {
  const fast = new Fast({ headSets: 4 });
  test.teardown(() => fast.close());
  fast.engine(true);
  const memory = fast.headMemory();
  const judged = new JudgedHeads(memory, { requests: () => {}, judged: () => {} });
  const slot = fast.session(FOLLOWED, (table, at) => {
    table.setHandedTo(at, NEXT);
    table.setReceiveNext(at, NEXT);
    table.setClientAck(at, ACKED);
  });
  fast.node(OTHER.index, { mac: OTHER.mac, interface: 1 });
  const moves = new DataView(memory.moves, slot * SESSION_MOVES_BYTES, SESSION_MOVES_BYTES);
  const table = fast.tables[0]!;
  memory.generation[0] = 9;
  moves.setUint32(SESSION_MOVES.generation, 9, true);
  moves.setUint32(SESSION_MOVES.nodeRequests, 2, true);
  moves.setUint16(SESSION_MOVES.endedNode, NO_NODE, true);
  for (let at = 0; at < 4; at++)
    moves.setUint16(SESSION_MOVES.parked + 2 * at, at === 0 ? OTHER.index : NO_NODE, true);
  const judge = (head = HEAD, node: number = OTHER.index, isSole = true): void => {
    const bytes = Buffer.from(head);
    for (let time = 0; time < 2; time++)
      judged.offer(memory.generation[0]!, 0, node, 3, bytes, 0, bytes.length, 0, 6, CLOCK, isSole);
  };
  /** ENDED of the session's node: with S, A and the number of answers. */
  const ended = (next = NEXT, at = ACKED, answers = 2, type: number = IxcpType.ended) =>
    notice({
      ixcp: { type, session: table.nonce(slot), seq: at, ack: next, flags: answers },
    });
  return { fast, slot, table, moves, memory, judge, ended };
}

function request(change: TcpSpec = {}, head = HEAD): PacketSpec {
  return segment({ flags: 'PA', seq: NEXT, ack: ACKED, ...change }, head);
}

if (insideNamespace(import.meta.url)) {
  t.test('it brings a session back to a parked node', async (t) => {
    const { fast, slot, table, moves, judge, ended } = setting(t);
    judge();
    t.match(fast.run(request()), UP, 'its node has not said that it has ended');
    t.match(fast.run(ended()), NOTED);
    const sent = build(request());
    const outcome = fast.run(request());
    t.match(outcome, MOVED);
    const { frame } = outcome;
    const view = new DataView(frame.buffer, frame.byteOffset);
    const about = IxpFlag.clientConfirms | IxpFlag.follow | IxpFlag.tell | IxpFlag.holdReset;
    t.equal(Buffer.from(frame.subarray(0, 6)).toString('hex'), OTHER.mac.replaceAll(':', ''));
    t.equal(view.getUint8(23), 253, 'IXP');
    t.equal(view.getUint8(IXP_OFFSET + IXP.type), IxpType.resume);
    t.equal(view.getUint8(IXP_OFFSET + IXP.flags) & about, about);
    t.equal(view.getUint32(IXP_OFFSET + IXP.confirm), (NEXT + HEAD.length) >>> 0);
    t.strictSame([...frame.subarray(IXP_OFFSET + 36)], [...sent.subarray(IXP_OFFSET)]);

    t.equal(table.node(slot), OTHER.index);
    t.equal(table.handedTo(slot), (NEXT + HEAD.length) >>> 0);
    t.equal(moves.getUint16(SESSION_MOVES.parked, true), NODE.index);
    t.equal(moves.getUint32(SESSION_MOVES.moved, true), 1);
    t.equal(moves.getUint32(SESSION_MOVES.requests, true), 1);
    t.equal(moves.getUint32(SESSION_MOVES.nodeRequests, true), 1);
  });

  t.test('nothing in plain form goes to a node that may not have the session again', async (t) => {
    const { fast, slot, table, moves, judge, ended } = setting(t);
    judge();
    fast.run(ended());
    t.match(fast.run(request()), MOVED);
    const end = NEXT + HEAD.length;
    t.match(fast.run(request()), UP, 'the client repeats the head');
    t.match(fast.run(segment({ flags: 'A', seq: end, ack: ACKED })), {
      verdict: redirect,
      counters: ['to_engine_state'],
    });
    t.match(fast.run(segment({ flags: 'FA', seq: end, ack: ACKED })), {
      verdict: redirect,
      counters: ['to_engine_fin'],
    });
    t.equal(table.node(slot), OTHER.index);
    // The client has bytes of the answer.
    t.match(fast.run(segment({ flags: 'A', seq: end, ack: ACKED + 1 })), FORWARDED);
    t.equal(moves.getUint32(SESSION_MOVES.unproven, true), 0);
    t.match(fast.run(request()), FORWARDED, 'an old copy');
  });

  t.test('whatever is not certain goes to the engine', async (t) => {
    const cases: [string, (all: ReturnType<typeof setting>) => void][] = [
      ['another number of answers', ({ fast, ended }) => void fast.run(ended(NEXT, ACKED, 1))],
      ['another place in the requests', ({ fast, ended }) => void fast.run(ended(NEXT - 1))],
      ['the client lacks a byte', ({ fast, ended }) => void fast.run(ended(NEXT, ACKED + 1))],
      [
        'a change since then',
        ({ fast, ended, memory, judge }) => {
          fast.run(ended());
          memory.generation[0] = 10;
          judge();
        },
      ],
      [
        'the session may not be moved',
        ({ fast, ended, moves }) => {
          fast.run(ended());
          moves.setUint32(SESSION_MOVES.generation, 0, true);
        },
      ],
      [
        'it is not parked there',
        ({ fast, ended, moves }) => {
          fast.run(ended());
          moves.setUint16(SESSION_MOVES.parked, NO_NODE, true);
        },
      ],
      [
        'the node is not resolved',
        ({ fast, ended }) => {
          fast.run(ended());
          fast.node(OTHER.index, { mac: OTHER.mac, interface: 0 });
        },
      ],
    ];
    for (const [name, change] of cases)
      await t.test(name, async (t) => {
        const all = setting(t);
        all.judge();
        change(all);
        t.match(all.fast.run(request()), UP);
        t.equal(all.table.node(all.slot), NODE.index);
      });
    await t.test('another node may get it, too', async (t) => {
      const { fast, judge, ended } = setting(t);
      judge(HEAD, OTHER.index, false);
      fast.run(ended());
      t.match(fast.run(request()), UP);
    });
  });

  t.test('an ENDED that is not certain goes to the engine', async (t) => {
    const { fast, slot, table, moves, ended } = setting(t);
    const UP_NOTICE = { verdict: redirect, counters: ['to_engine_ixcp'] };
    const other = ended();
    t.match(fast.run({ ...other, ip: { ...other.ip, source: '10.78.0.9' } }), UP_NOTICE, 'a node');
    const held = ended();
    t.match(fast.run({ ...held, ixcp: { ...held.ixcp!, reason: 9 } }), UP_NOTICE, 'held payload');
    const stale = ended();
    const session = (table.nonce(slot) + 1) >>> 0;
    t.match(fast.run({ ...stale, ixcp: { ...stale.ixcp!, session } }), UP_NOTICE, 'a session');
    fast.setAction(slot, FOLLOWED & ~SessionAction.heads);
    t.match(fast.run(ended()), UP_NOTICE, 'the engine works on the session');
    fast.setAction(slot, FOLLOWED);
    moves.setUint32(SESSION_MOVES.generation, 0, true);
    t.match(fast.run(ended()), UP_NOTICE, 'the engine has not allowed it');
  });
}
