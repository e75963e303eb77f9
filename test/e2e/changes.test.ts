/**
 * Random changes of a balancer under load: no client notices anything. BATON_SEED repeats a run;
 * BATON_CHANGES sets the number of changes.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { parse, stringify } from 'yaml';
import { curl, sha256 } from '../../lab/clients/curl.js';
import { Download } from '../../lab/clients/download.js';
import { Regulars, type RegularsOptions } from '../../lab/clients/regulars.js';
import type { Talk } from '../../lab/clients/websocket-client.js';
import { Wrk } from '../../lab/clients/wrk.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { CONTROL_SOCKET, DATAPATH, type Resource } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import type { RunResult } from '../../lab/farm/process.js';
import { FILE_TIMEOUT_MS, PATIENCE_MS } from '../../lab/patience.js';
import { machineState } from '../../lab/probes/machine.js';
import { ControlClient } from '../../src/api/client.js';
import { Random } from '../sim/random.js';
import {
  type ModelKeys,
  type ModelServer,
  RandomChanges,
  type Step,
} from '../support/random-changes.js';

const SEED = Number(process.env.BATON_SEED ?? randomBytes(4).readUInt32LE());
const CHANGES = Number(process.env.BATON_CHANGES ?? 200);
/** Between two changes: sessions of removed objects end meanwhile, and their slots are freed. */
const BETWEEN_MS = 50;
const SECOND_ADDRESS = '10.99.0.101';
const BODY = 'here\n';
const PATHS = ['/a.txt', '/d1/a.txt', '/d2/a.txt', '/d3/a.txt'];
/** The nodes that changes may remove; the last node has the WebSocket. */
const NODES = 6;
/** Resources of a config whose reload takes long. */
const LARGE = 20_000;
const timeouts = { linger: '1s', closing: '2s' };
const virtualAddresses = [VIRTUAL_ADDRESS, SECOND_ADDRESS];
const long = randomBytes(16_000_000);
const www: ModelServer = {
  name: 'www',
  address: VIRTUAL_ADDRESS,
  port: 80,
  predictor: 'round-robin',
};
const second: ModelServer = { ...www, name: 'second', address: SECOND_ADDRESS };

/** wrk with a new connection for each request, and a pause so that the other clients get theirs. */
const ARRIVALS = `
local paths = {${PATHS.map((one) => `"${one}"`).join(', ')}}
function request() return wrk.format("GET", paths[math.random(#paths)]) end
function delay() return 10 end -- ms
`;

function fill(farm: Farm): void {
  for (const web of farm.webs) {
    for (const name of PATHS) web.put(name.slice(1), BODY);
    web.put('long.bin', long);
  }
}

/** All clients of a run. */
class Clients {
  private constructor(
    private readonly arrivals: Wrk,
    private readonly regulars: Regulars,
    private readonly downloads: readonly Download[],
    private readonly talk: Promise<RunResult>,
    private readonly stop: string,
  ) {}

  static async start(farm: Farm): Promise<Clients> {
    const file = (name: string): string => path.join(farm.directory, name);
    const [stop, progress] = [file('stop'), file('progress')];
    const program = fileURLToPath(
      new URL('../../lab/clients/websocket-client.js', import.meta.url),
    );
    const talk = farm.client.run(
      process.execPath,
      [program, `ws://${VIRTUAL_ADDRESS}/echo`, progress, stop],
      { timeoutMs: FILE_TIMEOUT_MS },
    );
    // `check` reports a conversation that fails early.
    talk.catch(() => {});
    await farm.waitFor(() => existsSync(progress), 'the WebSocket is open');
    const regulars = await Regulars.start(farm, {
      ...{ connections: 2_000, paths: PATHS, body: BODY },
      ...{ pauseMs: 3_000, requests: 10 },
    });
    const url = `http://${VIRTUAL_ADDRESS}`;
    const downloads = [1, 2].map(() => new Download(farm, `${url}/long.bin`, 400_000));
    await Promise.all(downloads.map((download) => download.begun()));
    writeFileSync(file('arrivals.lua'), ARRIVALS);
    const arrivals = new Wrk(farm.client, `${url}/`, {
      ...{ connections: 8, close: true, seconds: FILE_TIMEOUT_MS / 1_000 },
      ...{ script: file('arrivals.lua'), timeoutSeconds: PATIENCE_MS / 1_000 },
    });
    return new Clients(arrivals, regulars, downloads, talk, stop);
  }

