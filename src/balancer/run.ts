/**
 * `baton balancer`: puts the balancer together from its config file, and runs it until a signal.
 */

import { ApiCounters } from '../api/counters.js';
import { checkSecrets } from '../api/remote.js';
import { ControlApi } from '../api/server.js';
import { requireSocketPlace } from '../api/unix-socket.js';
import { monotonicClock } from '../base/clock.js';
import { BatonError, reasonOf } from '../base/errors.js';
import { createLog, type Log } from '../base/log.js';
import { onSignals } from '../base/signals.js';
import { readKey } from '../config/key.js';
import { type BalancerConfig, loadBalancerConfig } from '../config/load.js';
import { WithheldOptions, withheldMemory } from '../engine/withheld-options.js';
import { requireAdoption } from '../host/kernel.js';
import { requirePrivileges } from '../host/privilege.js';
import { formatAddress, formatEndpoint } from '../wire/address.js';
import { AccessLog } from './access-log/access-log.js';
import { CaptureFeed } from './capture-feed.js';
import { Ending, EndSteps, type Manner } from './ending.js';
import { Machine } from './machine/machine.js';
import { NeighbourWatch } from './machine/neighbours.js';
import { preflight } from './machine/preflight.js';
import { MetricsServer } from './metrics/metrics-server.js';
import { NodeWatch } from './node-watch.js';
import { firstSlots } from './objects/farm.js';
import { farmMemory, farmStates, writeFarm } from './objects/farm-states.js';
import { firstFarm } from './objects/first-farm.js';
import { NodeObjects } from './objects/node-objects.js';
import { OperatorFile } from './objects/operator-states.js';
import { askToLeave } from './replacement.js';
import { ErrorService } from './services/error-service.js';
import { BalancerStats } from './stats.js';
import { EnginePool } from './threads/engine-pool.js';

/** How long a balancer that was asked to leave may take, in ms. */
const LEAVE_MS = 10_000;
/** Interval of the checks for lost frames, ms. */
const LOOK_MS = 5_000;
/** Asks for the access log's file to be opened again, as after a rotation. */
const REOPEN_SIGNAL = 'SIGUSR1';
const ENGINE_PROGRAM = new URL('./threads/engine-thread.js', import.meta.url);

/**
 * Runs the balancer until a signal ends it. Resolves to the exit code.
 * @param replace a running balancer is asked to leave, and its sessions are taken over
 * @throws BatonError for what keeps it from starting, or from running on. Nothing is left set up
 *   then, unless the kernel forwards sessions without us.
 */
export async function runBalancer(configFile: string, replace = false): Promise<number> {
  let accessLog: AccessLog | undefined;
  // At once: without a listener, Node.js opens its debugger.
  onSignals([REOPEN_SIGNAL], () => accessLog?.reopen());
  // No change of the config helps with an old kernel.
  requireAdoption();
  const config = loadBalancerConfig(configFile);
  requirePrivileges();
  const key = readKey(config.keyFile);
  const log = createLog({ level: config.log.level, program: 'balancer' });
  for (const warning of config.warnings) log.warn(warning);
  // Before anything is changed, and before a running balancer is asked to leave.
  await requireSocketPlace(config.controlSocket, replace);
  if (config.api !== undefined) checkSecrets(config.api);
  await preflight({ ...config, farm: firstSlots(config), key, log, services: new Map() });
  const sessionLog = new AccessLog({ workers: config.workers, log });
  accessLog = sessionLog;
  const steps = new EndSteps();
  // Taken last: sessions end until the engine has ended.
  steps.add(() => sessionLog.stop());
  const end = new Ending();
  let manner: Manner = 'fail';
  let failed = false;
  try {
    await sessionLog.change(config.accessLog);
    if (replace) await askToLeave(config, log);
    await start(config, key, log, end, steps, sessionLog, replace ? LEAVE_MS : 0);
    manner = await end.reached;
  } finally {
    const failures = await steps.take(manner);
    end.forget();
    for (const failure of failures) {
      log.error(
        `a step of the shutdown failed: ${reasonOf(failure)}; the next start, or --detach-all, cleans up`,
      );
      failed = true;
    }
  }
  if (manner === 'stop') log.info('stopped');
  else {
    log.info(
      `left; the kernel keeps forwarding its sessions, and the next start takes them over; \`baton balancer -c ${configFile} --detach-all\` removes everything`,
    );
  }
  return failed ? 1 : 0;
}

/** Starts every part in order. `steps` gets the steps that end it again. */
async function start(
  config: BalancerConfig,
  key: Uint8Array,
  log: Log,
  end: Ending,
  steps: EndSteps,
  accessLog: AccessLog,
  patience: number,
): Promise<void> {
  const service = new ErrorService();
  const ports = await service.start();
  steps.add(() => service.stop());

  const machine = await Machine.prepare({
    ...config,
    farm: firstSlots(config),
    key,
    log,
    services: ports,
    patience,
    onLost: end.lost,
  });
  steps.add((manner) => machine[manner]());

  const nodeInterface = config.nodeInterface?.name;
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
  const farm = firstFarm(config, slots);
  writeFarm(states, farm);
  const watch = new NodeWatch({
    farm: slots,
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
    states,
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
    given: {
      farm,
      limits: config.limits,
      interfaceIndex: machine.info.index,
      mac: machine.info.mac,
      mtu: machine.info.mtu,
      nodeInterface: machine.nodeInterfaceStart(),
      address: machine.address,
      key,
      nodes: memory,
      withheld,
      datapath: machine.engineStart(),
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
    interface: nodeInterface ?? config.interface,
    nodes,
    onChange: (change) => {
      engine.setNeighbour(change.node, change.mac);
      machine.setNeighbour(change.node, change.mac);
      watch.neighbour(change);
    },
  });
  for (const { node, mac } of machine.earlierNeighbours()) engine.setNeighbour(node, mac);
  steps.add(() => neighbours?.stop());
  await neighbours.start();
  watch.start();
  steps.add(() => watch.stop());
  await machine.activate();
  engine.activated();
  if (engine.takenOver > 0)
    log.info(`sessions taken over from the earlier run: ${engine.takenOver}`);

  const counters = new ApiCounters();
  const stats = new BalancerStats({
    config,
    nodes,
    objects,
    engine,
    machine,
    watch,
    accessLog,
    api: counters,
    log,
  });
  const lossCheck = setInterval(() => void stats.look().catch(() => {}), LOOK_MS);
  steps.add(() => clearInterval(lossCheck));
  const feed = new CaptureFeed(engine);
  const api = new ControlApi(
    {
      stats: () => stats.stats(),
      metrics: () => stats.metrics(),
      sessions: (after, limit) => stats.sessions(after, limit),
      capture: (wish) => feed.open(wish),
      leave: end.leave,
    },
    { log, counters },
  );
  await api.start(config.controlSocket);
  steps.add(() => api.stop());
  if (config.api !== undefined) await (await api.prepareRemote(config.api)).commit();

  if (config.metrics !== undefined) {
    const { listen } = config.metrics;
    const server = await MetricsServer.start(listen, () => stats.metrics());
    steps.add(() => server.stop());
    log.info(`metrics at http://${formatEndpoint(listen)}/metrics`);
  }

  await machine.takeAddresses();
  for (const server of config.virtualServers) {
    log.info(`virtual server ${server.name} at ${formatEndpoint(server)}`);
  }
  log.info('ready', {
    interface: config.interface,
    ...(nodeInterface === undefined ? {} : { nodeInterface }),
    address: formatAddress(machine.address),
    datapath: machine.datapath,
  });
}
