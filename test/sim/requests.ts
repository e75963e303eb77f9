/** The requests of a simulated client that keeps its connection: every kind of body and of end. */
import { bytesOf, CLIENT_HEADER } from './content.js';
import type { Random } from './random.js';

/** Fields after which a balancer can no longer move the connection. */
const PINNING = [
  'Upgrade: h2c',
  'Expect: 100-continue',
  'Authorization: NTLM TlRMTVNT',
  'Authorization: Negotiate YII=',
] as const;

/** What a request is besides its target. */
export interface Ask {
  method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'BREW';
  /** How the end of its body is said. */
  body: 'none' | 'length' | 'chunked';
  /** Bytes of the body. */
  upload: number;
  /** A field of PINNING, or "". */
  field: string;
  /** It is sent with the request before it, without a wait for that answer. */
  together: boolean;
}

/** A plain GET. */
export const GET: Ask = { method: 'GET', body: 'none', upload: 0, field: '', together: false };

/** Whether later requests stay with the node of this one. */
export const pins = (ask: Ask): boolean => ask.field !== '' || ask.method === 'BREW';

/** Draws the requests of one connection. */
export function makeAsks(random: Random, count: number, small: boolean): Ask[] {
  const bursts = random.chance(0.3);
  return Array.from({ length: count }, () => {
    const body = random.pick(['none', 'none', 'none', 'length', 'chunked'] as const);
    const large = !small && random.chance(0.1);
    return {
      method:
        body === 'none'
          ? random.pick(['GET', 'GET', 'GET', 'HEAD', 'POST'] as const)
          : random.pick(['POST', 'PUT', 'GET'] as const),
      body,
      upload: body === 'none' ? 0 : random.between(0, large ? 60_000 : 3_000),
      field: random.chance(0.04) ? random.pick(PINNING) : '',
      together: bursts && random.chance(0.5),
      ...(random.chance(0.01) ? { method: 'BREW' as const } : {}),
    };
  });
}

/** The bytes of a request. `name` identifies it; `fields` are more lines of its head. */
export function requestBytes(
  ask: Ask,
  target: string,
  name: string,
  fields: readonly string[],
  random: Random,
): Uint8Array {
  const body = bytesOf(name, ask.upload);
  const lines = [
    `${ask.method} ${target} HTTP/1.1`,
    'Host: www.example.org',
    `${CLIENT_HEADER}: ${name}`,
    ...fields,
    ...(ask.field === '' ? [] : [ask.field]),
    ...(ask.body === 'length' ? [`Content-Length: ${body.length}`] : []),
    ...(ask.body === 'chunked' ? ['Transfer-Encoding: chunked'] : []),
  ];
  const head = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
  return Buffer.concat([head, ask.body === 'chunked' ? inChunks(body, random) : body]);
}

/** The chunked form of a body: chunks of any size, some with extensions, and trailers. */
export function inChunks(body: Uint8Array, random: Random): Uint8Array {
  const parts: Uint8Array[] = [];
  const say = (text: string): void => void parts.push(Buffer.from(text, 'latin1'));
  for (let at = 0; at < body.length; ) {
    const size = Math.min(body.length - at, random.between(1, random.pick([3, 300, 20_000])));
    const extension = random.chance(0.1) ? ';name="a value"' : '';
    say(`${size.toString(16)}${extension}\r\n`);
    parts.push(body.subarray(at, at + size));
    say('\r\n');
    at += size;
  }
  say(`0\r\n${random.chance(0.2) ? 'X-Sum: 5\r\nX-More: yes\r\n' : ''}\r\n`);
  return Buffer.concat(parts);
}
