/** What the engine counts about single nodes and virtual servers. */
import t from 'tap';
import {
  ObjectCounters,
  type ServerCounts,
  TIME_BOUNDS_MS,
} from '../../src/base/object-counters.js';
import { IxcpFlag } from '../../src/wire/ixcp.js';
import {
  Conversation,
  fromClient,
  get,
  ISN,
  NODES,
  NOTICE,
  notice,
} from '../support/conversation.js';
import { START } from '../support/uptime.js';

type Talk = Conversation & { objects: ObjectCounters };

function begin(t: ConstructorParameters<typeof Conversation>[0]): Talk {
  const objects = new ObjectCounters(NODES.length, 1);
  return Object.assign(new Conversation(t, { engine: { objects } }), { objects });
}

function nodeOf(talk: Talk, node: number): Record<string, number> {
  return ObjectCounters.ofNode([talk.objects], node);
}

function serverOf(talk: Talk): ServerCounts {
  return ObjectCounters.ofServer([talk.objects], 0);
}

/** The bounds of the buckets that have a time, one for each time; Infinity: above the last. */
function times(talk: Talk): number[] {
  const bounds = [...TIME_BOUNDS_MS, Number.POSITIVE_INFINITY];
  const { buckets } = serverOf(talk).timeToHandoff;
  return buckets.flatMap((count, bucket) => new Array<number>(count).fill(bounds[bucket]!));
}

/** The usual client asks for `path` at `time`; its SYN came at 0. */
function asks(talk: Talk, path: string, time: number): string {
  talk.handshake(0);
  const request = get(path);
  talk.send(time, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, request));
  return request;
}

t.test('a session that its node adopts', async (t) => {
  const talk = begin(t);
  talk.passing(0, '/1', 1);
  t.same(nodeOf(talk, 1), { handoffs: 1, adopted: 1, refused: 0, silent: 0, taken_back: 0 });
  t.same(nodeOf(talk, 0), { handoffs: 0, adopted: 0, refused: 0, silent: 0, taken_back: 0 });
  t.match(serverOf(talk), { connections: 1, requests: 1, handoffs: 1, answer_404: 0 });
  t.same(times(talk), [1]);
});

t.test('refusals and silence count for the node that caused them', async (t) => {
  const talk = begin(t);
  asks(talk, '/012', 0);
  talk.send(1, notice(0, NOTICE.refused, { reason: 1 }));
  talk.rest(2_000);
  t.same(nodeOf(talk, 0), { handoffs: 1, adopted: 0, refused: 1, silent: 0, taken_back: 0 });
  t.same(nodeOf(talk, 1), { handoffs: 1, adopted: 0, refused: 0, silent: 1, taken_back: 0 });
  t.same(nodeOf(talk, 2), { handoffs: 1, adopted: 0, refused: 0, silent: 1, taken_back: 0 });
  t.match(serverOf(talk), { requests: 1, handoffs: 3, answer_503: 1 });
  t.same(times(talk), [1], 'only the first handoff of a session has a time');
});

t.test('a session that is taken back from its node', async (t) => {
  const talk = begin(t);
  talk.states.reported(0, 1, 1, IxcpFlag.canAdopt | IxcpFlag.canRelease, START);
  const request = asks(talk, '/01', 0);
  talk.send(1, notice(0, NOTICE.adopted, { seq: ISN + 1, ack: 1001 + request.length }));
  talk.rest(1_100);
  talk.send(1_101, notice(0, NOTICE.released));
  t.same(nodeOf(talk, 0), { handoffs: 1, adopted: 1, refused: 0, silent: 0, taken_back: 1 });
  t.match(nodeOf(talk, 1), { handoffs: 1 });
});

t.test('answers of the balancer itself', async (t) => {
  for (const [path, name] of [
    ['/nowhere', 'answer_404'],
    ['BAD', 'answer_400'],
  ] as const) {
    const talk = begin(t);
    talk.handshake(0);
    const head = path === 'BAD' ? 'BAD\r\n\r\n' : get(path);
    talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, head));
    t.match(serverOf(talk), { [name]: 1, handoffs: 0, requests: path === 'BAD' ? 0 : 1 });
    t.same(times(talk), [], 'it is no handoff to a node');
    talk.rest(0);
  }
  const talk = begin(t);
  talk.handshake(0);
  talk.rest(11_000);
  t.match(serverOf(talk), { closed_silent_client: 1, answer_408: 0 });
});

t.test('the time from the SYN to the handoff', async (t) => {
  const slow = begin(t);
  asks(slow, '/0', 180);
  t.same(times(slow), [200]);
  t.equal(serverOf(slow).timeToHandoff.sumMs, 180);
});

t.test('a session that a cookie opened is as old as the SYN/ACK that had the cookie', async (t) => {
  const objects = new ObjectCounters(NODES.length, 1);
  const talk = new Conversation(t, {
    isn: undefined,
    limits: { halfOpen: 0 },
    engine: { objects },
  });
  talk.send(0, fromClient({ flags: 'S', seq: 1000, options: { mss: 1460, timestamps: [77, 0] } }));
  const [answer] = talk.rest(0);
  const { seq, options } = answer!.tcp!;
  const stamps = { timestamps: [78, options.timestamps![0]] as const };
  const request = { flags: 'PA', seq: 1001, ack: (seq + 1) >>> 0, options: stamps };
  talk.send(40, fromClient(request, get('/0')));
  talk.rest(40);
  t.equal(ObjectCounters.ofServer([objects], 0).timeToHandoff.sumMs, 40);
});
