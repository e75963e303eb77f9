/** A node gets another path: its head begins earlier or later, and ends where the client's does. */

import type { Test } from 'tap';
import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { inSlots, KeepAlive } from '../../src/engine/farm.js';
import { IxcpFlag } from '../../src/wire/ixcp.js';
import { IXP_HEADER_BYTES } from '../../src/wire/ixp.js';
import {
  Conversation,
  type ConversationOptions,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  NOTICE,
  notice,
  SERVER,
} from '../support/conversation.js';
import { withdrawn } from '../support/handoff-frames.js';
import { START } from '../support/uptime.js';

const { adopt, segment, leave } = IXP_TYPE;

const REWRITES = { '/0': '/a/much/longer/path', '/01': '/', '/012': '/210' };

function conversation(t: Test, options?: ConversationOptions): Conversation {
  const talk = new Conversation(t, options);
  talk.dispatcher.rewrites = REWRITES;
  return talk;
}

/** The request as the node gets it, and how many bytes it has more. */
function rewritten(path: keyof typeof REWRITES): { head: string; more: number } {
  const head = get(path).replace(path, REWRITES[path]);
  return { head, more: head.length - get(path).length };
}

for (const path of ['/0', '/01', '/012'] as const) {
  t.test(`${path} becomes ${REWRITES[path]}`, async (t) => {
    const talk = conversation(t);
    const request = get(path);
    const { head, more } = rewritten(path);
    const end = 1001 + request.length;
    talk.handshake(0);
    const asks = fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, request);
    talk.send(0, asks);
    const handed = inIxp(
      0,
      { type: adopt, confirm: end },
      { flags: 'PA', seq: 1001 - more, ack: ISN + 1 },
      head,
    );
    talk.expect(0, handed);
    // The client repeats its request: the engine sends what it keeps, at its own time.
    talk.send(100, asks);
    talk.quiet(299);
    talk.expect(300, handed);
    talk.send(301, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: end }));
    talk.end(500, 1);
    for (const plain of [
      fromClient({ flags: 'A', seq: end, ack: ISN + 100 }),
      fromClient({ flags: 'PA', seq: end, ack: ISN + 100 }, 'more'),
      asks,
    ]) {
      talk.send(500, plain);
      talk.expectForwarded(500, 0, plain);
    }
    talk.counted({ rewritten: 1, drop_out_of_window: 0, handoff_retransmitted: 1 });
    t.ok(talk.events.includes(`rewritten ${REWRITES[path]}`));
  });
}

t.test('numbers wrap around', async (t) => {
  const talk = conversation(t);
  const { head, more } = rewritten('/0');
  talk.handshake(0, { seq: 4 });
  talk.send(0, fromClient({ flags: 'PA', seq: 5, ack: ISN + 1 }, `${get('/0')}body`));
  talk.expect(
    0,
    inIxp(
      0,
      { type: adopt, confirm: 5 + get('/0').length + 4 },
      { seq: 2 ** 32 + 5 - more },
      `${head}body`,
    ),
  );
});

t.test('the next holder gets it too; what is withdrawn has the numbers of the node', async (t) => {
  const talk = conversation(t);
  const { head, more } = rewritten('/01');
  const end = 1001 + get('/01').length;
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, get('/01')));
  const handed = (node: number) =>
    inIxp(node, { type: adopt }, { seq: 1001 - more, ack: ISN + 1 }, head);
  talk.expect(0, handed(0));
  talk.send(1, notice(0, NOTICE.refused, { reason: 1 }));
  talk.expect(1, handed(1));
  talk.expect(301, handed(1));
  talk.expect(601, withdrawn(1, end));
});

t.test('a changed directory changes the path', async (t) => {
  const talk = conversation(t);
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, get('/0')));
  const { head, more } = rewritten('/0');
  talk.expect(0, inIxp(0, { type: adopt }, { seq: 1001 - more }, head));
  const other = (path: string) => get('/0').replace('/0', path);
  talk.dispatcher.rewrites = { '/0': '/b' };
  talk.change(1, {}, { '/0': [1, 2] });
  talk.send(1, notice(0, NOTICE.refused, { reason: 1 }));
  talk.expect(1, inIxp(1, { type: adopt }, { seq: 1001 }, other('/b')));
  talk.dispatcher.rewrites = {};
  talk.change(2, {}, { '/0': [2] });
  talk.send(2, notice(1, NOTICE.refused, { reason: 1 }));
  talk.expect(2, inIxp(2, { type: adopt }, { seq: 1001 }, get('/0')));
  talk.counted({ rewritten: 2 });
});

