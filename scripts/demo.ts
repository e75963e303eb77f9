/**
 * `make demo`: a farm in network namespaces, real requests, and a report in plain words.
 * `make demo-keep` leaves the farm running; `make demo-stop` ends it.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { curl, curlAll, sha256 } from '../lab/clients/curl.js';
import { VIRTUAL_ADDRESS } from '../lab/farm/addresses.js';
import { batonCommand } from '../lab/farm/baton.js';
import { Farm } from '../lab/farm/farm.js';
import { stopKept } from '../lab/farm/lifetime.js';

const TAG = 'baton-demo';
const FILM_BYTES = 100_000_000;
const RESOURCES = [
  { path: '/images/', nodes: ['n1'] },
  { path: '/music/', nodes: ['n2'] },
  { path: '/films/', nodes: ['n3'] },
  { path: '/news.txt', nodes: ['n1', 'n2'] },
];
const BASE = `http://${VIRTUAL_ADDRESS}`;

const colour = process.stdout.isTTY && process.env.NO_COLOR === undefined;
const paint = (code: string, text: string): string =>
  colour ? `\u001b[${code}m${text}\u001b[0m` : text;
const bold = (text: string): string => paint('1', text);
const faint = (text: string): string => paint('2', text);
const good = (text: string): string => paint('32', text);
const bad = (text: string): string => paint('31', text);

const say = (text = ''): void => console.log(text === '' ? '' : `  ${text}`);
const heading = (text: string): void => console.log(`\n${bold(text)}`);
const number = (value: number): string => Math.round(value).toLocaleString('en-US');

let failures = 0;

/** Prints a statement, and whether it is true. */
function claim(text: string, holds: boolean): void {
  failures += holds ? 0 : 1;
  say(`${text}  ${holds ? good('ok') : bad('WRONG')}`);
}

/** The nodes whose access logs got a line with this path since `before`. */
function answeredBy(farm: Farm, path: string, before: readonly number[]): string[] {
  return farm.webs
    .filter((web, index) =>
      web
        .requests()
        .slice(before[index])
        .some((line) => line.includes(` ${path} `)),
    )
    .map((web) => web.host.name);
}

const logged = (farm: Farm): number[] => farm.webs.map((web) => web.requests().length);

/** Waits for log lines: nginx writes them after the last byte of an answer. */
async function settled(farm: Farm, count: number, before: readonly number[]): Promise<void> {
  const sum = (values: readonly number[]): number =>
    values.reduce((total, value) => total + value, 0);
  for (let tries = 0; tries < 40 && sum(logged(farm)) < sum(before) + count; tries++) {
    await sleep(25);
  }
}

function fill(farm: Farm, film: Uint8Array): void {
  const [n1, n2, n3] = farm.webs;
  n1?.put('images/cat.txt', 'a picture of a cat, from node 1\n');
  n2?.put('music/song.txt', 'a song, from node 2\n');
  n3?.put('films/short.txt', 'a short film, from node 3\n');
  n3?.put('films/long.bin', film);
  n1?.put('news.txt', 'the news, from node 1\n');
  n2?.put('news.txt', 'the news, from node 2\n');
}

async function contentByNode(farm: Farm): Promise<void> {
  heading('Each node holds other content, and the client knows only one address');
  const expected = [
    ['/images/cat.txt', ['n1']],
    ['/music/song.txt', ['n2']],
    ['/films/short.txt', ['n3']],
    ['/news.txt', ['n1', 'n2']],
    ['/news.txt', ['n1', 'n2']],
  ] as const;
  for (const [path, holders] of expected) {
    const before = logged(farm);
    const answer = await curl(farm.client, `${BASE}${path}`, [], 10_000);
    await settled(farm, 1, before);
    const [node = '?'] = answeredBy(farm, path, before);
    const text = `GET ${path.padEnd(17)} ${answer.status}  answered by ${node}, from address ${answer.remoteAddress}`;
    const holds =
      (holders as readonly string[]).includes(node) && answer.remoteAddress === VIRTUAL_ADDRESS;
    claim(
      `${text}  ${faint(`"${answer.body.toString().trim()}"`.padEnd(34))}`,
      holds && answer.status === 200,
    );
  }
  const none = await curl(farm.client, `${BASE}/books/none.txt`, [], 10_000);
  claim(
    `GET ${'/books/none.txt'.padEnd(17)} ${none.status}  no node holds it: the balancer itself answers`,
    none.status === 404,
  );
}

async function keptAlive(farm: Farm): Promise<void> {
  heading('Three requests share one connection');
  const path = '/images/cat.txt';
  const answers = await curlAll(
    farm.client,
    [path, path, path].map((p) => `${BASE}${p}`),
    [],
    10_000,
  );
  const connections = answers.reduce((sum, answer) => sum + answer.connects, 0);
  const all = answers.every((answer) => answer.status === 200) && answers.length === 3;
  claim(`3 requests on ${connections} connection, all answered by n1`, all && connections === 1);
}