  /** Ends all clients, and asserts that none has noticed anything. */
  async check(t: Test): Promise<void> {
    t.ok(this.arrivals.running, 'new clients came until the end');
    const { failed, requests, errors } = await this.arrivals.stop();
    t.equal(failed, 0, `none of ${requests} new clients failed: ${JSON.stringify(errors)}`);
    await checkRegulars(t, this.regulars);
    for (const download of this.downloads) {
      t.ok(download.running, 'the download went on until the end');
      const { error, sha256: hash } = await download.finish();
      t.same({ error, hash }, { error: '', hash: sha256(long) }, 'the download is complete');
    }
    writeFileSync(this.stop, '');
    const talk = JSON.parse((await this.talk).stdout) as Talk;
    t.equal(talk.closeCode, 1000, `the WebSocket carried ${talk.echoed} messages`);
  }
}

async function checkRegulars(t: Test, regulars: Regulars): Promise<void> {
  const { answers, connections, failures, slowestMs } = await regulars.stop();
  t.same(
    failures.slice(0, 10),
    [],
    `of ${answers} requests on ${connections} connections ${failures.length} failed, the slowest took ${slowestMs} ms`,
  );
}

/** The second virtual server: its clients stay when it goes. */
class Second {
  private clients: Regulars | undefined;
  private isThere = false;
  added = 0;

  constructor(
    private readonly t: Test,
    private readonly farm: Farm,
  ) {}

  /** To be called after each change. */
  async look(isThere: boolean): Promise<void> {
    if (isThere === this.isThere) return;
    this.isThere = isThere;
    const { farm, t } = this;
    const options: RegularsOptions = {
      ...{ address: SECOND_ADDRESS, connections: 20, paths: PATHS, body: BODY, pauseMs: 200 },
    };
    if (isThere) {
      this.added += 1;
      await this.end();
      this.clients = await Regulars.start(farm, options);
      return;
    }
    const { exit, error } = await curl(farm.client, `http://${SECOND_ADDRESS}/a.txt`);
    t.equal(exit, 7, `a new client of a removed virtual server gets RST: ${error}`);
  }

  /** Its clients leave. */
  async end(): Promise<void> {
    if (this.clients !== undefined) await checkRegulars(this.t, this.clients);
    this.clients = undefined;
  }
}

function write(farm: Farm, { resources, ...keys }: ModelKeys): void {
  farm.configureBalancer(resources, { ...keys });
}

async function take(farm: Farm, client: ControlClient, step: Step): Promise<void> {
  switch (step.kind) {
    case 'change':
      await client.change(step.change);
      return;
    case 'reload':
      write(farm, step.keys);
      await client.change({ kind: 'reload' });
      return;
    case 'signal': {
      write(farm, step.keys);
      farm.balancerProgram?.signal('SIGHUP');
      const text = readFileSync(farm.balancerConfig, 'utf8');
      await farm.waitFor(async () => (await client.config()).text === text, 'SIGHUP is obeyed');
      return;
    }
    case 'save':
      await client.saveConfig();
  }
}

/** A call that must be refused: the method, the path and the body. */
type Call = readonly [string, string, object?];

