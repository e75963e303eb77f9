/** Records and lines as the tests of the access log make them. */

import {
  Joiner,
  type JoinLimits,
  type SessionLine,
} from '../../../src/balancer/access-log/joiner.js';
import { NO_TEXT } from '../../../src/balancer/access-log/request-text.js';
import type { ClosedSession, RecordSink } from '../../../src/balancer/access-log/ring-reader.js';
import { toAddress } from '../../../src/wire/address.js';

/** A session whose SYN came at 1,000 ms and whose end at 3,500 ms of the engine's clock. */
export const CLOSED: ClosedSession = {
  slot: 5,
  nonce: 77,
  clock: 3_500,
  client: toAddress(0x0a63_00c8),
  clientPort: 40_000,
  server: 0,
  openedAt: 1_000,
  packets: 3,
  bytes: 100,
  node: 1,
  answer: 0,
  reason: 'fin',
  request: 'GET /a',
  requestCut: false,
};

export const HEAD = 'GET /a HTTP/1.1\r\nHost: www\r\nUser-Agent: test\r\nReferer: r\r\n\r\n';

export const LINE: SessionLine = {
  openedAt: Date.UTC(2026, 10, 28, 8, 9, 3, 45),
  client: toAddress(0x0a63_00c8),
  clientPort: 40_000,
  server: 'www',
  text: { ...NO_TEXT, line: 'GET /a HTTP/1.1', method: 'GET', userAgent: 'test' },
  rewritten: undefined,
  node: 'n1',
  tried: [],
  status: undefined,
  timeToHandoff: 12,
  duration: 2_500,
  packets: 3,
  bytes: 100,
  closed: 'fin',
  reasons: [],
  worker: 0,
};

/** A joiner at 4,000 ms of the engine's clock, which is 1,000,000 ms since 1970, and its lines. */
export function joiner(limits?: JoinLimits): {
  joiner: Joiner;
  sink: RecordSink;
  lines: SessionLine[];
} {
  const lines: SessionLine[] = [];
  const made = new Joiner((line) => lines.push(line), limits);
  made.names = {
    nodes: new Map([
      [0, 'n1'],
      [1, 'n2'],
    ]),
    servers: new Map([[0, 'www']]),
  };
  made.setTime(1_000_000, 4_000);
  return { joiner: made, sink: made.sink(0), lines };
}
