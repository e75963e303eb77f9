/**
 * Worlds of clients that keep their connections, many of them: requests of every kind for content
 * of several nodes, which may die at any step of a handoff or move.
 */
import type { Resource } from './content.js';
import { PERFECT } from './network.js';
import { Random } from './random.js';
import { makeAsks } from './requests.js';
import { kernelOf, type PlannedClient, type Scenario } from './scenario.js';

const CLIENTS = 50;
const HOSTS = 20;
const FIRST_PORT = 40_000;

function makePlan(
  random: Random,
  resources: readonly Resource[],
  migrates: boolean,
): PlannedClient['plan'] {
  const own = random.pick(resources);
  const count = random.between(1, 5);
  const targets = Array.from({ length: count }, () => {
    const { path } = migrates ? random.pick(resources) : own;
    const size = random.chance(0.03) ? random.between(5_000, 40_000) : random.between(0, 1_500);
    return `${path}f${random.between(0, 9)}-${size}`;
  });
  return {
    kind: 'kept',
    targets,
    asks: makeAsks(random, count, true),
    askClose: random.chance(0.7),
    halfCloses: random.chance(0.1),
    breakAfter: 0,
    pauseMs: random.pick([0, 5, 100]),
  };
}

/** The plan of such a world. */
export function makeKeptAlive(seed: number): Scenario {
  const random = new Random(seed);
  const nodes = random.between(2, 4);
  const deaths = random.chance(0.3) ? random.pick([0.002, 0.01]) : 0;
  const migrates = random.chance(0.7);
  // A node whose answer and the client's acknowledgements of it are all lost, and which dies then,
  // has not answered as far as anyone can know (scenario.ts).
  const loss = deaths > 0 ? 0 : random.pick([0, 0, 0.01, 0.05]);
  const impatient = random.chance(0.2);
  const client = {
    loss,
    duplicate: loss,
    damage: loss / 4,
    // Clients are further away than nodes: notices come before acknowledgements of answers.
    delay: 1 + random.fraction() * 5,
    jitter: loss * 200 * random.fraction(),
  };
  const resources = Array.from({ length: random.between(2, 5) }, (_, i) => {
    const all = random.shuffle(Array.from({ length: nodes }, (_each, node) => node));
    return { path: `/r${i}/`, holders: all.slice(0, random.between(1, nodes - 1)) };
  });
  return {
    name: loss === 0 && deaths === 0 && !impatient ? 'kept-clean' : 'kept',
    // A server that closes may do so while a request is on its way.
    mild: deaths === 0 && !impatient,
    nodes,
    resources,
    predictor: random.pick(['round-robin', 'least-connections'] as const),
    clientLink: client,
    // What a node has sent to a balancer that gave it up is the subject of other worlds.
    nodeLink: PERFECT,
    answerLink: client,
    limits: {},
    faults: [],
    plans: Array.from({ length: CLIENTS }, (_, i) => ({
      plan: makePlan(random, resources, migrates),
      host: random.between(0, HOSTS - 1),
      port: FIRST_PORT + i,
      startAt: random.between(50, 1_000),
      after: undefined,
    })),
    serviceMs: random.pick([0, 5, 20]),
    attacked: false,
    migrates,
    parks: random.chance(0.8),
    keepAliveMs: impatient ? random.between(30, 300) : 20_000,
    deaths,
    kernels: Array.from({ length: nodes }, () => kernelOf(random, ['replays', 'refuses'])),
    reports: true,
    spares: 0,
    changes: [],
  };
}