t.test('a long head goes in pieces, which may be cut inside the path', async (t) => {
  const mtu = 640;
  const piece = mtu - 20 - 20 - IXP_HEADER_BYTES;
  for (const length of [piece - 10, piece + 10, 3 * piece]) {
    const talk = new Conversation(t, { mtu });
    const path = `/${'x'.repeat(length)}`;
    talk.dispatcher.rewrites = { '/0': path };
    const request = get('/0').replace('\r\n\r\n', `\r\nX: ${'y'.repeat(700)}\r\n\r\n`);
    const head = request.replace('/0', path);
    const end = 1001 + request.length;
    const first = end - head.length;
    talk.handshake(0);
    talk.send(0, fromClient({ flags: 'A', seq: 1001, ack: ISN + 1 }, request));
    const piecesFrom = (from: number) => {
      for (let at = from; at < head.length; at += piece) {
        const type = at === 0 ? adopt : segment;
        const last = at + piece >= head.length;
        talk.expect(
          from === 0 ? 0 : 301,
          inIxp(
            0,
            { type, confirm: end },
            { seq: (first + at) >>> 0, flags: last ? 'PA' : 'A' },
            head.slice(at, at + piece),
          ),
        );
      }
    };
    piecesFrom(0);
    // The node has the first piece only.
    talk.send(1, notice(0, NOTICE.adopted, { ack: (first + piece) >>> 0 }));
    piecesFrom(piece);
    talk.send(302, notice(0, NOTICE.adopted, { ack: end }));
    talk.end(1000, 1);
    // The numbers of the client are in force again.
    t.equal(talk.engine.sessions.clientIsn(0), 1000);
  }
});

t.test('a client that closes behind its request', async (t) => {
  const talk = conversation(t);
  const { head, more } = rewritten('/0');
  const end = 1001 + get('/0').length;
  talk.handshake(0);
  talk.send(0, fromClient({ flags: 'PFA', seq: 1001, ack: ISN + 1 }, get('/0')));
  talk.expect(0, inIxp(0, { type: adopt, confirm: end + 1 }, { seq: 1001 - more }, head));
  talk.expect(0, inIxp(0, { type: segment }, { flags: 'FA', seq: end }, ''));
});

t.test('a path that needs a larger room gets one; one that fits into none: 503', async (t) => {
  for (const [length, rewritten] of [
    [3_000, 1],
    [30_000, 0],
  ] as const) {
    const talk = new Conversation(t);
    talk.dispatcher.rewrites = { '/0': `/${'x'.repeat(length)}` };
    talk.handshake(0);
    talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, get('/0')));
    const sent = talk.rest(0).map(({ payload }) => Buffer.from(payload).toString('latin1'));
    t.equal(sent.join('').includes('x'.repeat(length)), rewritten === 1);
    talk.counted({ rewritten, rewrite_no_room: 1 - rewritten, answer_503: 1 - rewritten });
  }
});

t.test('a later request leaves its node for another path, and may come back to it', async (t) => {
  const server = {
    address: addressNumber(SERVER.address),
    port: SERVER.port,
    keepAlive: KeepAlive.migrate,
  };
  const talk = conversation(t, { engine: { virtualServers: inSlots([server]) } });
  const abilities = IxcpFlag.canAdopt | IxcpFlag.canRelease | IxcpFlag.canLeave;
  for (const node of [0, 1, 2]) talk.states.reported(node, 1, 1, abilities, START);
  talk.handshake(0);
  let seq = 1001;
  let ack = ISN + 1;
  const asks = (time: number, path: string) => {
    talk.send(time, fromClient({ flags: 'PA', seq, ack }, get(path)));
    seq += get(path).length;
  };
  const answered = (time: number) => {
    ack += 100;
    const packet = fromClient({ flags: 'A', seq, ack });
    talk.send(time, packet);
    talk.expectForwarded(time, 0, packet);
  };
  asks(0, '/0');
  const first = rewritten('/0');
  talk.expect(0, inIxp(0, { type: adopt }, { seq: 1001 - first.more, ack: ISN + 1 }, first.head));
  talk.send(1, notice(0, NOTICE.adopted, { ack: seq }));
  answered(2);
  for (const [time, path] of [
    [10, '/01'],
    [20, '/012'],
    [30, '/0'],
  ] as const) {
    const begins = seq;
    asks(time, path);
    talk.expect(time, inIxp(0, { type: leave }, { flags: 'A', seq: begins, ack }, ''));
    talk.send(time + 1, notice(0, NOTICE.left, { seq: ack, ack: begins }));
    const { head, more } = rewritten(path);
    talk.expect(
      time + 1,
      inIxp(0, { type: adopt, confirm: seq }, { seq: begins - more, ack }, head),
    );
    talk.send(time + 2, notice(0, NOTICE.adopted, { ack: seq }));
    answered(time + 3);
  }
  // A request that stays as it is stays with its node.
  talk.dispatcher.rewrites = {};
  const begins = seq;
  asks(40, '/0');
  talk.expectForwarded(40, 0, fromClient({ flags: 'PA', seq: begins, ack }, get('/0')));
  talk.counted({ rewritten: 4, moved: 3 });
  talk.end(50, 1);
});