async function longAnswer(farm: Farm, film: Uint8Array): Promise<void> {
  heading('A file of 100 MB goes from the node to the client, not through the balancer');
  const before = await farm.balancer.traffic();
  const answer = await curl(farm.client, `${BASE}/films/long.bin`);
  const after = await farm.balancer.traffic();
  const received = after.receivedBytes - before.receivedBytes;
  const sent = after.sentBytes - before.sentBytes;
  const packets = after.receivedPackets - before.receivedPackets;
  claim(
    `The client received ${number(answer.body.length)} bytes with the right SHA-256, ${sha256(answer.body).slice(0, 16)}…`,
    sha256(answer.body) === sha256(film),
  );
  say(`It took ${answer.seconds.toFixed(2)} s: ${number(answer.rate / 1e6)} MB/s`);
  claim(
    `The balancer received ${number(received)} bytes and sent ${number(sent)}: ${number(packets)} packets, the request and ACKs`,
    received < FILM_BYTES / 10,
  );
  say(faint(`That is ${((100 * received) / FILM_BYTES).toFixed(2)} % of the answer`));
}

async function fromInside(farm: Farm): Promise<void> {
  heading('`baton sessions` while a slow client downloads');
  const url = `${BASE}/films/long.bin`;
  const curlSlowly = ['curl', '-s', '-o', '/dev/null', '--limit-rate', '8M', url];
  const slow = farm.client.start('slow', curlSlowly);
  await sleep(500);
  const sessions = await farm.baton(['sessions', '-c', farm.balancerConfig]);
  await slow.stop();
  const lines = sessions.stdout.split('\n');
  indent([lines[0], ...lines.filter((line) => line.includes(' passing '))].join('\n'));
  heading('`baton stats`');
  const stats = await farm.baton(['stats', '-c', farm.balancerConfig]);
  // Without the counters, which fill a screen.
  indent(stats.stdout.replace(/\n\n *COUNTER[\s\S]*$/, ''));
}

function indent(text: string): void {
  for (const line of text.trimEnd().split('\n')) {
    say(line);
  }
}

function printHints(farm: Farm): void {
  const baton = `sudo ${batonCommand([]).join(' ')}`;
  const inClient = `sudo nsenter --net=/run/netns/${farm.client.namespace}`;
  heading('The farm is running. You can try:');
  say(`${inClient} curl -i ${BASE}/images/cat.txt`);
  say(`${inClient} curl -o /dev/null ${BASE}/films/long.bin`);
  say(`${baton} sessions -c ${farm.balancerConfig}`);
  say(`${baton} stats -c ${farm.balancerConfig}`);
  say(
    `sudo nsenter --net=/run/netns/${farm.tag}-switch tcpdump -ni balancer   ${faint('# what passes the balancer: requests and ACKs, no answers')}`,
  );
  say(
    `sudo kill -9 ${farm.agents[0]?.pid}   ${faint('# kills the agent of n1: established connections go on')}`,
  );
  const balancer = batonCommand(['balancer', '-c', farm.balancerConfig]).join(' ');
  say(
    `sudo kill -9 ${farm.balancerProgram?.pid}   ${faint('# kills the balancer; the next line starts it again')}`,
  );
  say(`sudo nsenter --net=/run/netns/${farm.balancer.namespace} ${balancer}`);
  say(`less ${farm.directory}/balancer.log   ${faint('# configs and logs are in this directory')}`);
  say();
  say(`${bold('sudo make demo-stop')} ends the farm.`);
}

async function demo(keep: boolean): Promise<void> {
  const film = randomBytes(FILM_BYTES);
  const farm = await Farm.create({ tag: TAG });
  try {
    heading('A farm in network namespaces: each machine is a namespace with its own network');
    const { stderr } = await farm.client.run('nginx', ['-v'], { allowFailure: true });
    const server = /nginx\/[\d.]+/.exec(stderr)?.[0] ?? 'nginx';
    say(`client    ${farm.client.address}`);
    say(`balancer  ${farm.balancer.address}    virtual address ${VIRTUAL_ADDRESS} port 80`);
    for (const node of farm.nodes) {
      const holds = RESOURCES.filter((resource) => resource.nodes.includes(node.name)).map(
        (resource) => resource.path,
      );
      say(
        `${node.name}        ${node.address}    unmodified ${server}, holds ${holds.join(' and ')}`,
      );
    }
    fill(farm, film);
    // XDP where the kernel can; the balancer's log says what was chosen and why.
    await farm.startAll(RESOURCES, { datapath: 'auto' });
    const { datapath } = await farm.stats();
    say(`datapath  ${datapath}`);
    await contentByNode(farm);
    await keptAlive(farm);
    await longAnswer(farm, film);
    await fromInside(farm);
    if (keep) {
      printHints(farm);
      farm.keep();
    }
  } finally {
    await farm.stop();
  }
  say();
  if (failures > 0) {
    say(bad(`${failures} of the statements above are wrong.`));
    process.exitCode = 1;
  } else if (!keep) {
    say(`All of it held. The farm is removed; ${bold('sudo make demo-keep')} leaves one running.`);
  }
}

async function main(mode: string | undefined): Promise<void> {
  if (process.getuid?.() !== 0) {
    throw new Error('network namespaces need root; run it with sudo');
  }
  if (mode === 'demo-stop') {
    console.log(
      stopKept(TAG) ? 'The demo has ended; its namespaces are removed.' : 'No demo is running.',
    );
    return;
  }
  await demo(mode === 'demo-keep');
}

try {
  await main(process.argv[2]);
} catch (error) {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
