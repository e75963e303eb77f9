/** One engine thread of workers.ts. It does its share of a round for each message. */
import { parentPort, workerData } from 'node:worker_threads';
import { NODES, Run, timed, wholeBatches } from './run.js';
import { meet, type Round, type ThreadStart } from './workers.js';

function start(given: ThreadStart, port: NonNullable<typeof parentPort>): void {
  const { worker, workers, connections, nodes } = given;
  const barrier = new Int32Array(given.barrier);
  const run = new Run(connections, { memory: nodes, nodes: NODES, worker, workers, servers: 1 });
  const packets = wholeBatches(given.packets / workers);
  port.on('message', () => {
    const { syn, ack, request } = run.layOutClients();
    const before = run.counters.get('handoffs');
    meet(barrier, workers);
    const handoffs = timed(() => run.feed(syn, ack, request));
    if (run.counters.get('handoffs') - before !== run.clients.length)
      throw new Error('a session was not handed over');
    run.feed(run.layOutAdopted());
    meet(barrier, workers);
    const passed = timed(() => run.pass(ack, packets));
    run.finish();
    port.postMessage({ handoffs, packets: passed } satisfies Round);
  });
}

if (parentPort !== null) start(workerData as ThreadStart, parentPort);
