/** `protocol: tcp`: protocols in which the server speaks first, and others that are not read. */
import t from 'tap';
import { converse, type Heard, type Step } from '../../lab/clients/raw-client.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { type AccessLine, AccessLogReader } from '../../lab/probes/access-log.js';
import { startGreeter } from '../../lab/servers/greeter.js';

const PORT = 25;
/** Its servers greet late. */
const SLOW_PORT = 2525;
/** Longer than a handoff is waited for before it is repeated. */
const GREETS_AFTER_MS = 800;
/** Nothing listens there on n1. */
const HALF_PORT = 2626;
const CLOSED_PORT = 2727;

const resources = [{ path: '/', nodes: ['n1'] }];
const tcp = (name: string, port: number, more = {}): Record<string, unknown> => ({
  name,
  address: VIRTUAL_ADDRESS,
  port,
  protocol: 'tcp',
  ...more,
});
const virtualServers = [
  { name: 'www', address: VIRTUAL_ADDRESS, port: 80 },
  tcp('mail', PORT),
  tcp('slow', SLOW_PORT, { nodes: ['n2'], firstBytes: '10ms' }),
  tcp('half', HALF_PORT, { firstBytes: '1ms' }),
  tcp('closed', CLOSED_PORT, { firstBytes: '1ms' }),
];

async function startServers(farm: Farm): Promise<void> {
  for (const [index, node] of farm.nodes.entries()) {
    await startGreeter(node, PORT);
    await startGreeter(node, SLOW_PORT, GREETS_AFTER_MS);
    if (index > 0) await startGreeter(node, HALF_PORT);
  }
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test('a server may speak first', { skip: whyNoFarm() }, async (t) => {
  const balancer = { virtualServers, accessLog: { file: 'access.json' } };
  await withFarm(t, { resources, nodes: 2, balancer }, async (farm) => {
    await startServers(farm);
    const log = new AccessLogReader(farm, 'access.json');
    const talk = (port: number, steps: Step[]): Promise<Heard> =>
      converse(farm.client, { address: VIRTUAL_ADDRESS, port, steps, timeoutMs: PATIENCE_MS });
    const quit: Step[] = [{ send: 'QUIT\r\n' }, { untilClosed: true }];

    await t.test(
      'the client gets the greeting without a byte, from each node in turn',
      async (t) => {
        const nodes = new Set<string>();
        for (let i = 0; i < 4; i++) {
          const steps: Step[] = [{ hear: 'ready\r\n' }, { send: 'hello\r\n' }, { hear: 'hello' }];
          const heard = await talk(PORT, [...steps, ...quit]);
          t.match(heard.text, /^220 (n[12]) ready\r\n250 \1 got hello\r\n221 bye\r\n$/);
          t.equal(heard.ending, 'end');
          nodes.add(heard.text.slice(4, 6));
          const line = await log.ofPort(heard.localPort);
          t.match(line, {
            virtual_server: 'mail',
            request: null,
            host: null,
            node: heard.text.slice(4, 6),
            closed: 'fin',
          });
          t.equal(line.bytes, 'hello\r\nQUIT\r\n'.length);
        }
        t.same([...nodes].sort(), ['n1', 'n2']);
        const { counters } = await farm.stats();
        t.ok((counters.handed_without_bytes ?? 0) >= 4, 'these are counted');
      },
    );

    await t.test('a client that speaks first is handed over with its bytes', async (t) => {
      const before = (await farm.stats()).counters.handed_without_bytes;
      const heard = await talk(PORT, [{ send: 'first\r\n' }, { hear: 'got first' }, ...quit]);
      t.match(heard.text, /^220 (n[12]) ready\r\n250 \1 got first\r\n221 bye\r\n$/);
      t.equal((await farm.stats()).counters.handed_without_bytes, before);
    });

    await t.test('a client may send FIN and nothing else', async (t) => {
      const heard = await talk(PORT, [{ finish: true }, { untilClosed: true }]);
      t.match(heard.text, /^220 n[12] ready\r\n$/);
      t.equal(heard.ending, 'end');
    });

    await t.test(
      'a greeting may come late: the node is asked, and keeps the session',
      async (t) => {
        const before = (await farm.stats()).counters;
        const heard = await talk(SLOW_PORT, [{ hear: '220 n2 ready\r\n' }, ...quit]);
        t.match(heard.text, /^220 n2 ready\r\n221 bye\r\n$/);
        const { counters } = await farm.stats();
        t.equal(counters.handoff_silent, before.handoff_silent, 'the node was not given up');
        t.equal((counters.handoff_asked ?? 0) - (before.handoff_asked ?? 0), 1);
        t.same((await log.ofPort(heard.localPort)).reasons, []);
      },
    );

    await t.test('what the client says before the greeting is not lost', async (t) => {
      const steps: Step[] = [{ waitMs: 60 }, { send: 'early\r\n' }, { hear: 'got early' }];
      const heard = await talk(SLOW_PORT, [...steps, ...quit]);
      t.match(heard.text, /^220 n2 ready\r\n250 n2 got early\r\n221 bye\r\n$/);
    });

    await t.test(
      'a node without the server refuses, and the next one gets the session',
      async (t) => {
        for (let i = 0; i < 3; i++) {
          const heard = await talk(HALF_PORT, [{ hear: '220 n2 ready\r\n' }, ...quit]);
          t.match(heard.text, /^220 n2 ready\r\n221 bye\r\n$/);
        }
      },
    );

    await t.test(
      'without a server the client is reset, since no answer can be known',
      async (t) => {
        const heard = await talk(CLOSED_PORT, [{ untilClosed: true }]);
        t.equal(heard.ending, 'ECONNRESET');
        const is = ({ virtual_server }: AccessLine): boolean => virtual_server === 'closed';
        t.match(await log.line('the session without a node', is), {
          closed: 'no-node',
          node: null,
        });
      },
    );

    await farm.waitEmpty();
  });
});
