/** Starts the parts of a balancer in order. A composition root, like run.ts, which calls it. */
import { LOCAL_ACTOR } from '../api/control.js';
import { ApiCounters } from '../api/counters.js';
import { ControlApi } from '../api/server.js';
import { monotonicClock } from '../base/clock.js';
import { BatonError, reasonOf } from '../base/errors.js';
import type { ProgramLog } from '../base/log.js';
import { allResources } from '../config/data.js';
import type { LoadedFile } from '../config/load.js';
import { formatPlace } from '../config/virtual-server.js';
import { WithheldOptions, withheldMemory } from '../engine/withheld-options.js';
import { formatAddress, ownInUse } from '../wire/address.js';
import { madeUpMac } from '../wire/ethernet.js';
import type { AccessLog } from './access-log/access-log.js';
import { CaptureFeed } from './capture-feed.js';
import type { Ending, EndSteps } from './ending.js';
import { EventSource } from './event-source.js';
import { explainForward } from './forward/explain.js';
import { Forwarder } from './forward/forwarder.js';
import { type EarlierRun, saveTables, takeSaved } from './forward/saved-tables.js';
import { forwardSizes } from './forward/sizes.js';
import { LocalReports } from './local-reports.js';
import { addressesOf } from './machine/change.js';
import { Machine } from './machine/machine.js';
import { NeighbourWatch } from './machine/neighbours.js';
import { NodeWatch } from './node-watch.js';
import { Changes } from './objects/changes.js';
import { ConfigThread } from './objects/config-handle.js';
import { BalancerControl } from './objects/control.js';
import { Explainer, NO_NODE } from './objects/explain.js';
import { firstSlots, type NodeSlot } from './objects/farm.js';
import { FarmChanger } from './objects/farm-changer.js';
import { farmMemory, farmStates, writeFarm } from './objects/farm-states.js';
import { firstFarm } from './objects/first-farm.js';
import { NodeObjects } from './objects/node-objects.js';
import { OperatorFile } from './objects/operator-states.js';
import { ResourceCounts } from './objects/resource-counts.js';
import { accessLogOf, levelOf, MetricsListener, remoteOf } from './settings.js';
import { BalancerStats } from './stats.js';
import { EnginePool } from './threads/engine-pool.js';

/** Interval of the checks for lost frames, ms. */
const LOOK_MS = 5_000;
const ENGINE_PROGRAM = new URL('./threads/engine-thread.js', import.meta.url);

export interface StartOptions {
  /** The config file. */
  loaded: LoadedFile;
  /** 16 bytes. */
  key: Uint8Array;
  log: ProgramLog;
  end: Ending;
  /** Gets the steps that end again what was started. */
  steps: EndSteps;
  accessLog: AccessLog;
  /** How long to wait for another balancer to leave, ms. */
  patience: number;
}

/** The parts that every change of the farm reaches. */
interface FarmParts {
  machine: Machine;
  engine: EnginePool;
  watch: NodeWatch;
  objects: NodeObjects;
  forwarder: Forwarder;
  farm: FarmChanger;
}

/**
 * Starts every part in order.
 * @returns reads the config file again, and logs what has changed or what is wrong
 * @throws BatonError for what keeps it from starting
 */
export async function start(options: StartOptions): Promise<() => void> {
  const { log, steps, loaded } = options;
  const { config } = loaded;
  const machine = await startMachine(options);
  const parts = await startEngines(options, machine);
  const changes = await openDoor(options, parts);

  await machine.takeAddresses();
  changes.start();
  steps.add(() => changes.stop());
  for (const server of config.virtualServers) {
    log.info(`virtual server ${server.name} at ${formatPlace(server)}`);
  }
  log.info('ready', {
    interface: config.interface,
    ...(config.nodeInterface === undefined ? {} : { nodeInterface: config.nodeInterface.name }),
    address: ownInUse(machine.own, addressesOf(machine.slots.nodes)).map(formatAddress).join(', '),
    datapath: machine.datapath,
  });
  return () => {
    changes.change({ kind: 'reload' }, LOCAL_ACTOR).catch((error: unknown) => {
      const lines = error instanceof BatonError ? error.toLine() : reasonOf(error);
      for (const line of lines.split('\n')) log.error(`the config is not reloaded: ${line}`);
    });
  };
}

