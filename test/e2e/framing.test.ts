/**
 * Where does the next request begin? Real nginx and Apache answer for every case of
 * test/fixtures/request-framing.txt, with another request behind it on the same connection. They
 * must read the same requests as Baton, as far as Baton follows the stream.
 */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t from 'tap';
import { Host } from '../../lab/farm/host.js';
import { whyNoApache, whyNoFarm } from '../../lab/farm/needs.js';
import type { Program } from '../../lab/farm/process.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { WebServer } from '../../lab/servers/web.js';
import { insideNamespace } from '../kernel/namespace.js';
import { type Followed, follow } from '../support/follow.js';
import {
  type FramingCase,
  framingCases,
  MARKER,
  SERVERS,
  type Server,
} from '../support/framing-cases.js';

/** Each server says in every answer which request it answers. */
const NGINX = `add_header X-Request "$request" always;
    location / { return 200 "here\\n"; }`;
const APACHE = `LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
Header always set X-Request "expr=%{THE_REQUEST}"`;
const PORTS: Record<Server, number> = { nginx: 8001, apache: 8002 };
/** Connections at the same time. */
const AT_ONCE = 16;

t.setTimeout(FILE_TIMEOUT_MS);

/** This namespace as a host of a farm. */
class Here extends Host {
  override inside(argv: readonly string[]): string[] {
    return [...argv];
  }
}

interface Answer {
  status: number;
  /** "METHOD TARGET" of the request; empty when the server did not say. */
  request: string;
}

/** The answers in what a server sent, as latin1. */
function answersIn(text: string): Answer[] {
  const answers: Answer[] = [];
  for (let rest = text; rest.startsWith('HTTP/1.'); ) {
    const end = rest.indexOf('\r\n\r\n');
    const head = end < 0 ? rest : rest.slice(0, end);
    const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'im').exec(head)?.[1]?.trim();
    const status = Number(/^HTTP\/1\.[01] (\d{3})/.exec(head)?.[1] ?? 0);
    const [method = '', target = ''] = (field('x-request') ?? '').split(' ').filter((word) => word);
    answers.push({ status, request: `${method} ${target}`.trim() });
    const length = method === 'HEAD' ? 0 : Number(field('content-length') ?? 0);
    rest = end < 0 ? '' : rest.slice(end + 4 + length);
  }
  return answers;
}

/** Sends `bytes` and then FIN, and returns all that comes back until the server has closed. */
function ask(port: number, bytes: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1' });
    let text = '';
    const done = () => {
      socket.destroy();
      resolve(text);
    };
    socket.setTimeout(PATIENCE_MS, () => reject(new Error(`no end after ${text}`)));
    socket.setEncoding('latin1');
    socket.on('data', (part) => {
      text += part;
    });
    socket.on('error', done);
    socket.on('end', done);
    socket.end(bytes);
  });
}

/** Statuses of a request that a server does not understand or accept. It closes after them. */
const REFUSALS = [400, 403, 408, 411, 413, 414, 417, 431, 500, 501, 505];

/**
 * What a server read in another way than Baton, or undefined. `isRefused`: it refused a request
 * that Baton follows.
 */
function differenceOf(
  baton: Followed,
  answers: readonly Answer[],
): { text: string; isRefused: boolean } | undefined {
  if (baton.refused !== 0) return undefined;
  const { requests } = baton;
  const isPinned = baton.pin !== 'none';
  const isOpen = isPinned || baton.in === 'body';
  for (const [at, { status, request }] of answers.entries()) {
    const wants = requests[at];
    if (wants === undefined) {
      return isPinned
        ? undefined
        : { text: `one more answer: ${status} ${request}`, isRefused: false };
    }
    if (at === answers.length - 1 && REFUSALS.includes(status)) {
      if (isOpen && at === requests.length - 1) return undefined;
      return { text: `${status} for ${wants}`, isRefused: true };
    }
    if (request !== '' && request !== wants)
      return { text: `${request} instead of ${wants}`, isRefused: false };
  }
  const missing = requests[answers.length];
  if (missing === undefined || (isOpen && answers.length === requests.length - 1)) return undefined;
  return { text: `no answer for ${missing}`, isRefused: false };
}

if (insideNamespace(import.meta.url)) {
  t.test('servers agree with Baton', { skip: whyNoFarm() || whyNoApache() }, async (t) => {
    const directory = mkdtempSync(path.join(tmpdir(), 'baton-framing-'));
    // The servers' workers are other users.
    chmodSync(directory, 0o755);
    const programs: Program[] = [];
    const serve = async (server: Server): Promise<void> => {
      const host = new Here(server, '', '', '', directory, (program) => programs.push(program));
      const extra = server === 'nginx' ? NGINX : APACHE;
      const listen = `127.0.0.1:${PORTS[server]}`;
      const web = new WebServer(host, directory, { server, listen, extra });
      for (const name of ['one', 'two', 'inner', 'marker']) web.put(name, 'here\n');
      await web.start();
    };
    const differences: string[] = [];
    let answered = 0;
    let refused = 0;
    const compare = async (one: FramingCase, server: Server): Promise<void> => {
      const stream = Buffer.from(one.bytes + MARKER, 'latin1');
      const baton = follow(stream, [stream.length]);
      const answers = answersIn(await ask(PORTS[server], stream));
      const difference = differenceOf(baton, answers);
      if (answers.at(-1)?.request === 'GET /marker') answered++;
      if (difference?.isRefused === true && one.mayRefuse.includes(server)) refused++;
      else if (difference !== undefined)
        differences.push(`${one.name} (${one.verdict}): ${server}: ${difference.text}`);
    };
    try {
      await Promise.all([serve('nginx'), serve('apache')]);
      const cases = framingCases();
      const rest = cases.flatMap((one) => SERVERS.map((server) => () => compare(one, server)));
      const work = async (): Promise<void> => {
        for (let next = rest.pop(); next !== undefined; next = rest.pop()) await next();
      };
      await Promise.all(Array.from({ length: AT_ONCE }, work));
      t.same(differences, [], `${cases.length} cases`);
      const followed = cases.filter(({ verdict }) => verdict === 'follows').length;
      t.ok(answered > followed, `the marker was read ${answered} times`);
      const may = cases.reduce((sum, { mayRefuse }) => sum + mayRefuse.length, 0);
      t.equal(refused, may, 'the servers refuse what the file says, and nothing else');
    } finally {
      await Promise.all(programs.map((program) => program.stop()));
      rmSync(directory, { recursive: true });
    }
  });
}
