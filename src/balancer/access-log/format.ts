/**
 * Lines of the access log, in printable ASCII whatever a client has sent. docs/logging.md is their
 * definition for people.
 */
import type { AccessLogFormat } from '../../config/schema.js';
import { formatAddress } from '../../wire/address.js';
import type { SessionLine } from './joiner.js';

/** No line is longer than this, in bytes: most bytes become six in JSON. */
export const MOST_FORMATTED_BYTES = 32_768;

/** The line of a session, with its newline. */
export function formatLine(line: SessionLine, format: AccessLogFormat): string {
  return format === 'json' ? jsonLine(line) : combinedLine(line);
}

/** One object. Every line has every key; what is unknown is null. */
function jsonLine(line: SessionLine): string {
  const { text } = line;
  const document = {
    time: new Date(line.openedAt).toISOString(),
    client: formatAddress(line.client),
    client_port: line.clientPort,
    virtual_server: line.server,
    request: text.line === '' ? null : text.line,
    rewritten: line.rewritten ?? null,
    method: text.method ?? null,
    host: text.host ?? null,
    referer: text.referer ?? null,
    user_agent: text.userAgent ?? null,
    node: line.node ?? null,
    tried: line.tried,
    status: line.status ?? null,
    time_to_handoff: line.timeToHandoff === undefined ? null : line.timeToHandoff / 1000,
    duration: line.duration / 1000,
    packets: line.packets,
    bytes: line.bytes,
    closed: line.closed,
    reasons: line.reasons,
    worker: line.worker,
  };
  // JSON.stringify leaves DEL and the bytes beyond ASCII as they are.
  return `${JSON.stringify(document).replace(/[^ -~]/g, unicodeEscape)}\n`;
}

function unicodeEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/**
 * Apache's "combined": `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"`. The balancer knows
 * the status of its own answers only, and the size of none: it sees nothing of the answer.
 */
function combinedLine(line: SessionLine): string {
  const { text, status } = line;
  const request = text.line === '' ? '-' : apacheEscaped(text.line);
  const referer = apacheEscaped(text.referer ?? '-');
  const agent = apacheEscaped(text.userAgent ?? '-');
  return `${formatAddress(line.client)} - - [${apacheTime(line.openedAt)}] "${request}" ${status ?? '-'} - "${referer}" "${agent}"\n`;
}

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');

/** `28/Nov/2026:08:00:00 +0000`, always in UTC. */
function apacheTime(ms: number): string {
  const date = new Date(ms);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${two(date.getUTCDate())}/${MONTHS[date.getUTCMonth()]}/${date.getUTCFullYear()}`;
  const time = [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()].map(two).join(':');
  return `${day}:${time} +0000`;
}

/** What Apache writes for some bytes (ap_escape_logitem); others become \xhh. */
const APACHE_ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
};

function apacheEscaped(text: string): string {
  return text.replace(
    /[^ !#-[\]-~]/g,
    (character) =>
      APACHE_ESCAPES[character] ?? `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}
