/** The plan of a simulated world, drawn from its seed before it starts. */
import type { PredictorName } from '../../src/directory/predictors/index.js';
import type { Limits } from '../../src/engine/options.js';
import type { Plan, PlanKind } from './client.js';
import type { Resource } from './content.js';
import type { LinkQuality } from './network.js';
import type { Random } from './random.js';
import { type Ask, GET, makeAsks } from './requests.js';

export interface Fault {
  /**
   * down: switched off, and forgets everything. deaf: no web server listens. unresolved: no MAC
   * address is known.
   */
  kind: 'down' | 'deaf' | 'unresolved';
  node: number;
  /** Times from the start, in ms. */
  at: number;
  until: number;
}

export interface PlannedClient {
  plan: Plan;
  host: number;
  port: number;
  /** Time from the start, or from the end of `after`, in ms. */
  startAt: number;
  /** Index of the plan whose port is used again. */
  after: number | undefined;
}

/**
 * What a node's kernel can do: it builds sockets of sessions; or it cannot, and sessions come by
 * replay of their handshakes; or its agent says that it can, and its listeners refuse.
 */
export type Kernel = 'adopts' | 'replays' | 'refuses';

export interface Scenario {
  name: string;
  /** Every request must get its proper answer: TCP can repair all that happens. */
  mild: boolean;
  nodes: number;
  resources: Resource[];
  predictor: PredictorName;
  clientLink: LinkQuality;
  nodeLink: LinkQuality;
  /** The link from nodes to clients. */
  answerLink: LinkQuality;
  limits: Partial<Limits>;
  faults: Fault[];
  plans: PlannedClient[];
  serviceMs: number;
  /** Noise and forged frames arrive too. */
  attacked: boolean;
  /** The virtual server's connections move between requests. */
  migrates: boolean;
  /** Nodes keep the sockets of connections that move on. */
  parks: boolean;
  /** How long web servers wait for a further request, in ms. */
  keepAliveMs: number;
  /** How likely a node loses power when a frame of IXP reaches it. */
  deaths: number;
  /** Of each node, by index. A node that is not here adopts. */
  kernels: readonly Kernel[];
  /** Agents report every second. */
  reports: boolean;
  /** Machines that are not in the farm at the start. */
  spares: number;
  /** Times of changes of the farm, ms from the start. */
  changes: number[];
}

const NAMES = ['clean', 'mild', 'mild', 'lossy', 'brutal', 'faulty', 'crowded'] as const;
const KINDS: readonly PlanKind[] = [
  ...([
    'ordinary',
    'ordinary',
    'ordinary',
    'ordinary',
    'pipelined',
    'pipelined',
    'slow',
    'slow',
    'upload',
    'upload',
    'kept',
    'kept',
  ] as const),
  ...(['malformed', 'missing', 'huge', 'stalled', 'mute', 'resets', 'vanishes'] as const),
];
const FIRST_PORT = 40_000;

function link(random: Random, loss: number, jitter: number): LinkQuality {
  return {
    loss: loss * random.fraction(),
    duplicate: loss * random.fraction(),
    damage: (loss / 4) * random.fraction(),
    delay: random.fraction() * 10,
    jitter: jitter * random.fraction(),
  };
}

function makeResources(random: Random, nodes: number): Resource[] {
  return Array.from({ length: random.between(1, 4) }, (_, i) => {
    const all = random.shuffle(Array.from({ length: nodes }, (_each, node) => node));
    const renamed = [undefined, `/${'moved/'.repeat(20)}${i}/`, `/${i}`, `/s${i}/`][
      (i + nodes) % 4
    ];
    return {
      path: `/r${i}/`,
      holders: all.slice(0, random.between(1, nodes)),
      ...(renamed === undefined ? {} : { renamed }),
    };
  });
}