/** Mistakes of operators: each is refused with its reason, and changes nothing. */
async function refusals(
  t: Test,
  farm: Farm,
  client: ControlClient,
  keys: ModelKeys,
): Promise<void> {
  const call = async ([method, target, body]: Call): Promise<string> => {
    const json = ['-H', 'Content-Type: application/json', '-d', '@-', '-w', ' %{http_code}'];
    const to = ['--unix-socket', path.join(farm.directory, CONTROL_SOCKET), `http://x${target}`];
    const input = JSON.stringify(body ?? {});
    const { stdout } = await farm.balancer.run('curl', ['-sX', method, ...json, ...to], { input });
    return stdout;
  };
  const reload = (more: Partial<ModelKeys> & Record<string, unknown>) => {
    const { resources, ...rest } = { ...keys, ...more };
    farm.configureBalancer(resources, rest);
    return call(['POST', '/v1/reload']);
  };
  const [node] = keys.resources[0]?.nodes ?? [];
  const before = await client.config();
  const { nodes } = await client.nodes();
  const states = nodes.map(({ name, state, weight }) => ({ name, state, weight }));
  const wrong = [{ path: '/', nodes: ['n99'] }];
  t.match(await reload({ resources: wrong }), /BATON_CONFIG.*n99.* 400$/);
  t.match(await reload({ workers: 2 }), /these keys cannot change.*workers.*--replace.* 409$/);
  t.match(await reload({ colour: 'red' }), /BATON_CONFIG.*colour.* 400$/);
  const calls: [Call, RegExp][] = [
    [
      ['PATCH', `/v1/nodes/${node}`, { state: 'asleep' }],
      /expected one of up, draining.*body: state.* 400$/,
    ],
    [['PATCH', '/v1/nodes/n99', { state: 'draining' }], /there is no node \\"n99\\".* 404$/],
    [['DELETE', '/v1/nodes/n99'], /there is no node \\"n99\\".* 404$/],
    [['DELETE', `/v1/nodes/${node}`], /BATON_IN_USE.*holds.* 409$/],
    [['DELETE', '/v1/virtual-servers/third'], /there is no virtual server \\"third\\".* 404$/],
    [
      ['POST', '/v1/resources', { path: '/x/', nodes: ['n99'] }],
      /there is no node \\"n99\\".* 404$/,
    ],
    [['POST', '/v1/nodes', { name: 'own', address: farm.balancer.address }], /own.* 4\d\d$/],
    [
      ['POST', '/v1/virtual-servers', { name: 'taken', address: farm.client.address, port: 80 }],
      /BATON_IN_USE.*in use.* 409$/,
    ],
    [['POST', '/v1/nodes', { name: 'x'.repeat(2_000_000) }], /the body is longer.* 413$/],
  ];
  for (const [wanted, pattern] of calls) t.match(await call(wanted), pattern);
  t.same(await client.config(), before, 'what runs is as before');
  const after = (await client.nodes()).nodes;
  t.same(
    after.map(({ name, state, weight }) => ({ name, state, weight })),
    states,
  );
}

/** A reload that takes long, and another one meanwhile. */
async function twice(t: Test, farm: Farm, client: ControlClient): Promise<void> {
  const { resources, ...rest } = parse((await client.config()).text) as { resources: Resource[] };
  const more = Array.from({ length: LARGE }, (_, number) => ({
    path: `/more/${number}`,
    nodes: resources[0]?.nodes,
  }));
  const lines = [...resources, ...more].map((resource) => `  - ${JSON.stringify(resource)}\n`);
  const file = path.join(farm.directory, 'large.yaml');
  writeFileSync(file, `${stringify(rest)}resources:\n${lines.join('')}`);
  const both = await Promise.allSettled([1, 2].map(() => client.change({ kind: 'reload', file })));
  const refused = both.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []));
  t.match(refused, [{ code: 'BATON_CONFLICT', message: 'a reload is under way' }]);
  const [report] = both.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  t.match(report?.changed.at(-1), /^and [\d,]+ more resources$/);
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test(`${CHANGES} random changes under load, seed ${SEED}`, { skip: whyNoFarm() }, async (t) => {
  const use = {
    nodes: NODES,
    agents: Array.from({ length: NODES }, () => ({ virtualAddresses })),
    web: [{}, {}, {}, {}, {}, { server: 'node' as const }],
    resources: [
      { path: '/', nodes: ['n1', 'n2', 'n3', 'n4', 'n5'] },
      { path: '/echo', nodes: ['n6'] },
    ],
    balancer: { timeouts },
    fill,
  };
  await withFarm(t, use, async (farm) => {
    const client = new ControlClient(path.join(farm.directory, CONTROL_SOCKET));
    const before = await machineState(farm.balancer);
    const clients = await Clients.start(farm);
    // The WebSocket goes on although its node is gone for the balancer.
    await client.change({ kind: 'remove-resource', path: '/echo' });
    await client.change({ kind: 'remove-node', node: 'n6' });
    const nodes = farm.nodes.slice(0, -1).map(({ name, address }) => ({ name, address }));
    const model = new RandomChanges(
      new Random(SEED),
      { nodes, first: www, second, paths: ['/d1/', '/d2/', '/d3/'] },
      timeouts,
    );
    const guests = new Second(t, farm);
    const done = new Map<string, number>();
    for (let count = 0; count < CHANGES; count++) {
      const step = model.next();
      const kind = step.kind === 'change' ? step.change.kind : step.kind;
      done.set(kind, (done.get(kind) ?? 0) + 1);
      await take(farm, client, step).catch((error: unknown) =>
        t.fail(`change ${count}: ${String(error)}`, { step }),
      );
      await guests.look(model.servers.length > 1);
      await sleep(BETWEEN_MS);
    }
    t.comment(JSON.stringify(Object.fromEntries(done)));
    const { nodes: shown } = await client.nodes();
    t.ok(
      shown.some(
        ({ name, condition, active }) => name === 'n6' && condition === 'removed' && active === 1,
      ),
      'the node of the WebSocket is removed and has its session',
    );
    await t.test('mistakes are refused', (t) => refusals(t, farm, client, model.keys()));
    await t.test('a second reload during one is refused', (t) => twice(t, farm, client));
    await clients.check(t);
    await guests.end();

    await farm.waitEmpty();
    write(farm, { ...model.keys(), virtualServers: [www] });
    await client.change({ kind: 'reload', file: farm.balancerConfig });
    await farm.waitFor(async () => {
      const { nodes } = await client.nodes();
      const { virtualServers } = await client.virtualServers();
      const held = [...nodes, ...virtualServers].reduce((sum, object) => sum + object.held, 0);
      return held === 0 && nodes.length === model.nodes.size && virtualServers.length === 1;
    }, 'no session is held, and the slots of removed objects are free');
    // The states that operators have set are kept in a file of their own.
    const after = await machineState(farm.balancer);
    const kept = after.kept.filter((file) => !file.includes('/nodes-'));
    t.same({ ...after, kept }, before, 'the machine is as before');
  });
});

