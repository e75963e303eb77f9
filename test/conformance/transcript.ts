/**
 * Writes down what a peer has answered, as a short text in which equal behaviour looks equal:
 *
 *     SYN/ACK mss sack ts ws   the options that it has
 *     ACK +5                   acknowledges 5 bytes more than before the event
 *     200 +60                  a whole HTTP answer, over as many segments as it takes
 *     48 bytes                 data that begins or continues an answer
 *     FIN, RST, RST/ACK        as RFC 9293 section 3.10.7 numbers them; otherwise with the number
 *
 * What a rule of a receiver leaves open is left out: window sizes other than 0, and a bare ACK that
 * data with the same number follows.
 */
import { flagBits, flagLetters } from '../../lab/packet.js';
import type { Heard, Talk } from './talk.js';

const SYN = flagBits('S');
const FIN = flagBits('F');
const RST = flagBits('R');
const ACK = flagBits('A');
const KNOWN = SYN | FIN | RST | ACK | flagBits('P');

/** What both sides have said when something begins that is to be written down. */
export interface Mark {
  heard: number;
  next: number;
  seen: number;
  text: number;
  /** The right end of the window that the peer has offered, relative. */
  edge: number;
}

export function markOf(talk: Talk): Mark {
  const { heard, next, seen, text } = talk;
  const edges = heard.filter(({ flags }) => (flags & RST) === 0).map(edgeOf);
  return { heard: heard.length, next, seen, text: text.length, edge: Math.max(0, ...edges) };
}

function edgeOf({ ack, window }: Heard): number {
  return ack + window;
}

interface Item {
  text: string;
  ack: number;
  /** Of data: how many bytes, and how many of them were said before. */
  bytes: number;
  bare: boolean;
  notes: string;
}

/** What the peer has said since the mark. "-" stands for nothing. */
export function transcriptOf(talk: Talk, mark: Mark): string {
  const items: Item[] = [];
  let server = mark.seen;
  let { edge } = mark;
  for (const heard of talk.heard.slice(mark.heard)) {
    const { flags, seq, ack, payload } = heard;
    let notes = notesOf(talk, heard);
    if ((flags & RST) === 0) {
      if (edgeOf(heard) < edge && (flags & SYN) === 0) notes += ' shrinks';
      edge = Math.max(edge, edgeOf(heard));
    }
    const push = (text: string, bytes = 0, bare = false): void => {
      items.push({ text, ack, bytes, bare, notes });
    };
    if ((flags & RST) !== 0) push(resetText(talk, heard));
    else if ((flags & SYN) !== 0) push(`SYN/ACK${optionsText(heard)}`);
    else if (payload.length === 0 && (flags & FIN) === 0)
      push(seq === server ? 'ACK' : `ACK at ${seq - server}`, 0, true);
    if ((flags & (SYN | RST)) !== 0) {
      server = Math.max(server, seq + ((flags & SYN) === 0 ? 0 : 1));
      continue;
    }
    if (payload.length > 0) {
      const last = items.at(-1);
      const text = seq < server ? 'again' : seq > server ? 'ahead' : 'data';
      if (last !== undefined && last.text === text && last.notes === notes) {
        last.bytes += payload.length;
        last.ack = ack;
      } else push(text, payload.length);
      server = Math.max(server, seq + payload.length);
    }
    if ((flags & FIN) !== 0) {
      const at = seq + payload.length;
      push(at < server ? 'FIN again' : 'FIN');
      server = Math.max(server, at + 1);
    }
  }
  const kept = items.filter((item, index) => {
    const following = items[index + 1];
    return !(item.bare && following !== undefined && !following.bare && following.ack === item.ack);
  });
  const data = talk.text.slice(mark.text);
  const texts = kept.map((item) => {
    const more = item.ack - mark.next;
    const number = item.text.startsWith('RST') || more === 0 ? '' : ` ${withSign(more)}`;
    const what =
      item.text === 'data' ? answerText(data, item.bytes) : withBytes(item.text, item.bytes);
    return what + number + item.notes;
  });
  return texts.length === 0 ? '-' : texts.join(', ');
}

function withBytes(text: string, bytes: number): string {
  return bytes === 0 ? text : `${text} ${bytes} bytes`;
}

function withSign(number: number): string {
  return number > 0 ? `+${number}` : `${number}`;
}

/** `data` begins with the item's bytes, if the item is the first of its kind. */
function answerText(data: string, bytes: number): string {
  const status = /^HTTP\/1\.1 (\d+) /.exec(data)?.[1];
  const end = data.indexOf('\r\n\r\n');
  const length = /\r\ncontent-length: (\d+)\r\n/i.exec(data)?.[1];
  const whole = end + 4 + Number(length);
  return status !== undefined && end > 0 && whole === bytes ? status : `${bytes} bytes`;
}

function notesOf(talk: Talk, { flags, window, echo, sack }: Heard): string {
  let notes = '';
  if ((flags & ~KNOWN) !== 0) notes += ` flags ${flagLetters(flags & ~KNOWN)}`;
  if ((flags & RST) !== 0) return notes;
  if (window === 0) notes += ' window 0';
  if (talk.timestamps && echo === undefined) notes += ' without timestamp';
  else if (talk.timestamps && echo !== 0) notes += ` TSecr ${withSign(echo ?? 0)}`;
  const blocks = sack.map(([left, right]) => `${left - talk.acked}..${right - talk.acked}`);
  return blocks.length === 0 ? notes : `${notes} SACK ${blocks.join(' ')}`;
}

function optionsText({ options }: Heard): string {
  const names = [
    options.mss === undefined ? '' : ' mss',
    options.sackPermitted === true ? ' sack' : '',
    options.timestamps === undefined ? '' : ' ts',
    options.windowScale === undefined ? '' : ' ws',
  ];
  return names.join('');
}

/** The numbers that RFC 9293 section 3.10.7.1 gives an RST are left out. */
function resetText(talk: Talk, { flags, seq, absoluteSeq, ack }: Heard): string {
  if ((flags & ACK) === 0) return seq === talk.lastAck ? 'RST' : `RST at ${seq - talk.lastAck}`;
  if (absoluteSeq === 0) return ack === talk.lastEnd ? 'RST/ACK' : `RST/ACK ${ack - talk.lastEnd}`;
  const where = seq === talk.seen ? '' : ` at ${seq - talk.seen}`;
  return `RST/ACK of the connection${where}, ${withSign(ack - talk.next)}`;
}
