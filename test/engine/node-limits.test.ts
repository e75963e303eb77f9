/**
 * What a node has reported about itself: virtual addresses that it lacks, and TCP options that are
 * switched off. Also refusals in a row.
 */

import t, { type Test } from 'tap';
import type { TcpSpec } from '../../lab/packet.js';
import { Answer } from '../../src/directory/answers.js';
import { IxcpFlag, IxcpReason } from '../../src/wire/ixcp.js';
import { IxpFlag } from '../../src/wire/ixp.js';
import {
  Conversation,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
  NODES,
  NOTICE,
  notice,
  SERVER,
  toClient,
} from '../support/conversation.js';
import { answerText } from '../support/known-answers.js';
import { START } from '../support/uptime.js';

const ALL = IxpFlag.windowScaleOk | IxpFlag.sackOk | IxpFlag.timestampsOk;
const SYN = { mss: 1460, sackPermitted: true, timestamps: [7, 0] as const, windowScale: 9 };
const OTHER = '10.9.0.101';

class Reports {
  private seq = 0;
  constructor(private readonly talk: Conversation) {}

  /** A report of each address, or one of none, with these flags. */
  send(
    time: number,
    node: number,
    flags: number,
    addresses: readonly string[],
    count = addresses.length,
  ): void {
    this.seq++;
    for (const virtualAddress of addresses.length === 0 ? ['0.0.0.0'] : addresses) {
      const names = flags === 0 ? 0 : IxcpFlag.canAdopt | IxcpFlag.namesAddresses;
      this.talk.send(
        time,
        notice(node, NOTICE.report, {
          client: '0.0.0.0',
          virtualAddress,
          clientPort: count,
          virtualPort: 0,
          session: 7,
          seq: this.seq,
          flags: flags | names,
        }),
      );
      this.talk.expect(time, {
        ip: { destination: NODES[node]!.address },
        ixcp: { type: NOTICE.welcome },
      });
    }
  }
}

/**
 * A GET at `time` after a handshake with all options. Returns the segments to nodes or to
 * ourselves.
 */
function ask(
  talk: Conversation,
  time: number,
  path: string,
  sourcePort: number,
): ReturnType<Conversation['rest']> {
  talk.send(time, fromClient({ flags: 'S', seq: 1000, sourcePort, options: SYN }));
  const [answer] = talk.rest(time);
  const stamps = answer?.tcp?.options.timestamps;
  const options: TcpSpec['options'] = stamps === undefined ? {} : { timestamps: [8, stamps[0]] };
  const ack = ISN + 1;
  talk.send(time, fromClient({ flags: 'A', seq: 1001, ack, sourcePort, options }));
  talk.send(time, fromClient({ flags: 'PA', seq: 1001, ack, sourcePort, options }, get(path)));
  return talk.rest(time);
}

const flagsOf = (sent: ReturnType<Conversation['rest']>[number] | undefined): number =>
  (sent?.ixp?.flags ?? 0xff) & ALL;

const whereTo = (sent: ReturnType<Conversation['rest']>): number =>
  NODES.findIndex(({ mac }) => mac === sent[0]?.ethernet.destination);

t.test('a node without the virtual address gets no session of that virtual server', async (t) => {
  const talk = new Conversation(t);
  const reports = new Reports(talk);
  t.equal(whereTo(ask(talk, 0, '/01', 1)), 0, 'an agent that does not name addresses may have all');
  reports.send(0, 0, 1, [OTHER]);
  t.equal(whereTo(ask(talk, 1, '/01', 2)), 1);
  const [own] = ask(talk, 2, '/0', 3);
  const text = Buffer.from(own?.payload ?? '').toString();
  t.equal(text, answerText(Answer.unavailable, get('/0').length), 'no other node: 503 at once');
  reports.send(3, 0, 1, [OTHER, SERVER.address]);
  t.equal(whereTo(ask(talk, 3, '/0', 4)), 0);
  reports.send(4, 0, 1, [OTHER], 2);
  t.equal(whereTo(ask(talk, 4, '/0', 5)), 0, 'a list with a gap says nothing');
  reports.send(5, 0, 1, [OTHER, OTHER], 2);
  t.equal(whereTo(ask(talk, 5, '/0', 6)), 0, 'a list with a repetition says nothing');
  reports.send(6, 0, 1, []);
  t.equal(whereTo(ask(talk, 6, '/01', 7)), 1, 'none at all');
});

t.test('a session whose options a node has switched off goes to another holder', async (t) => {
  for (const [flag, option] of [
    [IxcpFlag.noTimestamps, IxpFlag.timestampsOk],
    [IxcpFlag.noWindowScale, IxpFlag.windowScaleOk],
  ] as const) {
    const talk = new Conversation(t);
    const reports = new Reports(talk);
    reports.send(0, 0, flag, [SERVER.address]);
    // The options were agreed before the report, or before the offer changed.
    const [sent] = ask(talk, 1, '/01', 1);
    t.equal(whereTo([sent!]), 1);
    t.equal(flagsOf(sent), ALL);
    talk.nodes.withheld.current = option;
    const [next] = ask(talk, 2, '/0', 2);
    t.equal(whereTo([next!]), 0, 'agreed after the report: the node takes it');
    t.equal(flagsOf(next), ALL & ~option);
  }
});

