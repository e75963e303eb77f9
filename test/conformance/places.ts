/**
 * The states in which events are tried (RFC 9293 section 3.10.7), as the server sees them. Each
 * says how a conversation gets there, and how it goes on after the event: what then comes back
 * shows in which state the event has left the connection.
 */
import type { Talk } from './talk.js';

/** What a conversation needs of its surroundings. */
export interface Stage {
  /** Waits for a fact about what was heard. */
  until(test: () => boolean, what: string): Promise<void>;
  /** Waits until everything that was sent has been processed, at the balancer and at the nodes. */
  processed(): Promise<void>;
}

export interface Place {
  /** Heading in docs/conformance.md. */
  title: string;
  section: '3.10.7.1' | '3.10.7.2' | '3.10.7.4';
  /** What has happened, in one sentence for the document. */
  story: string;
  /** Goes on after the event. */
  later: string;
  /** Default: the port of the server. */
  closedPort?: boolean;
  kind: 'none' | 'half-open' | 'open';
  begin(talk: Talk, stage: Stage): Promise<void>;
  goOn(talk: Talk): void;
}

/** Bytes of the window where an answer is blocked. */
const NARROW = 200;
const WIDE = 200_000;
/** Names below the web root, and what is there. /none.txt is nowhere. */
export const CONTENT: Readonly<Record<string, string>> = {
  'a.txt': 'a'.repeat(100),
  'big.txt': 'b'.repeat(3_000),
};

function headOf(name: string, connection = 'keep-alive'): string {
  return `GET /${name} HTTP/1.1\r\nHost: conformance\r\nConnection: ${connection}\r\n\r\n`;
}

/** Bytes of a head that are sent first where it comes in parts. */
const PART = 20;
/** The bytes of events in states in which the client has nothing left to say. */
const FILLER = 'x'.repeat(64);

async function open(talk: Talk, stage: Stage): Promise<void> {
  talk.syn();
  await stage.until(() => talk.seen === 1, 'SYN/ACK');
}

async function establish(talk: Talk, stage: Stage): Promise<void> {
  await open(talk, stage);
  // The kernel's answer to the SYN has reached the engine.
  await stage.processed();
  talk.send({});
  await stage.processed();
}

/** Sends a head and waits for its answer, and for FIN if the server is to close. */
async function ask(talk: Talk, stage: Stage, name: string, closes = false): Promise<void> {
  talk.script += headOf(name, closes ? 'close' : 'keep-alive');
  talk.say();
  await stage.until(() => talk.hasAnswer && talk.closed === closes, `the answer to ${name}`);
  await stage.processed();
}

async function served(talk: Talk, stage: Stage): Promise<void> {
  await establish(talk, stage);
  await ask(talk, stage, 'a.txt');
  talk.send({});
  talk.script += headOf('a.txt');
  await stage.processed();
}

async function blocked(talk: Talk, stage: Stage): Promise<void> {
  talk.window = NARROW;
  await establish(talk, stage);
  talk.script = headOf('big.txt');
  talk.say();
  await stage.until(() => talk.text.length === NARROW, 'what the window admits');
  talk.send({ window: 0 });
  await stage.processed();
}

async function closedBy(talk: Talk, stage: Stage, name: string): Promise<void> {
  await establish(talk, stage);
  await ask(talk, stage, name, true);
  talk.script += FILLER;
}

async function finWait2(talk: Talk, stage: Stage, name: string): Promise<void> {
  await closedBy(talk, stage, name);
  talk.send({});
  await stage.processed();
}

async function timeWait(talk: Talk, stage: Stage, name: string): Promise<void> {
  await finWait2(talk, stage, name);
  talk.finish();
  await stage.until(() => talk.acked === talk.next, 'the ACK of FIN');
  await stage.processed();
}

async function closing(talk: Talk, stage: Stage, name: string): Promise<void> {
  await closedBy(talk, stage, name);
  talk.finish({ ack: talk.seen - 1 });
  await stage.until(() => talk.acked === talk.next, 'the ACK of FIN');
  await stage.processed();
}

async function lastAck(talk: Talk, stage: Stage): Promise<void> {
  await establish(talk, stage);
  await ask(talk, stage, 'a.txt');
  talk.finish();
  await stage.until(() => talk.closed, 'FIN of the server');
  talk.script += FILLER;
  await stage.processed();
}

/** The rest of the head, or a whole one on a new connection if there was none before. */
function sayRest(talk: Talk): void {
  talk.say();
}

function closeToo(talk: Talk): void {
  talk.send({});
  talk.finish();
}