function makePlan(random: Random, resources: readonly Resource[]): Plan {
  const kind = random.pick(KINDS);
  const single =
    kind === 'upload'
      ? false
      : !['ordinary', 'pipelined', 'slow', 'kept', 'resets', 'vanishes'].includes(kind);
  const folder = kind === 'missing' ? '/nowhere/' : random.pick(resources).path;
  const targets = Array.from({ length: single ? 1 : random.between(1, 4) }, () => {
    const size = random.chance(0.2) ? random.between(20_000, 120_000) : random.between(0, 6_000);
    return `${folder}f${random.between(0, 9)}-${size}`;
  });
  const upload = random.chance(0.3) ? random.between(10_000, 60_000) : random.between(1, 5_000);
  return {
    kind,
    targets,
    asks:
      kind === 'kept'
        ? makeAsks(random, targets.length, false)
        : targets.map(() => askOf(kind, upload)),
    askClose: random.chance(0.5),
    halfCloses: kind === 'kept' && random.chance(0.2),
    breakAfter: random.between(0, 2_000),
    pauseMs: kind === 'slow' ? 60 : random.pick([0, 5, 200, 1_000]),
  };
}

function askOf(kind: PlanKind, upload: number): Ask {
  if (kind === 'upload') return { ...GET, method: 'POST', body: 'length', upload };
  return { ...GET, together: kind === 'pipelined' };
}

function makePlans(random: Random, resources: readonly Resource[], count: number): PlannedClient[] {
  const hosts = random.between(1, 6);
  const plans: PlannedClient[] = [];
  /** Index of the last plan on each port. */
  const latest = new Map<string, number>();
  for (let i = 0; i < count; i++) {
    const host = random.between(0, hosts - 1);
    const plan = makePlan(random, resources);
    const again = random.chance(0.3)
      ? [...latest].find(([key]) => key.startsWith(`${host}/`))
      : undefined;
    const port = again === undefined ? FIRST_PORT + i : Number(again[0].split('/')[1]);
    plans.push({ plan, host, port, startAt: random.between(0, 2_000), after: again?.[1] });
    latest.set(`${host}/${port}`, i);
  }
  return plans;
}

function makeFaults(random: Random, nodes: number): Fault[] {
  return Array.from({ length: random.between(1, 5) }, () => {
    const at = random.between(0, 4_000);
    const kind = random.pick(['down', 'deaf', 'unresolved'] as const);
    return { kind, node: random.between(0, nodes - 1), at, until: at + random.between(200, 8_000) };
  });
}

/** One node in three does not adopt. */
export function kernelOf(random: Random, others: readonly Kernel[]): Kernel {
  return random.chance(1 / 3) ? random.pick(others) : 'adopts';
}

export function makeScenario(random: Random): Scenario {
  const name = random.pick(NAMES);
  const nodes = random.between(1, 4);
  const resources = makeResources(random, nodes);
  const [loss, jitter] = {
    clean: [0, 5],
    mild: [0.04, 20],
    lossy: [0.15, 60],
    brutal: [0.45, 200],
    faulty: [0.05, 20],
    crowded: [0.02, 10],
  }[name] as [number, number];
  const mild = name === 'clean' || name === 'mild';
  const limits: Partial<Limits> =
    name === 'crowded'
      ? {
          sessions: random.between(3, 12),
          halfOpen: random.between(1, 4),
          heads: random.between(1, 4),
        }
      : {};
  const scenario: Scenario = {
    name,
    mild,
    nodes,
    resources,
    predictor: random.pick(['round-robin', 'least-connections'] as const),
    clientLink: link(random, loss, jitter),
    // The farm's network is better than the links to clients. In a mild world it loses nothing,
    // because a balancer rightly gives up a node that two handoffs in a row do not reach. When the
    // network loses much, and all ACKs of a client too, no balancer can know that the node it gave
    // up has already answered: two answers then mix. Such a network is not simulated.
    nodeLink: link(random, mild ? 0 : loss / 9, jitter / 4),
    answerLink: link(random, loss, jitter),
    limits,
    faults: name === 'faulty' || name === 'brutal' ? makeFaults(random, nodes) : [],
    plans: makePlans(random, resources, random.between(3, 20)),
    serviceMs: random.pick([0, 5, 50, 500]),
    attacked: random.chance(0.4),
    migrates: false,
    parks: false,
    keepAliveMs: 20_000,
    deaths: 0,
    kernels: [],
    reports: random.chance(0.5),
    spares: 0,
    changes: [],
  };
  // In a farm that changes, only reports could say what a new node can do.
  if (!random.chance(0.4)) {
    const kernels = Array.from({ length: nodes }, () => kernelOf(random, ['replays']));
    return { ...scenario, kernels };
  }
  const changes = Array.from({ length: random.between(5, 40) }, () => random.between(0, 8_000));
  return { ...scenario, spares: random.between(0, 2), changes };
}