/** Sets the machine up for the engine. */
async function startMachine(options: StartOptions): Promise<Machine> {
  const { loaded, key, log, end, steps, patience } = options;
  const { config } = loaded;
  const machine = await Machine.prepare({
    ...config,
    farm: firstSlots(config),
    key,
    log,
    patience,
    onLost: end.lost,
  });
  steps.add((manner) => machine[manner]());
  return machine;
}

/** Starts the engine threads, and what watches their nodes. From then on frames are handled. */
async function startEngines(options: StartOptions, machine: Machine): Promise<FarmParts> {
  const { loaded, key, log, end, steps, accessLog } = options;
  const { config } = loaded;
  const { slots } = machine;
  const { nodes } = slots;
  for (const { name, retired } of nodes) {
    if (retired)
      log.info(`node ${name} is no longer in the config: its sessions continue until they end`);
  }
  const { workers } = config;
  const memory = farmMemory(workers);
  const withheld = withheldMemory();
  const states = farmStates(memory, workers);
  const first = firstFarm(config, slots);
  writeFarm(states, first);
  states.onRestrict = () => machine.voidHeads();
  const forwarder = new Forwarder({
    kernel: machine.forwarding,
    sizes: forwardSizes(slots.servers, config.limits.sessions),
    workers,
    key,
    states,
    limits: config.timeouts,
    now: monotonicClock(),
  });
  forwarder.setFarm(first);
  const watch = new NodeWatch({
    farm: first,
    states,
    withheld: new WithheldOptions(withheld),
    log,
    now: monotonicClock(),
    onWithheld: (options) => machine.withhold(options),
    earlier: machine.earlierWithheld(),
  });
  const pool: { engine?: EnginePool } = {};
  // Before the engine threads start: they see the states that operators have set from the first
  // session on.
  const objects = new NodeObjects({
    nodes,
    states: forwarder.including(states),
    finder: watch,
    log,
    now: monotonicClock(),
    kept: new OperatorFile({ ...machine.info, interface: config.interface, log }),
    endSessions: (slot) => pool.engine?.endSessionsOfNode(slot),
  });
  watch.onLook = (slot) => objects.look(slot);
  let neighbours: NeighbourWatch | undefined;
  const engine = await EnginePool.start({
    program: ENGINE_PROGRAM,
    workers,
    complete: (snapshot) => forwarder.withFlows(snapshot),
    given: {
      farm: first,
      limits: config.limits,
      interfaceIndex: machine.info.index,
      mac: machine.info.mac,
      mtu: machine.info.mtu,
      nodeInterface: machine.nodeInterfaceStart(),
      own: machine.own,
      key,
      nodes: memory,
      withheld,
      datapath: machine.engineStart(),
      forward: forwarder.engineStart,
    },
    listener: {
      event: (event) => {
        if (event.event === 'unconfirmed') neighbours?.recheck(event.node);
        else watch.engine(event);
      },
      died: (reason) => end.lost(new BatonError('BATON_SYSTEM', `the engine has ended: ${reason}`)),
    },
  });
  pool.engine = engine;
  steps.add(
    () => engine.stop(),
    () => machine.withdrawEngine(),
  );

  await accessLog.setNames(slots);
  await accessLog.attach(engine);

  neighbours = new NeighbourWatch({
    interface: config.nodeInterface?.name ?? config.interface,
    localMac: madeUpMac(machine.info.mac),
    nodes,
    onChange: (change) => {
      engine.setNeighbour(change.node, change.mac);
      forwarder.setNeighbour(change.node, change.mac);
      machine.setNeighbour(change.node, change.mac);
      watch.neighbour(change);
    },
  });
  const place = { ...machine.info, interface: config.interface };
  const saved = takeSaved(place, log);
  const earlier = [...neighboursOf(nodes, saved), ...machine.earlierNeighbours()];
  for (const { node, mac } of earlier) engine.setNeighbour(node, mac);
  const flows = forwarder.takeOver(earlier, saved.servers);
  if (flows > 0) log.info(`flows taken over from the earlier run: ${flows}`);
  steps.add((manner) => {
    if (manner === 'leave' && machine.forwarding === undefined)
      saveTables(place, forwarder.leave());
  });
  objects.onChange(() => forwarder.keeper.look());
  forwarder.keeper.start();
  steps.add(() => forwarder.keeper.stop());
  steps.add(() => neighbours?.stop());
  const local = new LocalReports({
    states,
    flags: () => machine.localFlags(),
    now: monotonicClock(),
  });
  local.setFarm(slots);
  local.start();
  steps.add(() => local.stop());
  await neighbours.start();
  watch.start();
  steps.add(() => watch.stop());
  await machine.activate();
  engine.activated();
  if (engine.takenOver > 0)
    log.info(`sessions taken over from the earlier run: ${engine.takenOver}`);

  const farm = new FarmChanger(
    {
      machine: {
        prepareChange: async (next) => {
          forwarder.keeper.require(next);
          return await machine.prepareChange(next);
        },
      },
      engine,
      neighbours,
      macOf: (slot) => watch.mac(slot),
      states: forwarder.including(states),
      accessLog,
      followers: [
        (now) => watch.setFarm(now),
        (now) => objects.setFarm(now.nodes),
        (now) => forwarder.setFarm(now),
        (now) => local.setFarm(now),
      ],
      log,
    },
    first,
  );
  return { machine, engine, watch, objects, forwarder, farm };
}

