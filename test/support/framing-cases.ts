/** Reads test/fixtures/request-framing.txt, which explains itself. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const FILE = fileURLToPath(new URL('../../../test/fixtures/request-framing.txt', import.meta.url));

export type Server = 'nginx' | 'apache';
export const SERVERS: readonly Server[] = ['nginx', 'apache'];

export interface FramingCase {
  /** Section and name. */
  name: string;
  /** Without "but ...". */
  verdict: string;
  /** Servers that may refuse what Baton follows. */
  mayRefuse: readonly Server[];
  /** What comes before the marker, as latin1. */
  bytes: string;
}

/** The request behind every case. The server closes after its answer. */
export const MARKER = 'GET /marker HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';

const ESCAPES: Record<string, string> = { r: '\r', n: '\n', t: '\t', 0: '\0', '\\': '\\' };

function bytesOf(text: string): string {
  let repeated = text;
  // The innermost repetition first: {3*X: {6000*x}\r\n}.
  for (let last = ''; last !== repeated; ) {
    last = repeated;
    repeated = repeated.replace(/\{(\d+)\*([^{}]*)\}/g, (_, count, part: string) =>
      part.repeat(Number(count)),
    );
  }
  return repeated.replace(/\\(x[0-9a-f]{2}|.)/g, (whole, code: string) => {
    const character =
      code.length > 1 ? String.fromCharCode(Number.parseInt(code.slice(1), 16)) : ESCAPES[code];
    if (character === undefined) throw new Error(`no such escape: ${whole}`);
    return character;
  });
}

export function framingCases(): FramingCase[] {
  const cases: FramingCase[] = [];
  let section = '';
  let before = '';
  let after = '';
  for (const [index, line] of readFileSync(FILE, 'utf8').split('\n').entries()) {
    if (line === '' || line.startsWith('#')) continue;
    const heading = /^\[(.*)\]$/.exec(line)?.[1];
    const part = /^(before|after):(?: (.*))?$/.exec(line);
    const [, words, name, bytes = ''] = /^([a-z ]+?) \| (.+?) \|(?: (.*))?$/.exec(line) ?? [];
    if (heading !== undefined) section = heading;
    else if (part?.[1] === 'before') before = bytesOf(part[2] ?? '');
    else if (part?.[1] === 'after') after = bytesOf(part[2] ?? '');
    else if (words !== undefined) {
      const [verdict = '', but] = words.split(' but ');
      cases.push({
        name: `${section}: ${name}`,
        verdict,
        mayRefuse: SERVERS.filter((server) => but === server || but === 'both'),
        bytes: before + bytesOf(bytes) + after,
      });
    } else throw new Error(`${FILE}:${index + 1} is no case: ${line}`);
  }
  return cases;
}
