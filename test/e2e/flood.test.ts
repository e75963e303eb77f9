/**
 * A flood of SYNs from clients that do not exist. All real clients are served, with the same TCP
 * options as without a flood, and memory does not grow.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { curl, sha256 } from '../../lab/clients/curl.js';
import { Download, KEPT_BYTES } from '../../lab/clients/download.js';
import { Flood, type FloodOptions } from '../../lab/clients/flood.js';
import { converse } from '../../lab/clients/raw-client.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import type { Host } from '../../lab/farm/host.js';
import { findCommand, whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { type Agreed, socketOptions } from '../../lab/probes/sockets.js';

const BASE = `http://${VIRTUAL_ADDRESS}`;
/** The limit of client-writer.ts for RSTs to unknown clients. */
const RESETS_PER_SECOND = 1_000;
const HALF_OPEN = 8192;
const REQUESTS = 100;
/** Requests at the same time. */
const AT_ONCE = 3;
const DOWNLOAD_BYTES = 24_000_000;
const DOWNLOAD_RATE = 2_000_000;
/**
 * Limit of the flood in SYNs a second: this test is not about the limits of a packet ring and one
 * thread.
 */
const FLOOD_RATE = DATAPATH === 'packet' ? 60_000 : undefined;
/**
 * Shortest duration: memory that a SYN leaves behind must add up to more than the usual variation
 * of a heap.
 */
const LEAST_MS = 12_000;
const MEBIBYTE = 1024 * 1024;

const long = randomBytes(DOWNLOAD_BYTES);
const picture = randomBytes(300_000);
const resources = [{ path: '/', nodes: ['n1', 'n2'] }];

/** Clients that do without some TCP option. */
interface Kind {
  name: string;
  /** Names below /proc/sys/net/ipv4. */
  settings: Record<string, string>;
  /** The MSS that the client announces. */
  mss?: number;
}

const USUAL = { tcp_timestamps: '1', tcp_window_scaling: '1', tcp_sack: '1' };
const KINDS: Kind[] = [
  { name: 'an ordinary client', settings: {} },
  { name: 'a client without timestamps', settings: { tcp_timestamps: '0' } },
  { name: 'a client without window scaling', settings: { tcp_window_scaling: '0' } },
  { name: 'a client without SACK', settings: { tcp_sack: '0' } },
  {
    name: 'a client with none of them',
    settings: { tcp_timestamps: '0', tcp_window_scaling: '0', tcp_sack: '0' },
  },
  { name: 'a client with an MSS of 703', settings: {}, mss: 703 },
  {
    name: 'a client with an MSS of 1399, no timestamps',
    settings: { tcp_timestamps: '0' },
    mss: 1399,
  },
];
/** A cookie can carry one of 32 MSS values: the client's, or the next one below. */
const LEAST_OF_MSS = 0.85;

function fill(farm: Farm): void {
  for (const web of farm.webs) {
    web.put('a.txt', 'here\n');
    web.put('picture.bin', picture);
    web.put('long.bin', long);
  }
}

async function become(host: Host, kind: Kind): Promise<void> {
  const settings = { ...USUAL, ...kind.settings };
  const lines = Object.entries(settings).map(
    ([name, value]) => `echo ${value} > /proc/sys/net/ipv4/${name}`,
  );
  const advmss = kind.mss === undefined ? '' : ` advmss ${kind.mss}`;
  lines.push(`ip route replace ${VIRTUAL_ADDRESS}/32 dev eth0${advmss}`);
  await host.run('sh', ['-ec', lines.join('\n')]);
}

/** TCP options at both ends of a connection, which stays open until both are read. */
async function agreedBy(
  farm: Farm,
  host: Host,
  localPort: number,
): Promise<{ client: Agreed; node: Agreed; text: string }> {
  let held = true;
  const seen = path.join(farm.directory, `seen-${localPort}`);
  const conversation = converse(host, {
    address: VIRTUAL_ADDRESS,
    port: 80,
    localPort,
    steps: [
      { send: 'GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\n' },
      { hear: 'here' },
      { untilFile: seen },
      { finish: true },
      { untilClosed: true },
    ],
    timeoutMs: PATIENCE_MS,
  }).finally(() => {
    held = false;
  });
  let client: Agreed | undefined;
  let node: Agreed | undefined;
  while (held && (client === undefined || node === undefined)) {
    await sleep(50);
    const found = await Promise.all(
      farm.nodes.map((other) => socketOptions(other, localPort, 'node')),
    );
    node = found.find((agreed) => agreed !== undefined);
    if (node !== undefined) client = await socketOptions(host, localPort, 'client');
  }
  writeFileSync(seen, '');
  const { text, ending } = await conversation;
  if (client === undefined || node === undefined) {
    throw new Error(`no connection from port ${localPort} to be seen; it ended with ${ending}`);
  }
  return { client, node, text };
}