/** The MAC addresses that an earlier run has written, by slot. */
function neighboursOf(
  nodes: readonly NodeSlot[],
  { neighbours }: EarlierRun,
): { node: number; mac: Uint8Array }[] {
  const known = new Map(neighbours.map(({ address, mac }) => [address, mac]));
  return nodes.flatMap(({ slot, address }) => {
    const mac = known.get(address);
    return mac === undefined ? [] : [{ node: slot, mac }];
  });
}

/** Opens the API and the listener for Prometheus. */
async function openDoor(options: StartOptions, parts: FarmParts): Promise<Changes> {
  const { loaded, log, end, steps, accessLog } = options;
  const { config } = loaded;
  const { machine, engine, watch, objects, forwarder, farm } = parts;
  const counters = new ApiCounters();
  const stats = new BalancerStats({
    config,
    slots: () => farm.farm,
    objects,
    engine,
    machine,
    watch,
    accessLog,
    forwarder,
    api: counters,
    log,
  });
  const resources = allResources(loaded.data);
  const resourceCounts = new ResourceCounts(resources, farm.farm.directory.requests);
  const lossCheck = setInterval(() => {
    void stats.look().catch(() => {});
    resourceCounts.look();
  }, LOOK_MS);
  steps.add(() => clearInterval(lossCheck));

  const events = new EventSource({ stats: () => stats.stats() });
  objects.onChange(({ name, ...change }) => events.node({ node: name, ...change }));
  const metrics = new MetricsListener(() => stats.metrics(), log);
  steps.add(() => metrics.stop());
  const configs = new ConfigThread();
  steps.add(() => configs.stop());
  const settings = [levelOf(log), accessLogOf(accessLog, config.accessLog), metrics];
  const changes = new Changes({
    running: loaded,
    configs,
    farm,
    parts: settings,
    log,
    onWork: (working) => engine.setPrompt(working),
    onChange: (report, actor) => {
      resourceCounts.follow(allResources(changes.running.data), farm.farm.directory.requests);
      events.changed(report, actor);
    },
  });
  const node = (slot: number) => objects.document(slot, { active: 0, adopted: 0 });
  const explainer = new Explainer({
    current: () => ({ farm: farm.farm, resources: changes.running.config.resources }),
    engine,
    node,
    forward: (now, asked) =>
      explainForward(forwarder.keeper, now, asked, (slot) => node(slot) ?? NO_NODE),
    headBytes: config.limits.headBytes,
  });
  const capture = new CaptureFeed(engine);
  const control = new BalancerControl({
    stats,
    engine,
    capture,
    farm,
    nodes: objects,
    changes,
    resourceCounts,
    events,
    explainer,
    endServer: (slot) => {
      engine.endSessionsOfServer(slot);
      forwarder.keeper.end(slot);
    },
    leave: end.leave,
  });
  const api = new ControlApi(control, { log, counters });
  const remote = remoteOf(api);
  settings.push(remote);
  await api.start(config.controlSocket);
  steps.add(() => api.stop());
  for (const part of [remote, metrics]) await (await part.prepare(config)).commit();
  return changes;
}