t.test('a node continues without SACK where it is off', async (t) => {
  const talk = new Conversation(t);
  const reports = new Reports(talk);
  reports.send(0, 0, IxcpFlag.noSack, [SERVER.address]);
  const [sent] = ask(talk, 1, '/0', 1);
  t.equal(whereTo([sent!]), 0);
  t.equal(flagsOf(sent), ALL & ~IxpFlag.sackOk);
  t.equal(flagsOf(ask(talk, 2, '/1', 2)[0]), ALL, 'nothing is changed for another node');
});

t.test('a SYN/ACK offers only what is not withheld, with a cookie as well', async (t) => {
  const offered = (
    t: Test,
    withheld: number,
    halfOpen: number,
  ): { flags: number; answer: TcpSpec['options'] } => {
    const talk = new Conversation(t, {
      limits: { halfOpen },
      isn: halfOpen === 0 ? undefined : ISN,
    });
    talk.nodes.withheld.current = withheld;
    talk.send(0, fromClient({ flags: 'S', seq: 1000, options: SYN }));
    const answer = talk.expect(0, toClient({ flags: 'SA', ack: 1001 }));
    const { timestamps } = answer.tcp!.options;
    const options: TcpSpec['options'] =
      timestamps === undefined ? {} : { timestamps: [8, timestamps[0]] };
    const ack = answer.tcp!.seq + 1;
    talk.send(1, fromClient({ flags: 'PA', seq: 1001, ack, options }, get('/0')));
    const sent = talk.expect(1, inIxp(0, { type: IXP_TYPE.adopt }, {}));
    t.equal(sent.ixp!.scales, (withheld & IxpFlag.windowScaleOk) !== 0 ? 0 : 0x97);
    return { flags: sent.ixp!.flags & ALL, answer: answer.tcp!.options };
  };
  for (let withheld = 0; withheld <= ALL; withheld++) {
    for (const halfOpen of [32, 0]) {
      const { flags, answer } = offered(t, withheld, halfOpen);
      t.equal(flags, ALL & ~withheld, `withheld ${withheld}, room for ${halfOpen}`);
      t.equal(answer?.timestamps !== undefined, (withheld & IxpFlag.timestampsOk) === 0);
      t.equal(answer?.windowScale !== undefined, (withheld & IxpFlag.windowScaleOk) === 0);
      t.equal(answer?.sackPermitted === true, (withheld & IxpFlag.sackOk) === 0);
    }
  }
});

t.test('a node that refuses repeatedly is the last choice, until it adopts', async (t) => {
  const talk = new Conversation(t);
  const refuse = (time: number, port: number, reason: number): number => {
    const to = whereTo(ask(talk, time, '/01', port));
    if (to !== 0) return to;
    const session = 100 + port - 1;
    talk.send(
      time,
      notice(0, NOTICE.refused, { reason, session, clientPort: port, ack: 1001, seq: ISN + 1 }),
    );
    talk.rest(time);
    return to;
  };
  for (let port = 1; port <= 3; port++) t.equal(refuse(port, port, IxcpReason.noListener), 0);
  t.equal(refuse(4, 4, IxcpReason.noListener), 1, 'left alone');
  t.ok(talk.states.hasFailed(0, 0));
  const takes = (time: number): boolean => talk.nodes.takesHandoffs(0, 0, ALL, START + time);
  t.notOk(takes(1_000));
  t.ok(takes(1_003), 'asked again after a second');
  talk.states.handoffRefused(0, 0, IxcpReason.noListener, START + 1_100);
  t.notOk(takes(1_101), 'left out again at once');
  talk.states.handoffConfirmed(0, 0);
  t.ok(takes(1_102));
  t.notOk(talk.states.hasFailed(0, 0));
});

t.test('an older connection in the way says nothing about the node', async (t) => {
  const talk = new Conversation(t);
  for (let i = 0; i < 10; i++) talk.states.handoffRefused(0, 0, IxcpReason.tupleInUse, 5);
  t.notOk(talk.states.hasFailed(0, 0));
  t.ok(talk.nodes.takesHandoffs(0, 0, ALL, 5));
});

t.test('a silent node is left out for longer when its agent was never heard', async (t) => {
  const talk = new Conversation(t);
  const reports = new Reports(talk);
  for (const [heard, seconds] of [
    [false, 60],
    [true, 5],
  ] as const) {
    if (heard) reports.send(0, 0, 1, [SERVER.address]);
    t.ok(talk.nodes.takesHandoffs(0, 0, ALL, START), 'a first report ends that');
    for (let i = 0; i < 3; i++) talk.states.handoffTimedOut(0, START);
    t.notOk(talk.nodes.takesHandoffs(0, 0, ALL, START + seconds * 1_000 - 1));
    t.ok(talk.nodes.takesHandoffs(0, 0, ALL, START + seconds * 1_000));
  }
});
