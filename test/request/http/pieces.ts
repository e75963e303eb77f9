/**
 * Gives a head to a reader, in one piece or in several, and returns the result in a form that tests
 * compare.
 */
import { HeadReader, HeadStatus } from '../../../src/request/http/head.js';

export interface Outcome {
  status: number;
  method?: string;
  target?: string;
  minor?: number;
  host?: string;
  path?: string;
  query?: string;
  length?: number;
  chunked?: boolean;
  end?: number;
}

export const bytesOf = (text: string) => Buffer.from(text, 'latin1');

/** The bytes before and after the head in memory. They would mislead a reader that used them. */
const AROUND = bytesOf('\r\n\r\n: GET / HTTP/1.1\r\n\r\n');

function outcomeOf(reader: HeadReader, status: number, memory: Buffer, start: number): Outcome {
  if (status === HeadStatus.incomplete) return { status };
  const text = (from: number, to: number) => memory.toString('latin1', start + from, start + to);
  const line = {
    method: text(reader.methodStart, reader.methodEnd),
    target: text(reader.targetStart, reader.targetEnd),
  };
  if (status !== HeadStatus.complete) return { status, ...line };
  return {
    status,
    ...line,
    minor: reader.minorVersion,
    host: Buffer.from(reader.host.subarray(0, reader.hostLength)).toString('latin1'),
    path: Buffer.from(reader.path.subarray(0, reader.pathLength)).toString('latin1'),
    query: text(reader.queryStart, reader.queryEnd),
    length: reader.contentLength,
    chunked: reader.isChunked,
    end: reader.headEnd,
  };
}

/**
 * Reads `head` in the pieces that end at `ends` (the last of them should be its length). Between
 * two pieces the bytes move in memory and the reader reads something else.
 */
export function readPieces(reader: HeadReader, head: Uint8Array, ends: readonly number[]): Outcome {
  const other = bytesOf('PUT /other?q HTTP/1.0\r\nHost: other\r\nContent-Length: 9\r\n\r\n');
  let resume = 0;
  let outcome: Outcome = { status: HeadStatus.incomplete };
  for (const [index, end] of ends.entries()) {
    const start = (index * 5) % 16;
    const memory = Buffer.concat([AROUND.subarray(0, start), head.subarray(0, end), AROUND]);
    const status = reader.read(memory, start, start + end, resume);
    outcome = outcomeOf(reader, status, memory, start);
    if (status !== HeadStatus.incomplete) return outcome;
    resume = reader.resume;
    if (resume !== resume >>> 0) throw new Error('resume is not an unsigned 32-bit number');
    reader.read(other, 0, other.length, 0);
  }
  return outcome;
}

export function readWhole(reader: HeadReader, head: Uint8Array): Outcome {
  return readPieces(reader, head, [head.length]);
}

/** All ways to cut the head into two pieces, and one into single bytes. */
export function* allCuts(length: number): Generator<number[]> {
  for (let at = 0; at < length; at++) yield [at, length];
  yield Array.from({ length }, (_, i) => i + 1);
}

export const newReader = (headBytes = 16_384) => new HeadReader(headBytes);
