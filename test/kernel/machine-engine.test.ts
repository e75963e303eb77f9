/**
 * Machine and engine threads change together, as in a balancer: connections to a virtual server
 * that is removed go on, new ones are refused at once, and added virtual servers answer. The local
 * services answer here, so no node is needed.
 */
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { addressNumber } from '../../lab/packet.js';
import { httpServer, serverSlot } from '../../lab/virtual-server.js';
import { Machine } from '../../src/balancer/machine/machine.js';
import type { FarmSlots, ServerSlot } from '../../src/balancer/objects/farm.js';
import { firstSlots } from '../../src/balancer/objects/farm.js';
import { FarmChanger } from '../../src/balancer/objects/farm-changer.js';
import { farmMemory } from '../../src/balancer/objects/farm-states.js';
import { firstFarm } from '../../src/balancer/objects/first-farm.js';
import { EnginePool } from '../../src/balancer/threads/engine-pool.js';
import {
  type BalancerConfig,
  loadBalancerConfig,
  type VirtualServer,
} from '../../src/config/load.js';
import { directoryImage } from '../../src/directory/directory-image.js';
import { withheldMemory } from '../../src/engine/withheld-options.js';
import { insideNamespace, Peer, run, until } from './namespace.js';
import { snapshot } from './program.js';

const VIRTUAL = '10.99.0.100';
const ADDED = '10.99.0.101';
const ENGINE_PROGRAM = new URL('../../src/balancer/threads/engine-thread.js', import.meta.url);

/**
 * A client that does what the lines of its file say: `connect NAME ADDRESS PORT`, `ask NAME`. It
 * prints `NAME connected`, `NAME STATUS` and `NAME CODE`.
 */
const CLIENT = `
const { readFileSync } = require('node:fs');
const sockets = {};
let done = 0;
setInterval(() => {
  const lines = readFileSync(process.argv[1], 'utf8').split('\\n').slice(0, -1);
  for (const line of lines.slice(done)) {
    const [verb, name, address, port] = line.split(' ');
    if (verb === 'ask') sockets[name].write('GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n');
    else {
      sockets[name] = require('node:net').connect(Number(port), address, () => console.log(name, 'connected'));
      sockets[name].on('error', (error) => console.log(name, error.code));
      sockets[name].on('data', (data) => console.log(name, String(data).split(' ')[1]));
    }
  }
  done = lines.length;
}, 5);
`;

function server(slot: number, address: string, port: number, retired = false): ServerSlot {
  const name = `s${slot}`;
  return serverSlot(slot, httpServer(name, addressNumber(address), port), { retired });
}

