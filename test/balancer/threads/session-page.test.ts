/** Rows of the session table: the kept part of a request, and whether it is complete. */
import t, { type Test } from 'tap';
import type { SessionRow } from '../../../src/api/documents.js';
import { sessionRow } from '../../../src/balancer/threads/session-page.js';
import { REQUEST_BYTES } from '../../../src/engine/table/session-table.js';
import { Conversation, fromClient, ISN } from '../../support/conversation.js';

const NAMES = {
  virtualServers: new Map([[0, 'www']]),
  nodes: new Map([
    [0, 'n1'],
    [1, 'n2'],
  ]),
};

/** The row of a session whose client has sent these bytes. */
function rowAfter(t: Test, bytes: string): SessionRow {
  const talk = new Conversation(t);
  talk.handshake(0);
  talk.send(5, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1 }, bytes));
  const { sessions } = talk.engine;
  return sessionRow(sessions, sessions.nextUsed(0), NAMES, 10);
}

t.test('a truncated request is marked, and one that just fits is not', async (t) => {
  const target = (bytes: number): string => `/0${'x'.repeat(bytes - 'GET /0'.length)}`;
  const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;

  const whole = target(REQUEST_BYTES);
  t.match(rowAfter(t, get(whole)), { request: `GET ${whole}`, requestCut: false });
  const longer = target(REQUEST_BYTES + 1);
  t.match(rowAfter(t, get(longer)), {
    request: `${`GET ${longer}`.slice(0, REQUEST_BYTES)}...`,
    requestCut: true,
  });
  // Dots that the client sent are not a mark.
  const dots = `${target(REQUEST_BYTES - 3)}...`;
  t.match(rowAfter(t, get(dots)), { request: `GET ${dots}`, requestCut: false });
});

t.test('a truncated first line of a refused request is marked too', async (t) => {
  const line = (bytes: number): string => `BAD${'y'.repeat(bytes - 'BAD'.length)}`;
  t.match(rowAfter(t, `${line(REQUEST_BYTES)}\r\n\r\n`), {
    request: line(REQUEST_BYTES),
    requestCut: false,
  });
  t.match(rowAfter(t, `${line(REQUEST_BYTES + 1)}\r\n\r\n`), {
    request: `${line(REQUEST_BYTES)}...`,
    requestCut: true,
  });
});