const inProcess = 'sessions of the packet datapath end with the process';

t.test(
  'sessions of objects that were added and removed at run time outlive a kill',
  { skip: whyNoFarm() || (DATAPATH === 'packet' && inProcess) },
  async (t) => {
    const use = {
      nodes: 3,
      agents: [1, 2, 3].map(() => ({ virtualAddresses })),
      resources: [{ path: '/', nodes: ['n1', 'n2'] }],
      balancer: { timeouts },
      fill,
    };
    await withFarm(t, use, async (farm) => {
      const client = new ControlClient(path.join(farm.directory, CONTROL_SOCKET));
      const regular = { connections: 30, paths: PATHS, body: BODY, pauseMs: 100 };
      const held = async (name: string): Promise<number> =>
        (await client.nodes()).nodes.find((node) => node.name === name)?.active ?? 0;
      await client.change({ kind: 'remove-node', node: 'n3' });
      const former = await Regulars.start(farm, regular);
      const before = { n1: await held('n1'), n2: await held('n2') };
      t.ok(before.n1 > 0 && before.n2 > 0, 'both nodes have sessions');
      // n1 goes, n3 and the second virtual server come.
      const keys = parse((await client.config()).text) as Record<string, unknown>;
      farm.configureBalancer([{ path: '/', nodes: ['n2', 'n3'] }], {
        timeouts,
        virtualServers: keys.virtualServers,
        nodes: farm.nodes.slice(1).map(({ name, address }) => ({ name, address })),
      });
      await client.change({ kind: 'reload' });
      await client.change({ kind: 'add-virtual-server', virtualServer: second });
      await client.saveConfig();
      const latter = await Regulars.start(farm, { ...regular, address: SECOND_ADDRESS });
      const { sessions } = await client.sessions(1_000);
      const of = (name: string): number => sessions.filter(({ node }) => node === name).length;
      t.ok(of('n3') > 0, `the new node has ${of('n3')} sessions`);
      await farm.balancerProgram?.kill();
      await farm.startBalancer();
      const after = (await client.sessions(1_000)).sessions;
      // The config has no name for a removed node.
      const places = (rows: typeof sessions) =>
        rows
          .map(({ client, virtualServer, node }) => `${client} ${virtualServer} ${node}`)
          .map((row) => row.replace(/ n1$/, ` ${farm.nodes[0]?.address}`))
          .sort();
      t.same(places(after), places(sessions), 'all sessions are there, of the same objects');
      for (const regulars of [former, latter]) {
        t.ok(regulars.running);
        await checkRegulars(t, regulars);
      }
      await farm.waitEmpty();
      await farm.waitFor(
        async () => (await client.nodes()).nodes.length === 2,
        'the slot of the removed node is free',
      );
    });
  },
);
