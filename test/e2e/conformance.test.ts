/**
 * Hand-made TCP conversations with the virtual server, and the same ones with a stock nginx on a
 * stock kernel. docs/conformance.md says what both answer.
 *
 * WRITE_CONFORMANCE=1 writes its tables anew.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { projectRoot } from '../../lab/farm/baton.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import type { Host } from '../../lab/farm/host.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { WebServer } from '../../lab/servers/web.js';
import { type Event, eventsAt } from '../conformance/events.js';
import {
  type Answers,
  keyOf,
  type Row,
  type Rows,
  rowsOf,
  unexplained,
  unused,
  withChapters,
  withoutEchoes,
} from '../conformance/page.js';
import { CONTENT, PLACES, type Place } from '../conformance/places.js';
import { Player } from '../conformance/play.js';
import type { Target } from '../conformance/talk.js';

const DOCUMENT = path.join(projectRoot(), 'docs', 'conformance.md');
const WRITES = process.env.WRITE_CONFORMANCE === '1';
/** Only the states whose titles match, while one works on them. */
const ONLY = new RegExp(process.env.CONFORMANCE_OF ?? '');
/** An address of no machine: the test answers for it. */
const CLIENT = '10.99.0.250';
/** Conversations at the same time. */
const AT_ONCE = 32;
/** So many conversations are played once more if they differ. */
const MOST_AGAIN = 10;
const PORT = 80;
/** No machine listens on it. */
const CLOSED_PORT = 81;

interface Conversation {
  place: Place;
  event: Event;
}

/**
 * Answers depend on what was sent, and not on time: nothing is repeated during a test, each segment
 * is acknowledged at once, and no answer is left out because of a rate.
 */
async function calm(host: Host, client: Host): Promise<void> {
  const route = ['route', 'replace', '10.99.0.0/24', 'dev', 'eth0', 'src', host.address];
  await host.run('ip', [...route, 'rto_min', '60s', 'quickack', '1']);
  const neighbour = ['neigh', 'replace', CLIENT, 'lladdr', client.mac];
  await host.run('ip', [...neighbour, 'dev', 'eth0', 'nud', 'permanent']);
  const settings = [
    'net.ipv4.tcp_early_retrans=0',
    'net.ipv4.tcp_invalid_ratelimit=0',
    'net.ipv4.tcp_challenge_ack_limit=2147483647',
  ];
  await host.run('sysctl', ['-qw', ...settings]);
}

function fill(web: WebServer): void {
  for (const [name, content] of Object.entries(CONTENT)) web.put(name, content);
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test('Baton answers as docs/conformance.md says', { skip: whyNoFarm() }, async (t) => {
  const use = {
    nodes: 1,
    others: { stock: 50 },
    resources: Object.keys(CONTENT).map((name) => ({ path: `/${name}`, nodes: ['n1'] })),
    fill: (farm: Farm) => farm.webs.forEach(fill),
    balancer: { timeouts: { head: '120s', synAck: '60s', handoff: '60s' } },
  };
  await withFarm(t, use, async (farm) => {
    const stock = farm.host('stock');
    const web = new WebServer(stock, farm.directory);
    fill(web);
    await web.start();
    const machines = [...farm.nodes, stock];
    await Promise.all(machines.map((host) => calm(host, farm.client)));
    const player = await Player.open(farm.client, CLIENT, PORT);

    const document = readFileSync(DOCUMENT, 'utf8');
    const written = rowsOf(document);
    const measured: Rows = new Map();
    const conversations = PLACES.filter(({ title }) => ONLY.test(title)).flatMap((place) =>
      eventsAt(place).map((event) => ({ place, event })),
    );
    const behind = farm.nodes.map(({ mac, address }) => ({ mac, address, port: PORT }));
    const whole = (transcript: string): string => transcript;
    // The kernel keeps bare ACKs from the engine, and the times that they say.
    const ofBaton = DATAPATH === 'xdp' ? withoutEchoes : whole;
    const differing: Conversation[] = [];
    const work = async (left: Conversation[]): Promise<void> => {
      for (;;) {
        const next = left.shift();
        if (next === undefined) return;
        const { place, event } = next;
        const port = place.closedPort === true ? CLOSED_PORT : PORT;
        const key = keyOf(place.title, event.name);
        const expected = WRITES ? undefined : written.get(key);
        const play = (
          target: Target,
          others: Target[],
          wanted: Answers | undefined,
          normal: (transcript: string) => string,
        ): Promise<Answers> =>
          player.play(place, event, target, others, wanted, normal).catch((error: Error) => ({
            answer: `failed: ${error.message}`,
            later: '',
          }));
        const { mac } = farm.balancer;
        // An ACK would first be looked for at the nodes.
        const virtual = { mac, address: VIRTUAL_ADDRESS, port, refused: 'F' };
        const [linux, baton] = await Promise.all([
          play({ mac: stock.mac, address: stock.address, port }, [], expected?.linux, whole),
          play(virtual, behind, expected?.baton, ofBaton),
        ]);
        measured.set(key, { linux, baton });
        if (!WRITES && !isAs(written, key, { linux, baton }, ofBaton)) differing.push(next);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, () => work(conversations)));
    // Two of 32 connections can need the same place where the balancer notes what it looks for at
    // the nodes. One of them then gets no RST. Alone, a conversation has every place.
    if (differing.length <= MOST_AGAIN) await work(differing.splice(0));
    await player.close();
    await web.stop();

    for (const [key, row] of WRITES ? [] : measured) {
      const expected = written.get(key);
      if (expected === undefined) t.fail(`${key} is not in the document`);
      else {
        t.same(row.linux, expected.linux, `Linux: ${key}`);
        t.same(row.baton, mapped(expected.baton, ofBaton), `Baton: ${key}`);
      }
    }
    if (ONLY.source !== '(?:)') return;
    const rows = WRITES ? measured : written;
    t.same(unexplained(rows), [], 'each difference has a reason');
    t.same(unused(rows), [], 'each reason is that of a difference');
    const page = withChapters(document, rows);
    if (WRITES) writeFileSync(DOCUMENT, page);
    else t.equal(document, page, 'the document has the reasons and the states of the test');
  });
});

/** Whether a row is as the document has it. */
function isAs(written: Rows, key: string, row: Row, ofBaton: (text: string) => string): boolean {
  const expected = written.get(key);
  return (
    expected !== undefined &&
    isDeepStrictEqual(row, { linux: expected.linux, baton: mapped(expected.baton, ofBaton) })
  );
}

function mapped({ answer, later }: Answers, change: (text: string) => string): Answers {
  return { answer: change(answer), later: change(later) };
}
