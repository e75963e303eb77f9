/**
 * An engine thread: datapath, engine and directory, and nothing else. So neither an API call nor a
 * garbage collection of the main thread delays a packet. A composition root, like balancer/run.ts,
 * which starts it.
 */

import { parentPort, workerData } from 'node:worker_threads';
import { Counters } from '../../base/counters.js';
import { ObjectCounters } from '../../base/object-counters.js';
import { StageClock } from '../../base/stages.js';
import { type PlainError, toPlainError } from '../../base/thread-errors.js';
import { serverAt } from '../../config/virtual-server.js';
import { FrameTap } from '../../datapath/frame-tap.js';
import { MOST_VIRTUAL_SERVERS } from '../../datapath/xdp-layout.js';
import { Admin } from '../../directory/node-memory.js';
import { RequestAnswers } from '../../directory/request-answers.js';
import { RequestDispatcher } from '../../directory/request-dispatcher.js';
import { Engine } from '../../engine/engine.js';
import { HandoffCandidates } from '../../engine/handoff/candidates.js';
import { voidHeads } from '../../engine/moving/judged-heads.js';
import { NodeTable } from '../../engine/node-table.js';
import { joinObservers } from '../../engine/observers.js';
import type { EngineOptions } from '../../engine/options.js';
import { WithheldOptions } from '../../engine/withheld-options.js';
import { native } from '../../host/native.js';
import { UNSPECIFIED } from '../../wire/address.js';
import { Aliases } from '../../wire/alias.js';
import { AccessRecorder } from '../access-log/recorder.js';
import { farmStates } from '../objects/farm-states.js';
import { openDatapath } from './engine-datapath.js';
import type { EngineStart, FromEngine, ToEngine } from './engine-messages.js';
import { explainPick } from './explain-pick.js';
import { NodeEvents } from './node-events.js';
import { PollLoop } from './poll-loop.js';
import { sessionPage } from './session-page.js';
import { snapshotOf } from './snapshots.js';
import { routesOf, ThreadFarm } from './thread-farm.js';

/** Of a prompt thread: nice(2), and its slice in ns, the shortest that Linux allows. */
const PROMPT_NICE = -10;
const PROMPT_SLICE = 100_000;

function start(given: EngineStart, port: NonNullable<typeof parentPort>): void {
  const { farm, limits } = given;
  // The more frames are waiting when the thread gets its turn, the less each of them costs.
  native().scheduleInBatches();
  const tell = (message: FromEngine): void => port.postMessage(message);
  const { worker, workers } = given;
  const states = farmStates(given.nodes, workers, worker);
  const aliases = new Aliases(given.key);
  const withheld = new WithheldOptions(given.withheld);
  const nodes = new NodeTable(farm.nodes, states, withheld, (address) => aliases.of(address));
  const dispatcher = new RequestDispatcher({
    ...routesOf(farm),
    candidates: new HandoffCandidates(nodes),
    headBytes: limits.headBytes,
  });
  const stages = new StageClock(given.stages);
  const opened = openDatapath(given, stages);
  const { datapath, now } = opened;
  const { heads } = opened.options;
  if (heads !== undefined) states.onRestrict = () => voidHeads(heads.generation);
  const nodeEvents = new NodeEvents((event) => tell({ kind: 'event', ...event }));
  const engine = new Engine(
    {
      now: now(),
      address: given.own.ipv4 ?? UNSPECIFIED,
      address6: given.own.ipv6,
      mac: given.mac,
      nodeMac: given.nodeInterface?.mac,
      mtu: Math.min(given.mtu, given.nodeInterface?.mtu ?? given.mtu),
      key: given.key,
      secret: given.datapath.secret,
      seeds: given.datapath.seeds,
      shard: { worker, workers },
      ...opened.options,
      virtualServers: farm.servers.map(serverAt),
      answers: new RequestAnswers(Date.now),
      objects: new ObjectCounters(states.count, MOST_VIRTUAL_SERVERS, given.objects),
      forward: forwardOf(given),
      timeouts: farm.timeouts,
      observer: nodeEvents,
    },
    nodes,
    dispatcher,
    datapath,
    new Counters(given.counters),
  );
  const current = new ThreadFarm({ engine, dispatcher, events: nodeEvents }, farm);
  engine.begin(now());
  const takenOver = opened.attach(engine);
  for (let node = 0; node < states.count; node++) {
    if (states.admin(node) === Admin.maintenance) engine.sweep.endNode(node);
  }

  const loop = new PollLoop(
    () => datapath.poll(engine, now) || engine.sweep.underway,
    () => stages.publish(),
    opened.takesAtOnce,
  );
  datapath.start(loop.run);

  port.on('message', (message: ToEngine) => {
    switch (message.kind) {
      case 'neighbour':
        nodes.setMac(message.node, message.mac ?? undefined, now());
        return;
      case 'sessions': {
        const clock = now() >>> 0;
        const page = sessionPage(engine, current.names, message.after, message.limit, clock);
        tell({ kind: 'sessions', id: message.id, page });
        return;
      }
      case 'snapshot':
        engine.settle();
        tell({ kind: 'snapshot', id: message.id, snapshot: snapshotOf(engine, nodes, datapath) });
        return;
      case 'explain': {
        const { id, question } = message;
        const knows = question.generation === current.generation;
        const answer = knows ? explainPick(dispatcher, nodes, question, now()) : undefined;
        tell({ kind: 'explained', id, answer });
        return;
      }
      case 'tap': {
        const { tap } = message;
        datapath.setTap(tap === undefined ? undefined : new FrameTap(tap.memory, tap.wish));
        tell({ kind: 'tapped', id: message.id });
        return;
      }
      case 'accessLog': {
        const { ring } = message;
        engine.setObserver(
          ring === undefined
            ? nodeEvents
            : joinObservers([nodeEvents, new AccessRecorder(ring, engine.sessions)]),
        );
        tell({ kind: 'accessLogSet', id: message.id });
        return;
      }
      case 'prepare':
        tell({
          kind: 'prepared',
          id: message.id,
          fault: faultOf(() => current.prepare(message.farm)),
        });
        return;
      case 'commit':
        current.commit();
        tell({ kind: 'committed', id: message.id });
        return;
      case 'discard':
        current.discard();
        tell({ kind: 'discarded', id: message.id });
        return;
      case 'prompt':
        if (message.prompt) native().beginPrompt(PROMPT_NICE, PROMPT_SLICE);
        else native().endPrompt();
        return;
      case 'end-node':
        engine.sweep.endNode(message.node);
        return;
      case 'end-server':
        engine.sweep.endServer(message.server);
        return;
      case 'activated':
        opened.activated();
        loop.begin();
        return;
      case 'stop':
        loop.stop();
        opened.close();
        port.close();
    }
  });
  tell({ kind: 'ready', takenOver });
}

/** What this thread needs to forward packets of virtual servers with mode forward. */
function forwardOf({ forward, worker }: EngineStart): EngineOptions['forward'] {
  const counts = forward?.counts[worker];
  if (forward === undefined || counts === undefined) return undefined;
  return { memory: forward.memory, counts };
}

/** Why `action` cannot be done; undefined: it is done. */
function faultOf(action: () => void): PlainError | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    return toPlainError(error);
  }
}

if (parentPort !== null) start(workerData as EngineStart, parentPort);
