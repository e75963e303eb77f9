/** Records of a session become one line, whatever is missing of them. */
import t from 'tap';
import { RecordKind } from '../../../src/balancer/access-log/records.js';
import { Answer } from '../../../src/directory/answers.js';
import { NO_NODE } from '../../../src/engine/node-table.js';
import { CLOSED, HEAD, joiner } from './fixture.js';

const at = (clock: number, nonce = CLOSED.nonce) => ({ slot: CLOSED.slot, nonce, clock });

t.test('a request and an end are a line', async (t) => {
  const { joiner: table, sink, lines } = joiner();
  sink.request(at(1_012), HEAD, false);
  t.equal(table.size, 1);
  sink.closed(CLOSED);
  t.equal(table.size, 0);
  t.same(lines, [
    {
      openedAt: 997_000,
      client: 0x0a63_00c8,
      clientPort: 40_000,
      server: 'www',
      text: {
        line: 'GET /a HTTP/1.1',
        method: 'GET',
        host: 'www',
        referer: 'r',
        userAgent: 'test',
        cut: false,
      },
      rewritten: undefined,
      node: 'n2',
      tried: [],
      status: undefined,
      timeToHandoff: 12,
      duration: 2_500,
      packets: 3,
      bytes: 100,
      closed: 'fin',
      reasons: [],
      worker: 0,
    },
  ]);
});

t.test('times are right when the clock of the engine wraps', async (t) => {
  const { joiner: table, sink, lines } = joiner();
  table.setTime(1_000_000, 2 ** 32 + 500);
  const openedAt = 2 ** 32 - 1_000;
  sink.request(at(2 ** 32 - 900), HEAD, false);
  sink.closed({ ...CLOSED, openedAt, clock: 100 });
  t.match(lines, [{ openedAt: 998_500, timeToHandoff: 100, duration: 1_100 }]);
});

t.test('a session that moves: reasons, nodes, and the time of the last handoff', async (t) => {
  const { sink, lines } = joiner();
  sink.request(at(1_010), HEAD, false);
  sink.event(at(1_310), RecordKind.unconfirmed, 0);
  sink.event(at(1_610), RecordKind.unconfirmed, 0);
  sink.event(at(1_610), RecordKind.silent, 0);
  sink.event(at(1_611), RecordKind.handoff, 1);
  // The handoff to the same node again changes nothing.
  sink.event(at(1_900), RecordKind.handoff, 1);
  sink.closed(CLOSED);
  t.match(lines, [
    {
      node: 'n2',
      tried: ['n1'],
      timeToHandoff: 611,
      reasons: ['handoff-repeated', 'node-silent'],
    },
  ]);
});

t.test('answers of the balancer itself', async (t) => {
  const own = { ...CLOSED, node: NO_NODE };
  const { sink, lines } = joiner();
  sink.request(at(1_010), HEAD, false);
  sink.event(at(1_011), RecordKind.refused, 0);
  sink.event(at(1_012), RecordKind.handoff, NO_NODE);
  sink.closed({ ...own, answer: Answer.unavailable });
  t.match(lines.pop(), { status: 503, node: undefined, tried: ['n1'], timeToHandoff: 12 });
  // The head was never complete.
  sink.event(at(11_000), RecordKind.handoff, NO_NODE);
  sink.closed({ ...own, answer: Answer.timeout, request: '' });
  t.match(lines.pop(), { status: 408, timeToHandoff: 10_000, reasons: ['head-timeout'] });
  sink.closed({ ...own, answer: Answer.silentClose, request: '' });
  t.match(lines.pop(), { status: undefined, reasons: ['silent-client'], text: { line: '' } });
  sink.closed({ ...own, request: '', reason: 'client-reset' });
  t.match(lines.pop(), { node: undefined, timeToHandoff: undefined, reasons: [] });
});

t.test('a session of an earlier run, and one whose request was lost', async (t) => {
  const { sink, lines } = joiner();
  sink.closed({ ...CLOSED, request: '' });
  t.match(lines.pop(), { node: 'n2', timeToHandoff: undefined, reasons: ['earlier-run'] });
  sink.closed({ ...CLOSED, request: 'GET /a/path/that/is/longer/than/forty/by', requestCut: true });
  t.match(lines.pop(), {
    text: { line: 'GET /a/path/that/is/longer/than/forty/by', method: 'GET' },
    reasons: ['request-lost', 'text-cut'],
  });
});

t.test('slots are used again: an end takes only the request of its own session', async (t) => {
  const { joiner: table, sink, lines } = joiner();
  const other = table.sink(1);
  sink.request(at(1_010), HEAD, false);
  other.request(at(1_010), HEAD.replace('/a', '/other'), false);
  sink.closed({ ...CLOSED, nonce: 78 });
  t.match(lines.pop(), { text: { host: undefined }, worker: 0 });
  other.closed(CLOSED);
  t.match(lines.pop(), { text: { line: 'GET /other HTTP/1.1' }, worker: 1 });
  // The end of the first one was lost; the next session has its slot.
  sink.request(at(2_000, 79), HEAD.replace('/a', '/next'), false);
  t.equal(table.size, 1);
  sink.closed({ ...CLOSED, nonce: 79 });
  t.match(lines.pop(), { text: { line: 'GET /next HTTP/1.1' } });
  t.equal(table.size, 0);
});

t.test('a full table gives up the sessions that wait longest, and counts them', async (t) => {
  const few = joiner({ sessions: 3, bytes: 1e6 });
  for (let slot = 0; slot < 5; slot++)
    few.sink.request({ slot, nonce: slot, clock: 1_010 }, HEAD, false);
  t.equal(few.joiner.size, 3);
  t.equal(few.joiner.lost, 2);
  for (let slot = 0; slot < 5; slot++) few.sink.closed({ ...CLOSED, slot, nonce: slot });
  t.same(
    few.lines.map(({ reasons }) => reasons),
    [['request-lost'], ['request-lost'], [], [], []],
  );
  const small = joiner({ sessions: 100, bytes: 4_000 });
  for (let slot = 0; slot < 50; slot++)
    small.sink.request({ slot, nonce: slot, clock: 1_010 }, HEAD, false);
  t.ok(small.joiner.size > 2 && small.joiner.size < 16, `${small.joiner.size} sessions fit`);
  t.equal(small.joiner.size + small.joiner.lost, 50);
});

t.test('a name that is not known is its slot', async (t) => {
  const { sink, lines } = joiner();
  sink.closed({ ...CLOSED, node: 9, server: 3 });
  t.match(lines, [{ node: '#9', server: '#3' }]);
});

t.test('the target that the node got has the query of the request', async (t) => {
  const { joiner: table, sink, lines } = joiner();
  sink.request(at(1_010), HEAD.replace('/a', '/a?b=c?d'), false);
  sink.rewritten(at(1_010), '/old');
  sink.rewritten(at(1_010), '/new');
  sink.rewritten(at(1_010, 99), '/other-session');
  sink.closed(CLOSED);
  sink.request(at(1_010), HEAD, false);
  sink.rewritten(at(1_010), `/${'x'.repeat(3_000)}`);
  sink.closed(CLOSED);
  t.same(
    lines.map(({ rewritten }) => rewritten?.slice(0, 20)),
    ['/new?b=c?d', `/${'x'.repeat(19)}`],
  );
  t.equal(lines[1]?.rewritten?.length, 2_048);
  t.equal(table.size, 0);
});
