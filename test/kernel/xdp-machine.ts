/**
 * A balancer on XDP in a network namespace of its own, for tests that start it, end it and look at
 * its state.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { httpServer } from '../../lab/virtual-server.js';
import { detachAll } from '../../src/balancer/machine/detach.js';
import { Machine } from '../../src/balancer/machine/machine.js';
import type { MachineOptions } from '../../src/balancer/machine/options.js';
import { type FarmSlots, firstSlots } from '../../src/balancer/objects/farm.js';
import type { XdpStart } from '../../src/balancer/threads/engine-messages.js';
import type { BalancerConfig } from '../../src/config/load.js';
import { native } from '../../src/host/native.js';
import { hasPins, pinDirectory, pinName } from '../../src/host/pins.js';
import { macOf, Peer, run } from './namespace.js';
import { snapshot } from './program.js';

export const OWN = '10.99.0.2';
export const VIRTUAL = '10.99.0.100';
export const OTHER_VIRTUAL = '10.99.0.101';
export const NODES = ['10.99.0.3', '10.99.0.4'];
export const NODE_MAC = macOf('02:00:00:00:00:04');
/** The next check finds what these tests wait for. */
export const CHECK_MS = 500;

/** The part of a config of which a farm is made. */
export type FarmConfig = Pick<BalancerConfig, 'virtualServers' | 'nodes'>;

/** Makes eth0, and everything that a test needs to start balancers there. */
export async function xdpMachine(t: Test) {
  const peer = await Peer.make('eth0', '10.99.0.3/24', '02:00:00:00:00:03');
  run('ip', 'address', 'add', `${OWN}/24`, 'dev', 'eth0');
  const parent = mkdtempSync(join(tmpdir(), 'baton-machine-xdp-'));
  const directory = join(parent, 'run');
  const name = pinName('eth0');
  const pins = pinDirectory(name);
  t.teardown(() => {
    peer.stop();
    rmSync(parent, { recursive: true, force: true });
  });
  const warnings: string[] = [];
  const infos: string[] = [];
  const config: FarmConfig = {
    virtualServers: [
      httpServer('www', addressNumber(VIRTUAL), 80),
      httpServer('api', addressNumber(OTHER_VIRTUAL), 8080),
    ],
    nodes: NODES.map((address, index) => ({
      name: `n${index + 1}`,
      address: addressNumber(address),
      weight: 1,
    })),
  };
  const options: MachineOptions & FarmConfig = {
    interface: 'eth0',
    nodeInterface: undefined,
    address: undefined,
    key: Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex'),
    ...config,
    farm: firstSlots(config),
    datapath: 'xdp',
    workers: 1,
    limits: { sessions: 1_500, halfOpen: 1_500, headBytes: 16_384 },
    log: { warn: (message) => warnings.push(message), info: (message) => infos.push(message) },
    journalDirectory: directory,
    checkMs: CHECK_MS,
  };
  const before = snapshot();
  const index = (): number => native().interfaceInfo('eth0')?.index ?? 0;
  const attached = (): ReturnType<ReturnType<typeof native>['xdpProgram']> =>
    native().xdpProgram(index());
  const nothingLeft = (t: Test): void => {
    t.same(snapshot(), before);
    t.equal(attached(), undefined);
    t.notOk(hasPins(name));
    if (existsSync(directory)) t.same(readdirSync(directory), []);
  };
  const startOf = (machine: Machine): XdpStart => {
    const start = machine.engineStart();
    if (start.kind !== 'xdp') throw new Error('not XDP');
    return start;
  };
  const detach = (): ReturnType<typeof detachAll> =>
    detachAll({
      ...options,
      warn: (message) => warnings.push(message),
      journalDirectory: directory,
    });
  /** A whole start, except for the engine. */
  const started = async (more: Partial<MachineOptions> = {}): Promise<Machine> => {
    const machine = await Machine.prepare({ ...options, ...more });
    await machine.activate();
    await machine.takeAddresses();
    return machine;
  };
  /**
   * Starts a machine in another process, gives it the farm `next`, and kills that process with
   * SIGKILL.
   */
  const startAndKill = async (
    next: FarmSlots | undefined = undefined,
    more: Partial<MachineOptions> = {},
  ): Promise<void> => {
    const { log: _, key, ...plain } = { ...options, ...more };
    const given = JSON.stringify({ ...plain, key: [...key] });
    const script = `import('${new URL('../../src/balancer/machine/machine.js', import.meta.url)}').then(async (m) => {
      const given = ${given};
      const log = { warn: () => {}, info: () => {} };
      const machine = await m.Machine.prepare({ ...given, key: Uint8Array.from(given.key), log });
      machine.setNeighbour(1, Uint8Array.of(${NODE_MAC.join()}));
      await machine.activate();
      await machine.takeAddresses();
      const next = ${JSON.stringify(next ?? null)};
      if (next !== null) await (await machine.prepareChange(next)).commit();
      console.log('taken');
      setInterval(() => {}, 1000);
    });`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = new Promise((resolve) => child.once('exit', resolve));
    await new Promise((resolve) => child.stdout.once('data', resolve));
    child.kill('SIGKILL');
    await exited;
  };
  const words = (file: string): Uint32Array =>
    new Uint32Array(
      native()
        .openMap({ path: join(pins, file) })
        .memory(),
    );
  return {
    peer,
    options,
    warnings,
    infos,
    pins,
    name,
    directory,
    index,
    attached,
    nothingLeft,
    startOf,
    detach,
    started,
    startAndKill,
    words,
  };
}
