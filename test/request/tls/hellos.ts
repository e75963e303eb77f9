/** ClientHellos for tests: those of real clients, and made ones, also with mistakes. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { HelloReader, HelloStatus } from '../../../src/request/tls/hello.js';

const FOLDER = join('test', 'fixtures', 'hellos');

/** What real clients have sent, by the name of the fixture. */
export function realHellos(): Map<string, Buffer> {
  const files = readdirSync(FOLDER).filter((name) => name.endsWith('.bin'));
  return new Map(files.map((name) => [name.replace('.bin', ''), readFileSync(join(FOLDER, name))]));
}

export const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');

/** A vector with its length before it, in `width` bytes. */
export function vector(width: number, ...parts: Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  const length = Buffer.alloc(width);
  length.writeUIntBE(content.length, 0, width);
  return Buffer.concat([length, content]);
}

export function extension(type: number, ...content: Uint8Array[]): Buffer {
  const number = Buffer.alloc(2);
  number.writeUInt16BE(type);
  return Buffer.concat([number, vector(2, ...content)]);
}

export const hostName = (name: string): Buffer =>
  Buffer.concat([Buffer.of(0), vector(2, latin1(name))]);
export const serverName = (name: string): Buffer => extension(0, vector(2, hostName(name)));
export const alpn = (...names: string[]): Buffer =>
  extension(16, vector(2, ...names.map((name) => vector(1, latin1(name)))));
export const tls13 = extension(43, vector(1, Buffer.of(3, 4, 3, 3)));
export const earlyData = extension(42);

export interface HelloParts {
  version: number[];
  sessionId: Uint8Array;
  suites: Uint8Array;
  compressions: Uint8Array;
  /** Undefined: there is no field of extensions. */
  extensions: Uint8Array[] | undefined;
  /** Behind the extensions. */
  rest: Uint8Array;
}

/** The body of a ClientHello, RFC 8446 section 4.1.2. */
export function helloBody(parts: Partial<HelloParts> = {}): Buffer {
  return Buffer.concat([
    Buffer.from(parts.version ?? [3, 3]),
    Buffer.alloc(32, 0x5a),
    vector(1, parts.sessionId ?? Buffer.alloc(32, 7)),
    vector(2, parts.suites ?? Buffer.of(0x13, 1, 0xc0, 0x2f)),
    vector(1, parts.compressions ?? Buffer.of(0)),
    'extensions' in parts && parts.extensions === undefined
      ? Buffer.alloc(0)
      : vector(2, ...(parts.extensions ?? [serverName('www.example.org')])),
    parts.rest ?? Buffer.alloc(0),
  ]);
}

/** A handshake message; type 1 is ClientHello. */
export const message = (body: Uint8Array, type = 1): Buffer =>
  Buffer.concat([Buffer.of(type), vector(3, body)]);

/** The content in records of these sizes; the last size is used for all that is left. */
export function records(content: Uint8Array, sizes: readonly number[] = [16_384]): Buffer {
  const made: Buffer[] = [];
  let index = 0;
  for (let at = 0; at < content.length; ) {
    const size = Math.max(1, sizes[Math.min(index++, sizes.length - 1)] ?? 1);
    made.push(Buffer.of(22, 3, 1), vector(2, content.subarray(at, at + size)));
    at += size;
  }
  return Buffer.concat(made);
}

/** What a client sends first, in one record. */
export const hello = (parts: Partial<HelloParts> = {}): Buffer =>
  records(message(helloBody(parts)));

/** A client's ClientHello with so much padding (RFC 7685) that its message has `size` bytes. */
export function padded(bytes: Buffer, size: number): Buffer {
  let at = 9 + 2 + 32;
  at += 1 + bytes.readUInt8(at);
  at += 2 + bytes.readUInt16BE(at);
  at += 1 + bytes.readUInt8(at);
  const padding = extension(21, Buffer.alloc(size - (bytes.length - 9) - 4));
  const extensions = vector(2, bytes.subarray(at + 2), padding);
  return records(message(Buffer.concat([bytes.subarray(9, at), extensions])));
}

export interface HelloOutcome {
  status: number;
  alert?: number;
  host?: string;
  protocols?: string[];
  tls13?: boolean;
  early?: boolean;
}

export function outcomeOf(reader: HelloReader, status: number): HelloOutcome {
  if (status === HelloStatus.incomplete) return { status };
  if (status === HelloStatus.refused) return { status, alert: reader.alert };
  const protocols: string[] = [];
  for (let at = reader.protocolsStart; at < reader.protocolsEnd; ) {
    const length = reader.protocols[at]!;
    protocols.push(
      Buffer.from(reader.protocols.subarray(at + 1, at + 1 + length)).toString('latin1'),
    );
    at += 1 + length;
  }
  return {
    status,
    host: Buffer.from(reader.host.subarray(0, reader.hostLength)).toString('latin1'),
    protocols,
    tls13: reader.offersTls13,
    early: reader.hasEarlyData,
  };
}

/** Bytes before and after the records in memory, which would mislead a reader that used them. */
const AROUND = hello({ extensions: [serverName('wrong.example.org'), alpn('wrong')] });
const OTHER = records(message(helloBody({ extensions: [serverName('other.example.org')] })), [9]);

/**
 * Reads in the pieces that end at `ends`; the last of them should be the length. Between two pieces
 * the bytes move in memory, and the reader reads something else.
 */
export function readPieces(
  reader: HelloReader,
  bytes: Uint8Array,
  ends: readonly number[],
): HelloOutcome {
  let resume = 0;
  let outcome: HelloOutcome = { status: HelloStatus.incomplete };
  for (const [index, end] of ends.entries()) {
    const start = (index * 5) % 16;
    const memory = Buffer.concat([AROUND.subarray(0, start), bytes.subarray(0, end), AROUND]);
    const status = reader.read(memory, start, start + end, resume);
    outcome = outcomeOf(reader, status);
    if (status !== HelloStatus.incomplete) return outcome;
    resume = reader.resume;
    if (resume !== resume >>> 0) throw new Error('resume is not an unsigned 32-bit number');
    reader.read(OTHER, 0, OTHER.length, 0);
  }
  return outcome;
}

export const readWhole = (bytes: Uint8Array): HelloOutcome =>
  readPieces(new HelloReader(), bytes, [bytes.length]);

/** Every length from 1 to that of the bytes: they arrive one by one. */
export const bytewise = (bytes: Uint8Array): number[] =>
  Array.from({ length: bytes.length }, (_, i) => i + 1);