/** Resident memory of a process, in bytes. */
function memoryOf(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
  return Number(kib) * 1024;
}

/** Sends requests, AT_ONCE at the same time. Returns the distinct outcomes, and the slowest. */
async function ask(host: Host, count: number): Promise<{ endings: string[]; slowest: number }> {
  const endings: string[] = [];
  let slowest = 0;
  let left = count;
  const one = async (): Promise<void> => {
    while (left-- > 0) {
      const answer = await curl(host, `${BASE}/a.txt`, [], PATIENCE_MS);
      endings.push(`${answer.exit} ${answer.status} ${answer.body.toString().trim()}`);
      slowest = Math.max(slowest, answer.seconds);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  return { endings: [...new Set(endings)], slowest };
}

/** Samples the balancer until `stop`, and keeps the largest values. */
function watch(farm: Farm): () => Promise<{ halfOpen: number; total: number; memory: number }> {
  const most = { halfOpen: 0, total: 0, memory: 0 };
  let stopped = false;
  const looking = (async () => {
    while (!stopped) {
      const { sessions } = await farm.stats();
      most.halfOpen = Math.max(most.halfOpen, sessions.halfOpen ?? 0);
      most.total = Math.max(most.total, sessions.total ?? 0);
      most.memory = Math.max(most.memory, memoryOf(farm.balancerProgram?.pid ?? 0));
      await sleep(1000);
    }
  })();
  return async () => {
    stopped = true;
    await looking;
    return most;
  };
}

t.setTimeout(FILE_TIMEOUT_MS);

const why = whyNoFarm() || (findCommand('ss') ? false : 'needs ss');
t.test('clients are served during a SYN flood', { skip: why }, async (t) => {
  const balancer = {
    limits: { halfOpen: HALF_OPEN, synAckTries: 2 },
    timeouts: { synAck: '500ms', linger: '1s', closing: '2s' },
  };
  await withFarm(t, { resources, fill, balancer, nodes: 2, clients: 3 }, async (farm) => {
    const [client, flooder, odd] = farm.clients as [Host, Host, Host];
    const counter = async (...names: string[]): Promise<number> => {
      const { counters } = await farm.stats();
      return names.reduce((sum, name) => sum + (counters[name] ?? 0), 0);
    };
    const start = (flags: FloodOptions['flags'], rate?: number): Promise<Flood> =>
      Flood.from(flooder, {
        to: farm.balancer.mac,
        address: VIRTUAL_ADDRESS,
        port: 80,
        flags,
        seconds: 120,
        ...(rate === undefined ? {} : { rate }),
      });
    let port = 20_000;
    const usual = new Map<string, { client: Agreed; node: Agreed }>();

    await t.test('clients get their TCP options without a flood', async (t) => {
      for (const kind of KINDS) {
        await become(odd, kind);
        const agreed = await agreedBy(farm, odd, port++);
        usual.set(kind.name, agreed);
        t.equal(agreed.client.timestamps, kind.settings.tcp_timestamps !== '0', kind.name);
        t.equal(agreed.client.scales !== '', kind.settings.tcp_window_scaling !== '0', kind.name);
        t.equal(agreed.client.sack, kind.settings.tcp_sack !== '0', kind.name);
      }
      t.equal(await counter('syn_cookie', 'xdp_syn_cookie'), 0, 'no cookie was needed');
      await farm.waitEmpty();
    });

    // The first requests have grown the heap.
    const memoryBefore = memoryOf(farm.balancerProgram?.pid ?? 0);
    const download = new Download(farm, `${BASE}/long.bin`, DOWNLOAD_RATE);
    await download.begun();
    const flood = await start('S', FLOOD_RATE);
    const flooding = Date.now();
    const stopWatching = watch(farm);
    await farm.waitFor(
      async () => (await counter('syn_cookie', 'xdp_syn_cookie')) > 0,
      'SYN cookies are sent',
    );

    await t.test(`${REQUESTS} requests are served during the flood`, async (t) => {
      const before = await counter('cookie_accepted');
      const { endings, slowest } = await ask(client, REQUESTS);
      t.same(endings, ['0 200 here']);
      t.comment(`the slowest request took ${slowest.toFixed(3)} s`);
      const accepted = (await counter('cookie_accepted')) - before;
      t.ok(accepted >= REQUESTS * 0.8, `${accepted} of them came in by a cookie`);
    });

    await t.test('clients get the same TCP options during the flood', async (t) => {
      for (const kind of KINDS) await sameAsEver(t, kind);
    });

    async function sameAsEver(t: Test, kind: Kind): Promise<void> {
      await become(odd, kind);
      const agreed = await agreedBy(farm, odd, port++);
      t.match(agreed.text, /^HTTP\/1\.1 200 .*here\n$/s, `${kind.name}: an answer`);
      for (const side of ['client', 'node'] as const) {
        const { mss: usualMss = 0, ...expected } = usual.get(kind.name)?.[side] ?? {};
        const { mss, ...found } = agreed[side];
        t.same(found, expected, `${kind.name}: the ${side}'s options`);
        t.ok(
          mss <= usualMss && mss >= usualMss * LEAST_OF_MSS,
          `the MSS is ${mss}, without a flood ${usualMss}`,
        );
      }
      const long = await curl(odd, `${BASE}/picture.bin`, [], PATIENCE_MS);
      t.equal(sha256(long.body), sha256(picture), `${kind.name}: a longer answer`);
    }

    await t.test('a download goes on during the flood', async (t) => {
      const seconds = await download.paced();
      const finished = await download.finish();
      t.equal(finished.error, '');
      t.equal(finished.sha256, sha256(long));
      const slower = seconds / ((DOWNLOAD_BYTES - KEPT_BYTES) / DOWNLOAD_RATE);
      t.ok(slower < 1.25, `it took ${seconds} s, ${slower.toFixed(2)} times what was asked for`);
    });

    await t.test('memory has not grown after the flood', async (t) => {
      await sleep(Math.max(0, flooding + LEAST_MS - Date.now()));
      const most = await stopWatching();
      const flooded = await flood.stop();
      t.comment(`${flooded.sent} SYNs, ${flooded.perSecond} a second`);
      t.ok(flooded.sent > 100_000, 'it was a flood');
      t.ok(most.halfOpen <= HALF_OPEN, `at most ${most.halfOpen} half-open sessions`);
      t.ok(most.total < HALF_OPEN + 200, `at most ${most.total} sessions`);
      const grown = (most.memory - memoryBefore) / MEBIBYTE;
      t.ok(grown < 32, `memory grew by ${grown.toFixed(1)} MiB`);
    });

    await t.test('a flood of ACKs opens no session and gets few answers', async (t) => {
      const began = Date.now();
      const before = await counter('reset_sent');
      // Unknown connections are looked for at the nodes, as many as that takes.
      const names = ['drop_no_session', 'drop_searching', 'drop_search_limit'];
      const strangers = async (): Promise<number> => {
        const { counters } = await farm.stats();
        return names.reduce((sum, name) => sum + (counters[name] ?? 0), 0);
      };
      const strangersBefore = await strangers();
      const acks = await start('A', 20_000);
      const { endings } = await ask(client, 20);
      const flooded = await acks.stop();
      t.same(endings, ['0 200 here']);
      const dropped = async (): Promise<boolean> =>
        (await strangers()) - strangersBefore > flooded.sent * 0.5;
      await farm.waitFor(dropped, `half of ${flooded.sent} ACKs are dropped`);
      const resets = (await counter('reset_sent')) - before;
      const most = RESETS_PER_SECOND * ((Date.now() - began) / 1000 + 1);
      t.ok(
        resets <= most,
        `${resets} RSTs, not more than the limit of ${RESETS_PER_SECOND} a second`,
      );
    });

    await t.test('after the floods clients are served without cookies', async (t) => {
      // A node sends the notice of its FIN once. If the flood displaced it, its session waits
      // longer.
      await farm.waitEmpty({ but: 5 });
      const cookies = await counter('syn_cookie', 'xdp_syn_cookie');
      const { endings, slowest } = await ask(client, 20);
      t.same(endings, ['0 200 here']);
      // A lost SYN is sent again after a second.
      t.ok(slowest < 0.9, `the slowest took ${slowest} s`);
      t.equal(await counter('syn_cookie', 'xdp_syn_cookie'), cookies, 'no cookie was needed');
      t.ok(farm.balancerProgram?.running);
    });
  });
});
