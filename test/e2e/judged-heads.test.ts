/**
 * Kept-alive requests while the farm changes (keepAlive: migrate): with the datapath xdp the kernel
 * forwards most of them by itself, and no node gets one that it does not hold, or that it must not
 * get any more. BATON_SEED repeats a run.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { type Asked, Askers } from '../../lab/clients/askers.js';
import { VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { DATAPATH } from '../../lab/farm/configs.js';
import type { Farm } from '../../lab/farm/farm.js';
import { whyNoFarm, withFarm } from '../../lab/farm/needs.js';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { monotonicClock } from '../../src/base/clock.js';
import { Random } from '../sim/random.js';

const SEED = Number(process.env.BATON_SEED ?? randomBytes(4).readUInt32LE());
const CHANGES = 24;
/** Between two changes: enough for the kernel to learn the heads again. */
const BETWEEN_MS = 150;
const NODES = ['n1', 'n2', 'n3'];
const PATHS = ['/a', '/b', '/c', '/d'];
const balancer = {
  virtualServers: [{ name: 'www', address: VIRTUAL_ADDRESS, port: 80, keepAlive: 'migrate' }],
  workers: 2,
};

/** What may answer which path, from when until when. */
interface Epoch {
  /** The change before it began, and had taken effect. */
  from: number;
  since: number;
  /** Nodes by path. */
  holders: Map<string, Set<string>>;
}

/** The names of the nodes that may answer a request. */
function allowed(epochs: readonly Epoch[], { path, began, ended }: Asked): Set<string> {
  const names = new Set<string>();
  epochs.forEach(({ from, holders }, index) => {
    // An epoch begins with its change, and ends when the next change has taken effect.
    const until = epochs[index + 1]?.since ?? Number.POSITIVE_INFINITY;
    if (ended >= from && began <= until)
      for (const name of holders.get(path) ?? []) names.add(name);
  });
  return names;
}

/** The farm as this test changes it: who holds what, and who drains. */
class Model {
  readonly epochs: Epoch[] = [];
  private draining: string | undefined;
  private readonly content = new Map(PATHS.map((path) => [path, new Set(NODES.slice(0, 2))]));
  private readonly now = monotonicClock();

  constructor(
    private readonly random: Random,
    private readonly farm: Farm,
  ) {
    this.content.set('/d', new Set(['n3']));
    this.note(0);
  }

  get resources(): { path: string; nodes: string[] }[] {
    return [...this.content].map(([path, nodes]) => ({ path, nodes: [...nodes] }));
  }

  /** Content moves, or a node begins or ceases to drain; each path keeps a holder. */
  async change(): Promise<void> {
    const { random, farm } = this;
    const control = farm.control();
    const from = this.now();
    if (random.chance(0.5)) {
      const path = random.pick(PATHS);
      const others = NODES.filter((name) => name !== this.draining);
      this.content.set(path, new Set([random.pick(others), random.pick(NODES)]));
      farm.configureBalancer(this.resources, balancer);
      await control.change({ kind: 'reload' });
    } else if (this.draining !== undefined) {
      await control.change({ kind: 'node-state', node: this.draining, state: 'up' });
      this.draining = undefined;
    } else {
      const free = NODES.filter((name) =>
        [...this.content.values()].every((holders) => [...holders].some((node) => node !== name)),
      );
      if (free.length === 0) return;
      this.draining = random.pick(free);
      await control.change({ kind: 'node-state', node: this.draining, state: 'draining' });
    }
    this.note(from);
  }

  private note(from: number): void {
    const holders = new Map(
      [...this.content].map(([path, nodes]) => [
        path,
        new Set([...nodes].filter((name) => name !== this.draining)),
      ]),
    );
    this.epochs.push({ from, since: this.now(), holders });
  }
}

t.setTimeout(FILE_TIMEOUT_MS);

t.test('requests go where they may, whatever changes', { skip: whyNoFarm() }, async (t) => {
  t.comment(`BATON_SEED=${SEED}`);
  const random = new Random(SEED);
  const fill = (farm: Farm): void => {
    for (const [index, web] of farm.webs.entries())
      for (const path of PATHS) web.put(path.slice(1), NODES[index] ?? '');
  };
  const resources = PATHS.map((path) => ({
    path,
    nodes: path === '/d' ? ['n3'] : NODES.slice(0, 2),
  }));
  await withFarm(t, { resources, fill, nodes: 3, balancer }, async (farm) => {
    await farm.waitFor(
      async () => (await farm.stats()).nodes.every(({ lastReportMs }) => lastReportMs !== null),
      'the balancer knows what each node can do',
    );
    const model = new Model(random, farm);
    // Some ask for one path alone, and stay; the others move between all of them.
    const one = (path: string): Askers =>
      Askers.start(farm, { address: VIRTUAL_ADDRESS, connections: 2, paths: [path] });
    const askers = [
      Askers.start(farm, { address: VIRTUAL_ADDRESS, connections: 4, paths: PATHS }),
      ...PATHS.map(one),
    ];
    for (let n = 0; n < CHANGES; n++) {
      await sleep(BETWEEN_MS);
      await model.change();
    }
    const asked = (await Promise.all(askers.map((each) => each.finish()))).flat();
    const wrong = asked.filter(
      (each) => each.status !== 200 || !allowed(model.epochs, each).has(each.text),
    );
    t.same(wrong.slice(0, 3), [], `${wrong.length} of ${asked.length} requests`);
    t.ok(asked.length > CHANGES, `${asked.length} requests`);

    const { counters } = await farm.stats();
    t.equal(counters.requests, asked.length, 'each request is counted, and once');
    const { resources: counted } = await farm.control().resources(PATHS.length);
    const total = counted.reduce((sum, { requests }) => sum + requests, 0);
    t.equal(total, asked.length, 'also by resource');
    const judged = counters.xdp_head_forwarded ?? 0;
    if (DATAPATH === 'xdp')
      t.ok(judged > asked.length / 4, `the kernel forwarded ${judged} of ${asked.length}`);
    t.comment(
      Object.entries(counters)
        .filter(([name, value]) => value !== 0 && /^(pinned|move|head|reset|drop)/.test(name))
        .map(([name, value]) => `${name} ${value}`)
        .join(', '),
    );
  });
});
