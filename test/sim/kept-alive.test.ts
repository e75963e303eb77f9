/**
 * Many clients that keep their connections, in worlds that are functions of their seeds: every byte
 * of every answer is right, no session stays, and in a world without faults every counter has a
 * reason.
 *
 * One world again, with every frame: SIM_SEED=17 node dist/test/sim/kept-alive.test.js
 */
import t from 'tap';
import { FILE_TIMEOUT_MS } from '../../lab/patience.js';
import { makeKeptAlive } from './kept-alive.js';
import { World } from './world.js';

const ONE = process.env.SIM_SEED;
const FIRST = Number(ONE ?? process.env.SIM_FIRST ?? 1);
const CONNECTIONS = ONE === undefined ? Number(process.env.SIM_CONNECTIONS ?? 1_000) : 1;
const MAX_SHOWN = 5;
/**
 * What may be counted where nothing is lost and nothing dies. Clients send segments out of order,
 * and segments that begin before the head that is being handed over.
 */
const EXPECTED = new Set([
  ...['frames', 'sent', 'forwarded', 'forwarded_bytes', 'wrapped', 'syn', 'established', 'report'],
  ...['requests', 'handoffs', 'handoff_asked', 'adopted', 'closed_fin', 'closed_idle'],
  ...['moved', 'moves_asked', 'moves_refused', 'drop_out_of_order_full', 'node_asked'],
  ...['drop_out_of_window', 'parked', 'resumed', 'parked_evicted', 'parked_woken'],
  ...['replay_syn', 'replay_fallback', 'handoff_refused'],
]);
/** A million take longer than a file of the suite may. */
const LIMIT_MS = Math.max(FILE_TIMEOUT_MS, CONNECTIONS * 20);
t.setTimeout(LIMIT_MS);

t.test(`${CONNECTIONS} kept-alive connections`, { timeout: LIMIT_MS }, async (t) => {
  let connections = 0;
  let answers = 0;
  let died = 0;
  let moved = 0;
  let replayed = 0;
  let fallbacks = 0;
  let failed = 0;
  const unexplained = new Set<string>();
  for (let seed = FIRST; connections < CONNECTIONS; seed++) {
    const world = new World(seed, undefined, {
      scenario: makeKeptAlive(seed),
      trace: ONE !== undefined,
    });
    const violations = world.run();
    for (const line of world.log) t.comment(line);
    connections += world.connections.length;
    moved += world.counters.get('moved');
    fallbacks += world.counters.get('replay_fallback');
    for (const connection of world.connections) answers += connection.answers;
    for (const node of world.nodes) died += node.counts.died;
    for (const node of world.nodes) replayed += node.counts.replayed;
    if (world.scenario.name === 'kept-clean') {
      for (const [name, value] of Object.entries(world.counters.toObject()))
        if (value > 0 && !EXPECTED.has(name) && !name.startsWith('pinned_')) unexplained.add(name);
    }
    if (violations.length === 0) continue;
    failed++;
    if (failed <= MAX_SHOWN)
      t.fail(`seed ${seed}: run again with SIM_SEED=${seed}`, {
        violations: violations.slice(0, MAX_SHOWN),
      });
  }
  t.equal(failed, 0, 'no world breaks a rule');
  t.same([...unexplained], [], 'every counter of a world without faults has a reason');
  if (CONNECTIONS < 1_000) return;
  t.ok(answers > connections, `${answers} answers`);
  t.ok(moved > 100, `${moved} moves`);
  t.ok(replayed > 100, `${replayed} handshakes were replayed`);
  t.ok(fallbacks > 0, `${fallbacks} listeners that could not adopt`);
  t.ok(died > 0, `nodes died ${died} times`);
});
