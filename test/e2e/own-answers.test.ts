/**
 * Answers that the engine sends itself, to clients that make it hard: a window smaller than the
 * answer, a client that goes on sending, half-close, and an answer that is lost. Python's sockets
 * set what Node's cannot.
 */
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { curl } from '../../lab/clients/curl.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { findCommand, whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
const resources = [{ path: '/one/', nodes: ['n1'] }];
const HEAD_BYTES = 4096;

function fill(farm: Farm): void {
  farm.webs[0]?.put('one/a.txt', 'from node 1\n');
}

/** A client in Python. Its script has `connect` and `hear`, and prints what it finds out. */
const PYTHON = `
import json, os, socket, sys, time
ADDRESS = ('${VIRTUAL_ADDRESS}', 80)
def connect(**options):
    client = socket.socket()
    client.settimeout(${PATIENCE_MS / 1000})
    if 'receive' in options: client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options['receive'])
    if 'mss' in options: client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, options['mss'])
    client.connect(ADDRESS)
    return client
def hear(client, most=65536):
    text = b''
    while True:
        part = client.recv(most)
        if not part: return text.decode('latin1')
        text += part
`;

interface Spoken {
  text: string;
  sent?: number;
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test(
  'the balancer answers by itself',
  { skip: whyNoFarm() || (findCommand('python3') ? false : 'needs python3') },
  async (t) => {
    const balancer = { limits: { headBytes: HEAD_BYTES } };
    await withFarm(t, { resources, fill, nodes: 1, balancer }, async (farm) => {
      const speak = async (script: string): Promise<Spoken> => {
        const { stdout } = await farm.client.run('python3', ['-c', PYTHON + script], {
          timeoutMs: PATIENCE_MS,
        });
        return JSON.parse(stdout) as Spoken;
      };
      const counters = async (): Promise<Record<string, number>> => (await farm.stats()).counters;
      const isAnswer = (t: Test, text: string, status: number): void => {
        const [head = '', body = ''] = text.split('\r\n\r\n');
        t.match(head, new RegExp(`^HTTP/1\\.1 ${status} `));
        for (const field of [
          /^Date: [A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/m,
          /^Connection: close$/m,
          /^Cache-Control: no-store$/m,
        ])
          t.match(head.replaceAll('\r', ''), field);
        t.equal(Number(/Content-Length: (\d+)/.exec(head)?.[1]), body.length);
      };

      await t.test('curl gets all of it, and HEAD has no body', async (t) => {
        const answer = await curl(farm.client, `${BASE}/none`);
        t.equal(answer.status, 404);
        t.match(answer.body.toString(), /^404 Not Found\n/);
        const { stdout } = await farm.client.run('curl', ['-sSI', `${BASE}/none`]);
        t.match(stdout, /^HTTP\/1\.1 404 Not Found\r\n/);
        const length = Number(/Content-Length: (\d+)/.exec(stdout)?.[1]);
        t.equal(length, answer.body.length, 'the length of the body that GET has');
      });

      await t.test('a small MSS and a small window', async (t) => {
        const { text } = await speak(`
client = connect(receive=256, mss=88)
client.sendall(b'GET /none HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')
print(json.dumps({'text': hear(client, 16)}))`);
        isAnswer(t, text, 404);
      });

      await t.test('a client that goes on sending after a 431 can read it', async (t) => {
        const before = (await counters()).discarded_bytes ?? 0;
        const { text, sent = 0 } = await speak(`
client = connect()
sent = 0
for piece in range(2000):
    sent += client.send(b'GET /one/a.txt HTTP/1.1\\r\\nX: ' if piece == 0 else b'x' * 1000)
client.shutdown(socket.SHUT_WR)
print(json.dumps({'text': hear(client), 'sent': sent}))`);
        isAnswer(t, text, 431);
        const { discarded_bytes: after = 0 } = await counters();
        t.ok(after - before > sent / 2, `${after - before} of ${sent} bytes were thrown away`);
      });

      await t.test('a client that has closed its side, before and after', async (t) => {
        for (const finish of ['', 'client.shutdown(socket.SHUT_WR)']) {
          const { text } = await speak(`
client = connect()
client.sendall(b'GET /none HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')
${finish}
print(json.dumps({'text': hear(client)}))`);
          isAnswer(t, text, 404);
        }
      });

      await t.test('a client that reads late', async (t) => {
        const answered = (await counters()).answer_404 ?? 0;
        const late = speak(`
client = connect()
client.sendall(b'GET /none HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')
time.sleep(2)
print(json.dumps({'text': hear(client)}))`);
        await farm.waitFor(
          async () => ((await counters()).answer_404 ?? 0) > answered,
          'the answer is sent',
        );
        isAnswer(t, (await late).text, 404);
      });

      await t.test('an answer that is lost comes again, with its FIN', async (t) => {
        const { answers_retransmitted: before = 0 } = await counters();
        const sent = path.join(farm.directory, 'half-a-head-is-sent');
        const slow = speak(`
client = connect()
client.sendall(b'GET /none HTTP/1.1\\r\\n')
open('${sent}', 'w').close()
print(json.dumps({'text': hear(client)}))`);
        await farm.waitFor(async () => existsSync(sent), 'half a head is sent');
        // Long before the balancer answers 408.
        await farm.client.setLink(false);
        await farm.waitFor(
          async () => ((await counters()).answers_retransmitted ?? 0) > before,
          'the answer is sent again',
        );
        await farm.client.setLink(true);
        isAnswer(t, (await slow).text, 408);
      });

      await t.test('what is shown of an answered session', async (t) => {
        const seen = path.join(farm.directory, 'the-session-is-seen');
        // A client that goes on sending is not forgotten.
        const open = speak(`
client = connect()
client.sendall(b'GET /none HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')
text = hear(client)
while not os.path.exists('${seen}'):
    client.send(b'x')
    time.sleep(0.2)
print(json.dumps({'text': text}))`);
        await farm.waitFor(async () => {
          const { stdout } = await farm.baton(['sessions', '-c', farm.balancerConfig, '--json']);
          const page = JSON.parse(stdout) as { sessions: Record<string, unknown>[] };
          const found = page.sessions.find(({ state }) => state === 'answering');
          return found?.status === 404 && found.node === '' && found.request === 'GET /none';
        }, 'the session is answering');
        writeFileSync(seen, '');
        isAnswer(t, (await open).text, 404);
      });

      await t.test('nothing is left', async (t) => {
        await farm.waitFor(async () => (await farm.stats()).sessions.total === 0, 'no sessions');
        const { answers_unacknowledged: lost = 0, handoffs = 0 } = await counters();
        t.equal(lost, 0);
        t.equal(handoffs, 0);
      });
    });
  },
);
