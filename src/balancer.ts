/** `baton balancer`: puts the balancer together from its config file, and runs it until a signal. */
import { Counters } from './base/counters.js';
import { BatonError } from './base/errors.js';
import { requirePrivileges } from './base/host/privilege.js';
import { ControlApi } from './control/api.js';
import { type BalancerConfig, loadBalancerConfig } from './control/config.js';
import { EngineHandle } from './control/engine-handle.js';
import { readKey } from './control/key.js';
import { createLog, type Log } from './control/log.js';
import { Machine } from './control/machine/machine.js';
import { NeighbourWatch } from './control/machine/neighbours.js';
import { NodeEvents } from './control/node-events.js';
import { BalancerStats } from './control/stats.js';
import { ErrorService } from './local/error-service.js';
import { LEAST_MTU } from './tcp/node-writer.js';
import { parseIpv4 } from './wire/ipv4.js';

/** Signals that end the program in an orderly way. */
const END_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** An IPv4 packet is no longer. */
const MOST_MTU = 65_535;
const ENGINE_PROGRAM = new URL('./engine-thread.js', import.meta.url);

/**
 * Runs the balancer until a signal ends it. Resolves to the exit code.
 * @throws BatonError for whatever keeps it from starting, or from going on; nothing is left set up then.
 */
export async function runBalancer(configFile: string): Promise<number> {
  const config = loadBalancerConfig(configFile);
  requirePrivileges();
  const key = readKey(config.keyFile);
  const log = createLog({ level: config.log.level, program: 'balancer' });
  for (const warning of config.warnings) log.warn(warning);
  const undo: (() => Promise<void> | void)[] = [];
  const end = new Ending();
  try {
    await start(config, key, log, end.lost, undo);
    await end.reached;
  } finally {
    for (const step of undo.reverse()) await step();
    end.forget();
  }
  log.info('stopped');
  return 0;
}

/** Whichever comes first: a signal, or the loss of something that the balancer can not do without. */
class Ending {
  readonly reached: Promise<void>;
  /** Ends the balancer with an error. */
  readonly lost: (error: BatonError) => void;
  private readonly signalled: () => void;

  constructor() {
    let resolve: () => void = () => {};
    let reject: (error: BatonError) => void = () => {};
    this.reached = new Promise<void>((onEnd, onLoss) => {
      resolve = onEnd;
      reject = onLoss;
    });
    // A loss during the start is seen when the start is through.
    this.reached.catch(() => {});
    let asked = 0;
    this.signalled = () => {
      asked += 1;
      // Whoever asks again does not want to wait: the next start cleans up.
      if (asked > 1) process.exit(1);
      resolve();
    };
    this.lost = (error) => reject(error);
    for (const name of END_SIGNALS) process.on(name, this.signalled);
  }

  forget(): void {
    for (const name of END_SIGNALS) process.off(name, this.signalled);
  }
}

/** Starts every part in order; `undo` gets what ends it again. */
async function start(
  config: BalancerConfig,
  key: Uint8Array,
  log: Log,
  onLost: (error: BatonError) => void,
  undo: (() => Promise<void> | void)[],
): Promise<void> {
  const service = new ErrorService();
  const ports = await service.start();
  undo.push(() => service.stop());

  const machine = await Machine.prepare({
    interface: config.interface,
    address: config.address,
    key,
    virtualServers: config.virtualServers,
    services: ports,
    log,
    onLost,
  });
  undo.push(() => machine.stop());

  requireMtu(config.interface, machine.info.mtu);
  const counters = new Counters();
  const events = new NodeEvents(config.nodes, log);
  const engine = await EngineHandle.start(
    ENGINE_PROGRAM,
    {
      config,
      interfaceIndex: machine.info.index,
      address: parseIpv4(machine.address) ?? 0,
      mac: machine.info.mac,
      mtu: machine.info.mtu,
      key,
      filterProgramFd: machine.filterProgramFd,
      counters: counters.memory,
    },
    {
      event: (event) => events.engine(event),
      died: (reason) => onLost(new BatonError('BATON_SYSTEM', `the engine has ended: ${reason}`)),
    },
  );
  undo.push(() => engine.stop());

  const neighbours = new NeighbourWatch({
    interface: config.interface,
    addresses: config.nodes.map((node) => node.address),
    onChange: (change) => {
      engine.setNeighbour(change.node, change.mac);
      events.neighbour(change);
    },
  });
  await neighbours.start();
  undo.push(() => neighbours.stop());

  const api = new ControlApi(new BalancerStats({ config, engine, machine, counters, events }));
  await api.start(config.controlSocket);
  undo.push(() => api.stop());

  await machine.takeAddresses();
  for (const server of config.virtualServers) {
    log.info(`virtual server ${server.name} at ${server.address}:${server.port}`);
  }
  log.info('ready', { interface: config.interface, address: machine.address, datapath: config.datapath });
}

function requireMtu(where: string, mtu: number): void {
  if (mtu >= LEAST_MTU && mtu <= MOST_MTU) return;
  throw new BatonError('BATON_INTERFACE', `its MTU is ${mtu}, expected ${LEAST_MTU} to ${MOST_MTU}`, {
    where,
    hint: `ip link set ${where} mtu 1500`,
  });
}
