/**
 * The engine's thread: datapath, engine and directory, and nothing else, so that neither an API
 * call nor a garbage collection of the control side delays a packet. A composition root, like
 * balancer.ts, which starts it.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { Counters } from '../../base/counters.js';
import { StageClock } from '../../base/stages.js';
import { FrameTap } from '../../datapath/frame-tap.js';
import { Directory } from '../../directory/directory.js';
import { NodeTable } from '../../directory/node-states.js';
import { RequestDispatcher } from '../../directory/request-dispatcher.js';
import { Engine } from '../../engine/engine.js';
import type { Observer } from '../../engine/options.js';
import { native } from '../../host/native.js';
import { parseIpv4 } from '../../wire/ipv4.js';
import { type EngineDatapath, openDatapath } from './engine-datapath.js';
import type {
  EngineEvent,
  EngineSnapshot,
  EngineStart,
  FromEngine,
  ToEngine,
} from './engine-messages.js';
import { sessionPage } from './session-page.js';

/** Timers are looked at this often when no packets come, in ms: the timer wheel's tick. */
const TICK_MS = 8;
/** Events of one kind about one node are told at most this often, in ms. */
const EVENT_INTERVAL_MS = 1_000;
/** The same of doubts where a node is: the link can be asked in no time. */
const DOUBT_INTERVAL_MS = 250;
/** The same for complaints that a stranger can cause. */
const COMPLAINT_INTERVAL_MS = 60_000;

function start(given: EngineStart, port: NonNullable<typeof parentPort>): void {
  const { config } = given;
  // The more frames are there when the thread gets its turn, the less each of them costs.
  native().scheduleInBatches();
  const tell = (message: FromEngine): void => port.postMessage(message);
  const addresses = config.nodes.map((node) => ({
    address: parseIpv4(node.address) ?? 0,
    weight: node.weight,
  }));
  const { worker, workers } = given;
  const nodes = new NodeTable(addresses, {
    memory: given.nodes,
    worker,
    workers,
    servers: config.virtualServers.length,
  });
  const dispatcher = new RequestDispatcher({
    directory: new Directory(config.resources),
    predictors: config.virtualServers.map((server) => server.predictor),
    nodes,
    headBytes: config.limits.headBytes,
  });
  const stages = new StageClock(given.stages);
  const opened = openDatapath(given, stages);
  const { datapath, now } = opened;
  const engine = new Engine(
    {
      now: now(),
      address: given.address,
      mac: given.mac,
      nodeMac: given.nodeInterface?.mac,
      mtu: Math.min(given.mtu, given.nodeInterface?.mtu ?? given.mtu),
      key: given.key,
      secret: given.datapath.secret,
      seeds: given.datapath.seeds,
      shard: { worker, workers },
      ...opened.options,
      virtualServers: config.virtualServers.map((server) => ({
        address: parseIpv4(server.address) ?? 0,
        port: server.port,
      })),
      timeouts: config.timeouts,
      observer: nodeEvents(tell),
    },
    nodes,
    dispatcher,
    datapath,
    new Counters(given.counters),
  );
  engine.begin(now());
  const takenOver = opened.join(engine);
  const names = {
    virtualServers: config.virtualServers.map((server) => server.name),
    nodes: config.nodes.map((node) => node.name),
  };

  let again = false;
  let taking = opened.takesAtOnce;
  const pump = (): void => {
    if (!taking) return;
    // More may be waiting: messages and timers get their turn first.
    if (!datapath.poll(engine, now) || again) return;
    again = true;
    setImmediate(() => {
      again = false;
      pump();
    });
  };
  const ticker = setInterval(() => {
    pump();
    stages.publish();
  }, TICK_MS);
  opened.start(pump);

  port.on('message', (message: ToEngine) => {
    switch (message.kind) {
      case 'neighbour':
        nodes.setMac(message.node, message.mac ?? undefined, now());
        return;
      case 'sessions': {
        const clock = now() >>> 0;
        const page = sessionPage(engine.sessions, names, message.after, message.limit, clock);
        tell({ kind: 'sessions', id: message.id, page });
        return;
      }
      case 'snapshot': {
        const snapshot = snapshotOf(engine, nodes);
        tell({
          kind: 'snapshot',
          id: message.id,
          snapshot: { ...snapshot, ring: ringTotals(datapath) },
        });
        return;
      }
      case 'tap': {
        const { tap } = message;
        opened.setTap(tap === undefined ? undefined : new FrameTap(tap.memory, tap.wish));
        tell({ kind: 'tapped', id: message.id });
        return;
      }
      case 'activated':
        opened.activated(engine);
        taking = true;
        pump();
        return;
      case 'stop':
        clearInterval(ticker);
        opened.close();
        port.close();
    }
  });
  tell({ kind: 'ready', takenOver });
}

/** In the order of RING_NAMES. */
function ringTotals(datapath: EngineDatapath['datapath']): number[] {
  const { transmitRingFull, transmitTooLong, forwardTruncated } = datapath;
  return [...datapath.stats(), transmitRingFull, transmitTooLong, forwardTruncated];
}

/**
 * Tells the main thread what an operator should know of nodes, not more than once a second each.
 */
function nodeEvents(tell: (message: FromEngine) => void): Observer {
  const last = new Map<string, number>();
  const rarely = (
    key: string,
    now: number,
    event: EngineEvent,
    interval = EVENT_INTERVAL_MS,
  ): void => {
    if (now - (last.get(key) ?? Number.NEGATIVE_INFINITY) < interval) return;
    last.set(key, now);
    tell({ kind: 'event', ...event });
  };
  const lastFlags = new Map<number, number>();
  return {
    badKey: (node, now) =>
      rarely(`key ${node}`, now, { event: 'changed', node }, COMPLAINT_INTERVAL_MS),
    unconfirmed: (_slot, node, now) =>
      rarely(`unconfirmed ${node}`, now, { event: 'unconfirmed', node }, DOUBT_INTERVAL_MS),
    refused: (_slot, node, reason, now) =>
      rarely(`refused ${node} ${reason}`, now, { event: 'refused', node, reason }),
    released: (_slot, node, now) => rarely(`released ${node}`, now, { event: 'changed', node }),
    silent: (_slot, node, now) => rarely(`silent ${node}`, now, { event: 'silent', node }),
    reported: (node, flags) => {
      if (lastFlags.get(node) === flags) return;
      lastFlags.set(node, flags);
      tell({ kind: 'event', event: 'changed', node });
    },
  };
}

function snapshotOf(engine: Engine, nodes: NodeTable): Omit<EngineSnapshot, 'ring'> {
  return {
    nodes: Array.from({ length: nodes.count }, (_, node) => ({
      active: nodes.active[node] ?? 0,
      adopted: nodes.adopted[node] ?? 0,
    })),
    inState: [...engine.sessions.inState],
    perServer: [...engine.sessions.ofServer],
  };
}

if (parentPort !== null) start(workerData as EngineStart, parentPort);