if (insideNamespace(import.meta.url)) {
  const peer = await Peer.make('eth0', '10.99.0.3/24', '02:00:00:00:00:03');
  run('ip', 'address', 'add', '10.99.0.2/24', 'dev', 'eth0');
  const directory = mkdtempSync(join(tmpdir(), 'baton-machine-engine-'));
  t.teardown(() => {
    peer.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  const before = snapshot();
  const key = new Uint8Array(16).fill(7);

  /** A balancer without control socket and nodes. */
  async function balancer(datapath: string, workers: number) {
    const file = join(directory, 'balancer.yaml');
    writeFileSync(
      file,
      `interface: eth0
datapath: ${datapath}
workers: ${workers}
keyFile: none.key
limits: {sessions: 4096}
virtualServers: [{name: s0, address: ${VIRTUAL}, port: 80}]
nodes: [{name: n1, address: 10.99.0.66}]
resources: [{path: /content, nodes: [n1]}]
`,
    );
    const config: BalancerConfig = loadBalancerConfig(file);
    const machine = await Machine.prepare({
      ...config,
      farm: firstSlots(config),
      key,
      log: { warn: () => {}, info: () => {} },
      journalDirectory: join(directory, 'run'),
    });
    const first = firstFarm(config, machine.slots);
    const engine = await EnginePool.start({
      program: ENGINE_PROGRAM,
      workers,
      given: {
        farm: first,
        limits: config.limits,
        interfaceIndex: machine.info.index,
        mac: machine.info.mac,
        mtu: machine.info.mtu,
        nodeInterface: undefined,
        own: machine.own,
        key,
        nodes: farmMemory(workers),
        forward: undefined,
        withheld: withheldMemory(),
        datapath: machine.engineStart(),
      },
      listener: { event: () => {}, died: (reason) => t.fail(reason) },
    });
    await machine.activate();
    engine.activated();
    await machine.takeAddresses();
    let { generation } = first;
    let stopped = false;
    const fault = { isNext: false };
    const changer = new FarmChanger(
      {
        machine: {
          prepareChange: async (next) => {
            const prepared = await machine.prepareChange(next);
            const commit = async (): Promise<void> => {
              if (!fault.isNext) return prepared.commit();
              fault.isNext = false;
              await prepared.abandon();
              throw new Error('the machine refuses');
            };
            return { ...prepared, commit };
          },
        },
        engine,
        neighbours: { setNodes: () => {} },
        macOf: () => '',
        states: { held: () => 0 },
        accessLog: { setNames: async () => {} },
        followers: [],
        log: { warn: (line) => t.fail(line) },
      },
      first,
    );
    return {
      machine,
      engine,
      slots: machine.slots,
      /**
       * A config with these virtual servers besides s0. The next change fails with `fault.isNext`.
       */
      apply: (...servers: VirtualServer[]): Promise<void> => {
        const virtualServers = [...config.virtualServers, ...servers];
        return changer.apply({ ...config, virtualServers }, directoryImage(config.resources));
      },
      changer,
      fault,
      change: async (slots: FarmSlots): Promise<void> => {
        const prepared = await machine.prepareChange(slots);
        generation += 1;
        await engine.change({ ...first, ...slots, generation });
        await prepared.commit();
      },
      stop: async (): Promise<void> => {
        if (stopped) return;
        stopped = true;
        machine.withdrawEngine();
        await engine.stop();
        await machine.stop();
      },
    };
  }

  for (const [how, datapath, groState, workers] of [
    ['xdp (native)', 'xdp', 'on', 1],
    ['xdp (generic)', 'auto', 'off', 2],
    ['packet', 'packet', 'on', 2],
  ] as const) {
    t.test(how, async (t) => {
      peer.run('ethtool', '-K', 'eth0', 'gro', groState);
      const { machine, engine, slots, apply, changer, fault, change, stop } = await balancer(
        datapath,
        workers,
      );
      t.equal(machine.datapath, how);
      const file = join(directory, 'client');
      writeFileSync(file, '');
      t.teardown(stop);
      const client = peer.script(CLIENT, file);
      t.teardown(() => client.kill('SIGKILL'));
      let said = '';
      client.stdout?.setEncoding('utf8').on('data', (part: string) => {
        said += part;
      });
      const tell = (line: string): void => appendFileSync(file, `${line}\n`);
      const says = (line: string): Promise<void> =>
        until(`${line} in ${JSON.stringify(said)}`, () => said.includes(`${line}\n`));
      const s0 = slots.servers[0]!;
      const nodes = slots.nodes;

      tell(`connect early ${VIRTUAL} 80`);
      tell(`connect answered ${VIRTUAL} 80`);
      await says('early connected');
      await says('answered connected');
      tell('ask answered');
      await says('answered 404');

      fault.isNext = true;
      await t.rejects(apply(server(1, VIRTUAL, 82)), { message: 'the machine refuses' });
      t.same(changer.farm.servers, [s0], 'the farm of before');
      await apply(server(1, VIRTUAL, 83));
      tell(`connect next ${VIRTUAL} 83`);
      await says('next connected');
      tell('ask next');
      await says('next 404');
      await apply();
      while (!(await changer.collect())) await sleep(50);
      t.same(changer.farm.servers, [s0]);

      await change({ nodes, servers: [s0, server(1, ADDED, 8080), server(2, VIRTUAL, 81)] });
      tell(`connect added ${ADDED} 8080`);
      await says('added connected');
      tell('ask added');
      await says('added 404');

      await change({
        nodes,
        servers: [{ ...s0, retired: true }, server(1, ADDED, 8080, true), server(2, VIRTUAL, 81)],
      });
      tell(`connect late ${VIRTUAL} 80`);
      await says('late ECONNREFUSED');
      tell(`connect later ${ADDED} 8080`);
      await says('later ECONNREFUSED');
      tell('ask early');
      await says('early 404');
      tell(`connect other ${VIRTUAL} 81`);
      await says('other connected');

      await change({
        nodes,
        servers: [s0, server(1, ADDED, 8080, true), server(2, VIRTUAL, 81, true)],
      });
      tell(`connect again ${VIRTUAL} 80`);
      await says('again connected');
      tell('ask again');
      await says('again 404');
      tell('ask other');
      await says('other 404');

      client.kill('SIGKILL');
      let held: readonly number[] = [1, 1, 1];
      const counting = setInterval(() => {
        void engine.snapshot().then((snapshot) => {
          held = snapshot.heldByServer;
        });
      }, 50);
      await until('the end of the sessions', () => held[1] === 0 && held[2] === 0);
      clearInterval(counting);
      await change({ nodes, servers: [s0] });
      t.notMatch(run('ip', '-4', 'address', 'show'), ADDED);
      await stop();
      t.same(snapshot(), before);
      t.notMatch(said, /ECONNRESET|EPIPE|ETIMEDOUT/);
    });
  }
}
