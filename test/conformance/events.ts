/** What is tried in each state: segments of a client, ordinary, old, odd and forged. */
import type { Place } from './places.js';
import type { Talk } from './talk.js';

export interface Event {
  name: string;
  play(talk: Talk): void;
}

/** Far outside of every window. */
const FAR = 1 << 22;
/** Inside of every window, and not at its beginning. */
const INSIDE = 500;
/** More than the options of a SYN cookie change in a sequence number. */
const UNSENT = 5_000;
const ONE_LESS = 'ACK of one byte less than before';
/** Bytes of a piece of data. */
const PIECE = 8;

function event(name: string, play: (talk: Talk) => void): Event {
  return { name, play };
}
/** Options as raw bytes, before the timestamp that the connection needs. */
function oddOptions(talk: Talk, ...bytes: number[]): { options: { raw: Uint8Array } } {
  const stamp = new Uint8Array(12);
  const view = new DataView(stamp.buffer);
  stamp.set([1, 1, 8, 10]);
  view.setUint32(4, talk.nextTimestamp());
  view.setUint32(8, talk.echo);
  return { options: { raw: Uint8Array.from([...bytes, ...stamp]) } };
}
/** The next piece of what the client has to say, as data of an event. */
const piece = (talk: Talk): string => talk.at(talk.next, PIECE);

const SYNS: readonly Event[] = [
  event('SYN, the same one', (t) => t.send({ flags: 'S', seq: 0, ...t.synOptions() })),
  event('SYN with an older number', (t) => t.send({ flags: 'S', seq: -FAR, ...t.synOptions() })),
  event('SYN at RCV.NXT', (t) => t.send({ flags: 'S', ...t.synOptions() })),
  event('SYN inside the window', (t) =>
    t.send({ flags: 'S', seq: t.next + INSIDE, ...t.synOptions() }),
  ),
  event('SYN beyond the window', (t) =>
    t.send({ flags: 'S', seq: t.next + FAR, ...t.synOptions() }),
  ),
  event('SYN/ACK', (t) => t.send({ flags: 'SA', seq: 0, ...t.synOptions() })),
];

const RESETS: readonly Event[] = [
  event('RST at RCV.NXT', (t) => t.send({ flags: 'R' })),
  event('RST/ACK at RCV.NXT', (t) => t.send({ flags: 'RA' })),
  event('RST/ACK at RCV.NXT, ACK of what was never sent', (t) =>
    t.send({ flags: 'RA', ack: t.seen + FAR }),
  ),
  event('RST one above RCV.NXT', (t) => t.send({ flags: 'R', seq: t.next + 1 })),
  event('RST inside the window', (t) => t.send({ flags: 'R', seq: t.next + INSIDE })),
  event('RST one below RCV.NXT', (t) => t.send({ flags: 'R', seq: t.next - 1 })),
  event('RST beyond the window', (t) => t.send({ flags: 'R', seq: t.next + FAR })),
  event('RST far below RCV.NXT', (t) => t.send({ flags: 'R', seq: t.next - FAR })),
];

const ACKS: readonly Event[] = [
  event('ACK that says nothing new', (t) => t.send({})),
  event('ACK of what was never sent', (t) => t.send({ ack: t.seen + UNSENT })),
  event('ACK far above SND.NXT', (t) => t.send({ ack: t.seen + FAR })),
  event(ONE_LESS, (t) => t.send({ ack: t.told - 1 })),
  event('ACK far below SND.UNA', (t) => t.send({ ack: t.told - FAR })),
  event('ACK beyond the window', (t) => t.send({ seq: t.next + FAR })),
  event('keep-alive probe', (t) => t.send({ seq: t.next - 1 })),
  event('keep-alive probe with a byte', (t) => t.send({ seq: t.next - 1, data: 'p' })),
];

const DATA: readonly Event[] = [
  event('data at RCV.NXT', (t) => t.say(PIECE)),
  event('data after a gap', (t) =>
    t.send({ seq: t.next + PIECE, data: t.at(t.next + PIECE, PIECE) }),
  ),
  event('data that came before', (t) =>
    t.send({ seq: 1, data: t.at(1, Math.min(PIECE, t.next - 1)) }),
  ),
  event('data that came before, and the next', (t) => {
    t.send({ seq: 1, data: t.at(1, t.next - 1 + PIECE) });
    t.next += PIECE;
  }),
  event('data beyond the window', (t) => t.send({ seq: t.next + FAR, data: 'outside!' })),
  event('data far below RCV.NXT', (t) => t.send({ seq: t.next - FAR, data: 'outside!' })),
  event('data, ACK of what was never sent', (t) =>
    t.send({ data: piece(t), ack: t.seen + UNSENT }),
  ),
  event('data, ACK far below SND.UNA', (t) => t.send({ data: piece(t), ack: t.told - FAR })),
  event('data without ACK', (t) => t.send({ flags: 'P', data: piece(t) })),
  event('data without a timestamp', (t) => t.send({ data: piece(t), bare: true })),
  event('data with an old timestamp (PAWS)', (t) => t.send({ data: piece(t), older: -FAR })),
  event('data with a wrong checksum', (t) =>
    t.send({ data: piece(t), header: { checksum: 0x1234 } }),
  ),
  event('urgent data', (t) => t.say(PIECE, { flags: 'PAU', header: { urgent: PIECE } })),
  event('an urgent pointer without URG', (t) => t.say(PIECE, { header: { urgent: PIECE } })),
  event('data with ECE and CWR', (t) => t.say(PIECE, { flags: 'PAEC' })),
];