const OPEN_PLACES: readonly Place[] = [
  {
    title: 'ESTABLISHED, nothing sent',
    section: '3.10.7.4',
    story: 'The handshake is complete. The balancer has the connection.',
    later: 'the request',
    kind: 'open',
    async begin(talk, stage) {
      await establish(talk, stage);
      talk.script = headOf('a.txt');
    },
    goOn: sayRest,
  },
  {
    title: 'ESTABLISHED, a part of a head sent',
    section: '3.10.7.4',
    story: `The client has sent ${PART} bytes of a head. The balancer has the connection.`,
    later: 'the rest of the request',
    kind: 'open',
    async begin(talk, stage) {
      await establish(talk, stage);
      talk.script = headOf('a.txt');
      talk.say(PART);
      await stage.until(() => talk.acked === talk.next, 'the ACK of the part');
    },
    goOn: sayRest,
  },
  {
    title: 'ESTABLISHED, answered',
    section: '3.10.7.4',
    story: 'The client has acknowledged the answer to a request. A node has the connection.',
    later: 'another request',
    kind: 'open',
    begin: served,
    goOn: sayRest,
  },
  {
    title: 'ESTABLISHED, answer not acknowledged',
    section: '3.10.7.4',
    story:
      'The client has got an answer, and acknowledged nothing of it. A node has the connection.',
    later: 'another request, which acknowledges the answer',
    kind: 'open',
    async begin(talk, stage) {
      await establish(talk, stage);
      await ask(talk, stage, 'a.txt');
      talk.script += headOf('a.txt');
    },
    goOn: sayRest,
  },
  {
    title: 'ESTABLISHED, window closed',
    section: '3.10.7.4',
    story: `The client has got ${NARROW} bytes of an answer and closed its window. A node has the connection.`,
    later: 'a wide window',
    kind: 'open',
    async begin(talk, stage) {
      await blocked(talk, stage);
      talk.script += headOf('a.txt');
    },
    goOn: (talk) => talk.send({ window: WIDE }),
  },
  {
    title: 'CLOSE-WAIT',
    section: '3.10.7.4',
    story: 'As before, and the client has sent FIN. A node has the connection.',
    later: 'a wide window',
    kind: 'open',
    async begin(talk, stage) {
      await blocked(talk, stage);
      talk.finish();
      await stage.until(() => talk.acked === talk.next, 'the ACK of FIN');
      talk.script += FILLER;
      await stage.processed();
    },
    goOn: (talk) => talk.send({ window: WIDE }),
  },
  {
    title: 'LAST-ACK',
    section: '3.10.7.4',
    story: 'The client has sent FIN, and has got that of the server. A node has the connection.',
    later: 'the ACK of FIN, and an ACK of a connection that has ended',
    kind: 'open',
    begin: lastAck,
    goOn(talk) {
      talk.send({});
      talk.send({});
    },
  },
  {
    title: 'CLOSED, after LAST-ACK',
    section: '3.10.7.4',
    story: 'As before, and the client has acknowledged FIN. The connection has ended.',
    later: 'an ACK',
    kind: 'open',
    async begin(talk, stage) {
      await lastAck(talk, stage);
      talk.send({});
      await stage.processed();
    },
    goOn: (talk) => talk.send({}),
  },
];

/** Where the server closes first: a node, and the balancer itself. */
function closingPlaces(who: string, name: string): readonly Place[] {
  const shared = { section: '3.10.7.4', kind: 'open' } as const;
  return [
    {
      ...shared,
      title: `FIN-WAIT-1, of ${who}`,
      story: 'The server has answered and sent FIN. The client has acknowledged nothing of it.',
      later: 'an ACK, and FIN',
      begin: (talk, stage) => closedBy(talk, stage, name),
      goOn: closeToo,
    },
    {
      ...shared,
      title: `FIN-WAIT-2, of ${who}`,
      story: 'As before, and the client has acknowledged FIN.',
      later: 'an ACK, and FIN',
      begin: (talk, stage) => finWait2(talk, stage, name),
      goOn: closeToo,
    },
    {
      ...shared,
      title: `CLOSING, of ${who}`,
      story: 'Both sides have sent FIN. The client has acknowledged the answer, and not FIN.',
      later: 'the ACK of FIN, and FIN again',
      begin: (talk, stage) => closing(talk, stage, name),
      goOn(talk) {
        talk.send({});
        talk.send({ flags: 'FA', seq: talk.next - 1 });
      },
    },
    {
      ...shared,
      title: `TIME-WAIT, of ${who}`,
      story: 'Both sides have sent FIN, and acknowledged that of the other side.',
      later: 'FIN again',
      begin: (talk, stage) => timeWait(talk, stage, name),
      goOn: (talk) => talk.send({ flags: 'FA', seq: talk.next - 1 }),
    },
  ];
}

/** After the event: a whole request. It is refused if the event has opened no connection. */
function askAtOnce(talk: Talk): void {
  talk.script = headOf('a.txt');
  talk.say();
}

export const PLACES: readonly Place[] = [
  {
    title: 'CLOSED',
    section: '3.10.7.1',
    story: 'A port without a server.',
    later: 'an ACK',
    closedPort: true,
    kind: 'none',
    begin: () => Promise.resolve(),
    goOn: (talk) => talk.send({}),
  },
  {
    title: 'LISTEN',
    section: '3.10.7.2',
    story: 'The port of the server, without a connection.',
    later: 'a request',
    kind: 'none',
    begin: () => Promise.resolve(),
    goOn: askAtOnce,
  },
  {
    title: 'SYN-RECEIVED',
    section: '3.10.7.4',
    story: 'The client has sent SYN, and has got SYN/ACK.',
    later: 'a request, which acknowledges SYN/ACK',
    kind: 'half-open',
    async begin(talk, stage) {
      await open(talk, stage);
      talk.script = headOf('a.txt');
      await stage.processed();
    },
    goOn: sayRest,
  },
  ...OPEN_PLACES,
  ...closingPlaces('a node', 'a.txt'),
  ...closingPlaces('the balancer', 'none.txt'),
];
