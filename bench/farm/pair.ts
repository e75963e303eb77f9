/**
 * Two machines on one wire, without a switch: a balancer, and a generator that plays all clients
 * and the node. It is for measurements that a farm cannot make: a million sessions, and as many
 * small packets as a machine can forward.
 *
 *     generator .3 eth0 ---- eth0 balancer .2      10.98.0.0/24, virtual address .100
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import path from 'node:path';
import { stringify } from 'yaml';
import { batonCommand } from '../../lab/farm/baton.js';
import { CONTROL_SOCKET, KEY_FILE } from '../../lab/farm/configs.js';
import { Host } from '../../lab/farm/host.js';
import { Lifetime } from '../../lab/farm/lifetime.js';
import { type Program, run } from '../../lab/farm/process.js';
import type { StatsDocument } from '../../src/api/documents.js';
import { attach } from './attach.js';
import { CROWD, type CrowdTask } from './crowd-task.js';

const GENERATOR = { address: '10.98.0.3', mac: '02:00:0a:62:00:03' };
const BALANCER = { address: '10.98.0.2', mac: '02:00:0a:62:00:02' };
const VIRTUAL_ADDRESS = '10.98.0.100';
const PORT = 80;
/** Time for each program to end by itself, in ms. */
const STOP_MS = 10_000;
const NAPI_THREAD = /^napi\/eth0-/;

export class Pair {
  readonly generator: Host;
  readonly balancer: Host;
  readonly directory: string;
  readonly virtualAddress = VIRTUAL_ADDRESS;
  readonly port = PORT;
  /** Sessions were opened: packets must acknowledge what `acknowledgementsFile` says. */
  acknowledges = false;
  /** The balancer, once started. */
  baton: Program | undefined;
  private constructor(
    private readonly lifetime: Lifetime,
    tag: string,
  ) {
    this.directory = lifetime.directory;
    const started = (program: Program): void => lifetime.add(program);
    const host = (name: string, at: { address: string; mac: string }): Host =>
      new Host(name, `${tag}-${name}`, at.address, at.mac, lifetime.directory, started);
    this.generator = host('generator', GENERATOR);
    this.balancer = host('balancer', BALANCER);
  }

  /** @param name of the forwarder; distinguishes the pairs of one process */
  static async create(name: string): Promise<Pair> {
    const tag = `baton-${process.pid.toString(36)}-${name}`;
    const namespaces = ['generator', 'balancer'].map((host) => `${tag}-${host}`);
    const pair = new Pair(Lifetime.begin(tag, namespaces), tag);
    try {
      await pair.wire();
    } catch (error) {
      await pair.stop();
      throw error;
    }
    return pair;
  }

  private async wire(): Promise<void> {
    const [generator, balancer] = [this.generator.namespace, this.balancer.namespace];
    await run('ip', ['netns', 'add', generator]);
    await run('ip', ['netns', 'add', balancer]);
    const [mac, other] = [GENERATOR.mac, BALANCER.mac];
    await run('ip', [
      ...['-n', generator, 'link', 'add', 'eth0', 'address', mac, 'type', 'veth'],
      ...['peer', 'name', 'eth0', 'address', other, 'netns', balancer],
    ]);
    for (const host of [this.generator, this.balancer]) {
      await host.run('sh', ['-c', 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6'], {
        allowFailure: true,
      });
      await host.run('ip', ['link', 'set', 'lo', 'up']);
      await host.run('ip', ['addr', 'add', `${host.address}/24`, 'dev', 'eth0']);
      await host.run('ip', ['link', 'set', 'eth0', 'up']);
    }
    for (const host of [this.generator, this.balancer]) {
      // With GRO a veth polls: it accepts frames of XDP, and a thread can poll it on a CPU of its
      // own (pinForwarder).
      await host.run('ethtool', ['-K', 'eth0', 'gro', 'on']);
    }
    // Without a program here the kernel drops frames that XDP sends back out of the other end.
    await attach(this.generator, { program: 'pass_all' });
  }

  /**
   * Starts a balancer with room for this number of sessions. If it does not start, rejects with the
   * end of its log.
   * @param server further keys of the virtual server
   */
  async startBaton(
    datapath: string,
    sessions: number,
    server: Record<string, unknown> = {},
  ): Promise<void> {
    const file = path.join(this.directory, 'balancer.yaml');
    const config = {
      interface: 'eth0',
      datapath,
      keyFile: KEY_FILE,
      controlSocket: CONTROL_SOCKET,
      virtualServers: [{ name: 'www', address: VIRTUAL_ADDRESS, port: PORT, ...server }],
      nodes: [{ name: 'n1', address: GENERATOR.address }],
      resources: server.mode === 'forward' ? [] : [{ path: '/', nodes: ['n1'] }],
      limits: { sessions: Math.max(sessions, 1024) },
    };
    writeFileSync(file, stringify(config));
    const program = this.balancer.start('balancer', batonCommand(['balancer', '-c', file]));
    await program.waitForLog(/\bready\b/, 20_000);
    this.baton = program;
  }

  /** Opens sessions as a crowd of clients would. Resolves with the elapsed seconds. */
  async open(sessions: number): Promise<number> {
    const task: CrowdTask = {
      sessions,
      own: GENERATOR.address,
      balancer: BALANCER.address,
      balancerMac: BALANCER.mac,
      virtualAddress: VIRTUAL_ADDRESS,
      port: PORT,
      keyFile: path.join(this.directory, KEY_FILE),
      acknowledgementsFile: this.acknowledgementsFile,
    };
    const argv = [process.execPath, CROWD, JSON.stringify(task)];
    const program = this.generator.start('crowd', argv);
    await program.waitForLog(/^opened in [\d.]+ s$/m, 240_000);
    const seconds = Number(/^opened in ([\d.]+) s$/m.exec(program.log())?.[1]);
    const { sessions: counts } = await this.stats();
    this.acknowledges = true;
    if (counts.passing !== sessions) {
      throw new Error(
        `${sessions} sessions were opened, and the balancer has ${JSON.stringify(counts)}`,
      );
    }
    return seconds;
  }

  /** File with the acknowledgement number of each session, in host byte order. */
  get acknowledgementsFile(): string {
    return path.join(this.directory, 'acknowledgements');
  }

  async stats(): Promise<StatsDocument> {
    const file = path.join(this.directory, 'balancer.yaml');
    const [command = '', ...args] = batonCommand(['stats', '-c', file, '--json']);
    const { stdout } = await this.balancer.run(command, args);
    return JSON.parse(stdout) as StatsDocument;
  }

  /**
   * Gives the forwarder a CPU of its own, the last one. A kernel thread there then processes frames
   * that the balancer receives, instead of the generator's CPU.
   */
  async pinForwarder(): Promise<void> {
    const threads = napiThreads();
    await run('ip', [
      ...['netns', 'exec', this.balancer.namespace],
      ...['sh', '-c', 'echo 1 > /sys/class/net/eth0/threaded'],
    ]);
    for (const pid of napiThreads().filter((thread) => !threads.includes(thread))) {
      await run('taskset', ['-p', '-c', String(cpus().length - 1), String(pid)]);
    }
  }

  /** Ends everything. Never rejects. */
  stop(): Promise<void> {
    return this.lifetime.stop(STOP_MS);
  }
}

/** Kernel threads that poll an eth0, by process id. */
function napiThreads(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && existsSync(`/proc/${name}/comm`))
    .filter((name) => {
      try {
        return NAPI_THREAD.test(readFileSync(`/proc/${name}/comm`, 'utf8'));
      } catch {
        return false; // the process has ended
      }
    })
    .map(Number);
}