const FINS: readonly Event[] = [
  event('FIN', (t) => t.finish()),
  event('FIN with data', (t) => {
    t.say(PIECE, { flags: 'FPA' });
    t.next++;
  }),
  event('FIN after a gap', (t) => t.send({ flags: 'FA', seq: t.next + PIECE })),
  event('FIN below RCV.NXT', (t) => t.send({ flags: 'FA', seq: t.next - PIECE })),
  event('FIN beyond the window', (t) => t.send({ flags: 'FA', seq: t.next + FAR })),
  event('FIN without ACK', (t) => t.send({ flags: 'F' })),
];

const ODD: readonly Event[] = [
  event('no flag at all', (t) => t.send({ flags: '' })),
  event('SYN and FIN', (t) => t.send({ flags: 'SF' })),
  event('SYN and RST', (t) => t.send({ flags: 'SR' })),
  event('FIN and RST', (t) => t.send({ flags: 'FR' })),
  event('all flags', (t) => t.send({ flags: 'FSRPAUEC' })),
  event('an unknown option', (t) => t.say(PIECE, { ...oddOptions(t, 99, 4, 0, 0) })),
  event('an option with length 0', (t) =>
    t.say(PIECE, { options: { raw: Uint8Array.of(99, 0, 0, 0) } }),
  ),
  event('an option beyond the header', (t) =>
    t.say(PIECE, { options: { raw: Uint8Array.of(1, 1, 99, 20) } }),
  ),
  event('a header of 16 bytes', (t) => t.send({ data: piece(t), header: { words: 4 } })),
  event('a header longer than the segment', (t) => t.send({ bare: true, header: { words: 15 } })),
];

const WINDOWS: readonly Event[] = [
  event('window 0', (t) => t.send({ window: 0 })),
  event('a smaller window', (t) => t.send({ window: 100 })),
  event('a larger window', (t) => t.send({ window: 100_000 })),
];

/** SYNs of clients that have said nothing before. */
const FIRST_SYNS: readonly Event[] = [
  event('SYN', (t) => t.syn()),
  event('SYN without options', (t) => t.syn({ options: {} })),
  event('SYN with MSS 0', (t) => t.syn({ options: { mss: 0 } })),
  event('SYN with window shift 15', (t) => t.syn({ options: { mss: 1_360, windowScale: 15 } })),
  event('SYN with SACK permitted alone', (t) => t.syn({ options: { sackPermitted: true } })),
  event('SYN with window 0', (t) => t.syn({ window: 0 })),
  event('SYN with data', (t) => t.syn({ data: 'GET / HT' })),
  event('SYN with ECE and CWR', (t) => t.syn({ flags: 'SEC' })),
  event('SYN with URG and PSH', (t) => t.syn({ flags: 'SUP', header: { urgent: 1 } })),
  event('SYN with a cookie request of TCP Fast Open', (t) =>
    t.syn({ options: { raw: Uint8Array.of(2, 4, 5, 0x50, 34, 2, 1, 1) } }),
  ),
  event('SYN with an unknown option', (t) =>
    t.syn({ options: { raw: Uint8Array.of(99, 4, 0, 0, 2, 4, 5, 0x50) } }),
  ),
  event('SYN with an option of length 0', (t) =>
    t.syn({ options: { raw: Uint8Array.of(2, 4, 5, 0x50, 99, 0, 0, 0) } }),
  ),
  event('SYN with an option beyond the header', (t) =>
    t.syn({ options: { raw: Uint8Array.of(2, 4, 5, 0x50, 1, 1, 99, 20) } }),
  ),
  event('SYN with a wrong checksum', (t) => t.syn({ header: { checksum: 0x1234 } })),
];

/** Segments of a connection that is not there. */
const STRAY: readonly Event[] = [
  event('SYN/ACK', (t) => t.send({ flags: 'SA', ack: INSIDE })),
  event('ACK', (t) => t.send({ ack: INSIDE })),
  event('data', (t) => t.send({ data: 'GET / HT', ack: INSIDE })),
  event('data without ACK', (t) => t.send({ flags: 'P', data: 'GET / HT' })),
  event('FIN/ACK', (t) => t.send({ flags: 'FA', ack: INSIDE })),
  event('FIN without ACK', (t) => t.send({ flags: 'F' })),
  event('RST', (t) => t.send({ flags: 'R' })),
  event('RST/ACK', (t) => t.send({ flags: 'RA', ack: INSIDE })),
  event('no flag at all', (t) => t.send({ flags: '' })),
  event('SYN and FIN', (t) => t.send({ flags: 'SF' })),
  event('SYN and RST', (t) => t.send({ flags: 'SR' })),
  event('FIN and RST', (t) => t.send({ flags: 'FR' })),
  event('all flags', (t) => t.send({ flags: 'FSRPAUEC', ack: INSIDE })),
];

const OPEN = [...SYNS, ...RESETS, ...ACKS, ...DATA, ...FINS, ...ODD, ...WINDOWS];

/** The events of a place, in the order of the document. */
export function eventsAt({ kind }: Place): readonly Event[] {
  if (kind === 'none') return [...FIRST_SYNS, ...STRAY];
  // A number next to that of the SYN/ACK is a cookie with other options.
  return kind === 'half-open' ? OPEN.filter(({ name }) => name !== ONE_LESS) : OPEN;
}
