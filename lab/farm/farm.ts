/**
 * A farm in network namespaces: a client (or several), a balancer, nodes with stock web servers,
 * a switch between them. For end to end tests, the demo and benchmarks. Needs root.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { ControlClient } from '../../src/api/client.js';
import { PATIENCE_MS } from '../patience.js';
import { type WebOptions, WebServer } from '../servers/web.js';
import { Host } from './host.js';
import { cablesOf, offloadAt, type Wired, wire } from './network.js';
import type { Program, RunOptions, RunResult } from './process.js';
import { destroy, type FarmRecord, load, recordOf, save, sweep } from './registry.js';

export { WebServer } from '../servers/web.js';
export { Host } from './host.js';
export { Program } from './process.js';

export const VIRTUAL_ADDRESS = '10.99.0.100';
export const BALANCER_ADDRESS = '10.99.0.2';
/** The same in the network of the nodes, where they have one. */
export const NODE_SIDE_ADDRESS = '10.98.0.2';
/**
 * The datapath that balancers of farms use unless a test says otherwise: end to end tests run on
 * each.
 */
export const DATAPATH = process.env.BATON_DATAPATH ?? 'packet';

export interface FarmOptions {
  /** Prefix of everything's name; default: one of this process. */
  tag?: string;
  /** Default 3. */
  nodes?: number;
  /** Default 1. */
  clients?: number;
  /**
   * As between machines with cards: clients finish their checksums and cut their segments, and the
   * balancer's cable takes what XDP sends, so that XDP runs in its driver. Default: every offload
   * is as a veth has it, as between containers of one host.
   */
  cards?: boolean;
  /** Web servers of the nodes, by index; default nginx on port 80. */
  web?: WebOptions[];
  /** Keys to add to the nodes' configs, by index. */
  agents?: Record<string, unknown>[];
  /** More machines on the same wire, by name, with the last number of their address. */
  others?: Record<string, number>;
  /**
   * The nodes have a network of their own, and the balancer its `nodeInterface` there. Default: one
   * wire for all.
   */
  nodeNetwork?: boolean;
  /** The clients have a network of their own, behind a router. Default: one wire for all. */
  clientNetwork?: boolean;
}

export interface Resource {
  path: string;
  host?: string;
  nodes: string[];
}

/** The repository: the directory with bin/ above this file, wherever it was compiled to. */
export function projectRoot(): string {
  let directory = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(directory, 'bin', 'baton.js'))) {
    const parent = path.dirname(directory);
    if (parent === directory) {
      throw new Error('bin/baton.js is not above this file');
    }
    directory = parent;
  }
  return directory;
}

/** The last number of the router between the networks of clients and nodes. */
const ROUTER = 254;

/** Beside the balancer's config. */
const CONTROL_SOCKET = 'baton.sock';

/** The line by which both programs tell that they work. */
const READY = /\bready\b/;

let farmsOfThisProcess = 0;

export class Farm {
  readonly tag: string;
  readonly directory: string;
  readonly clients: Host[];
  readonly client: Host;
  readonly balancer: Host;
  readonly nodes: Host[];
  /** Every machine of the farm. */
  readonly hosts: Host[];
  readonly webs: WebServer[];
  readonly keyFile: string;
  readonly balancerConfig: string;
  /** The running balancer, and the agents by node index. */
  balancerProgram: Program | undefined;
  readonly agents: (Program | undefined)[] = [];
  private readonly agentKeys: Record<string, unknown>[];
  private readonly nodeNetwork: boolean;
  /** Their ends in the switch's namespace. */
  private readonly balancerCables: readonly string[];
  private readonly record: FarmRecord;
  private programs: Program[] = [];
  private stopped = false;
  private readonly onExit = (): void => this.destroyNow();
  private readonly onSignal = (signal: NodeJS.Signals): void => {
    this.destroyNow();
    process.exit(signal === 'SIGINT' ? 130 : 143);
  };

  private constructor(record: FarmRecord, wired: Wired[], options: FarmOptions) {
    this.record = record;
    this.agentKeys = options.agents ?? [];
    this.nodeNetwork = options.nodeNetwork ?? false;
    this.tag = record.tag;
    this.balancerCables = wired.filter(({ name }) => name === 'balancer').flatMap(cablesOf);
    this.directory = record.directory;
    const started = (program: Program): void => this.remember(program);
    const hosts = wired.map(
      (w) => new Host(w.name, w.namespace, w.address, w.mac, record.directory, started),
    );
    this.hosts = hosts;
    const byName = (pattern: RegExp): Host[] => hosts.filter((host) => pattern.test(host.name));
    this.clients = byName(/^client/);
    this.client = this.clients[0]!;
    this.balancer = byName(/^balancer$/)[0]!;
    this.nodes = byName(/^n\d+$/);
    this.webs = this.nodes.map(
      (host, index) => new WebServer(host, this.directory, options.web?.[index]),
    );
    this.keyFile = path.join(this.directory, 'key.hex');
    this.balancerConfig = path.join(this.directory, 'balancer.yaml');
  }

  /** Makes the network and the key. Web servers and Baton are started by the methods below. */
  static async create(options: FarmOptions = {}): Promise<Farm> {
    if (process.getuid?.() !== 0) {
      throw new Error('a farm in network namespaces needs root');
    }
    sweep();
    const tag = options.tag ?? `baton-${process.pid.toString(36)}${farmsOfThisProcess++}`;
    const existing = load(tag);
    if (existing !== undefined) {
      const how = existing.keep
        ? 'end it with `make demo-stop`'
        : `process ${existing.owner.pid} uses it`;
      throw new Error(`the farm ${tag} is running already: ${how}`);
    }
    const wired = plan(tag, options);
    const record: FarmRecord = {
      tag,
      owner: recordOf(process.pid),
      keep: false,
      directory: path.join('/tmp', tag),
      namespaces: [`${tag}-switch`, ...wired.map((w) => w.namespace)],
      programs: [],
    };
    save(record);
    rmSync(record.directory, { recursive: true, force: true });
    mkdirSync(record.directory, { mode: 0o755 });
    const farm = new Farm(record, wired, options);
    process.once('exit', farm.onExit);
    process.once('SIGINT', farm.onSignal);
    process.once('SIGTERM', farm.onSignal);
    try {
      await wire(`${tag}-switch`, wired);
      if (options.cards === true) {
        await farm.pollBalancer();
        await Promise.all(farm.clients.map((client) => client.setOffloads(false)));
      }
      writeFileSync(farm.keyFile, `${randomBytes(16).toString('hex')}\n`, { mode: 0o600 });
    } catch (error) {
      await farm.stop();
      throw error;
    }
    return farm;
  }

  /** A machine by its name. Throws when there is none. */
  host(name: string): Host {
    const host = this.hosts.find((candidate) => candidate.name === name);
    if (host === undefined) throw new Error(`the farm has no ${name}`);
    return host;
  }

  /**
   * Has the other ends of the balancer's cables poll, as for GRO: only then does a veth take what
   * XDP sends out of its peer, so that a balancer that starts later has XDP in the driver.
   */
  async pollBalancer(): Promise<void> {
    for (const cable of this.balancerCables)
      await offloadAt(`${this.tag}-switch`, cable, 'gro', true);
  }

  /**
   * Whether the switch leaves the checksums of what it sends to a host unfinished, as by default.
   */
  async leaveChecksums(host: Host, on: boolean): Promise<void> {
    await offloadAt(`${this.tag}-switch`, host.name, 'tx', on);
  }

  async startWebs(): Promise<void> {
    await Promise.all(this.webs.map((web) => web.start()));
  }

  /** Writes balancer.yaml: the nodes of this farm, these resources, and whatever else is given. */
  configureBalancer(resources: readonly Resource[], more: Record<string, unknown> = {}): void {
    const config = {
      interface: 'eth0',
      ...(this.nodeNetwork ? { nodeInterface: 'eth1' } : {}),
      datapath: DATAPATH,
      keyFile: 'key.hex',
      controlSocket: CONTROL_SOCKET,
      virtualServers: [
        { name: 'www', address: VIRTUAL_ADDRESS, port: 80, predictor: 'round-robin' },
      ],
      nodes: this.nodes.map((node) => ({ name: node.name, address: node.address })),
      resources,
      ...more,
    };
    writeFileSync(this.balancerConfig, stringify(config));
  }

  /** Writes a node's config and returns its path. */
  configureNode(index: number, more: Record<string, unknown> = {}): string {
    const file = path.join(this.directory, `n${index + 1}.yaml`);
    const config = {
      interface: 'eth0',
      keyFile: 'key.hex',
      virtualAddresses: [VIRTUAL_ADDRESS],
      balancers: [this.nodeNetwork ? NODE_SIDE_ADDRESS : BALANCER_ADDRESS],
      ...this.agentKeys[index],
      ...more,
    };
    writeFileSync(file, stringify(config));
    return file;
  }

  /** Starts an agent and waits until it says that it is ready. */
  async startNode(index: number, more: Record<string, unknown> = {}): Promise<Program> {
    const host = this.nodes[index]!;
    const file = this.configureNode(index, more);
    const program = host.start(`agent-${host.name}`, batonCommand(['node', '-c', file]));
    this.agents[index] = program;
    await this.waitReady(program);
    return program;
  }

  /**
   * Starts the balancer with the config written before, and waits until it says that it is ready.
   * @param args more arguments
   * @param root where its program is installed
   */
  async startBalancer(args: readonly string[] = [], root = projectRoot()): Promise<Program> {
    const command = batonCommand(['balancer', '-c', this.balancerConfig, ...args], root);
    const program = this.balancer.start('balancer', command);
    this.balancerProgram = program;
    await this.waitReady(program);
    return program;
  }

  /**
   * Everything: web servers, agents, balancer; and waits until every node is up in the balancer's
   * eyes.
   */
  async startAll(
    resources: readonly Resource[],
    more: Record<string, unknown> = {},
  ): Promise<void> {
    this.configureBalancer(resources, more);
    await this.startWebs();
    await Promise.all([
      this.startBalancer(),
      ...this.nodes.map((_, index) => this.startNode(index)),
    ]);
    await this.waitNodesUp();
  }

  async waitNodesUp(count = this.nodes.length, timeoutMs = PATIENCE_MS): Promise<void> {
    await this.waitFor(
      async () => {
        const { nodes } = await this.stats();
        return nodes.filter((node) => node.state === 'up').length >= count;
      },
      `${count} nodes up`,
      timeoutMs,
    );
  }

  /** Polls until `test` holds; rejects with `what` when it does not in time. */
  async waitFor(
    test: () => boolean | Promise<boolean>,
    what: string,
    timeoutMs = PATIENCE_MS,
  ): Promise<void> {
    const limit = Date.now() + timeoutMs;
    while (!(await test())) {
      if (Date.now() > limit) {
        throw new Error(
          `not within ${timeoutMs} ms: ${what}\n${this.balancerProgram?.log().slice(-1500) ?? ''}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /**
   * Waits until the balancer has no session but so many; rejects with those that it has when that
   * takes too long.
   */
  async waitEmpty({ but = 0 } = {}): Promise<void> {
    const empty = async (): Promise<boolean> => ((await this.stats()).sessions.total ?? 0) <= but;
    await this.waitFor(empty, `no session left but ${but}`).catch(async (error: Error) => {
      const { stdout } = await this.baton(['sessions', '-c', this.balancerConfig, '--limit', '20']);
      const { losses } = await this.stats();
      throw new Error(`${stdout}\nlost: ${JSON.stringify(losses)}\n${error.message}`);
    });
  }

  /** Runs a baton command on the balancer. */
  baton(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const [command, ...rest] = batonCommand(args);
    return this.balancer.run(command ?? '', rest, options);
  }

  /**
   * What `baton stats --json` prints. Asked by the control socket itself: a command for each look
   * would take a processor for as long as a test waits for something.
   */
  stats(): Promise<Stats> {
    return new ControlClient(path.join(this.directory, CONTROL_SOCKET)).stats();
  }

  /** Ends every program and takes the network down. Never rejects; a second call does nothing. */
  async stop(): Promise<void> {
    if (this.stopped) {
      return;
    }
    await Promise.all(this.programs.map((program) => program.stop(3000)));
    this.destroyNow();
    process.off('exit', this.onExit);
    process.off('SIGINT', this.onSignal);
    process.off('SIGTERM', this.onSignal);
  }

  /** Lets the farm outlive this process. */
  keep(): void {
    this.stopped = true;
    this.record.keep = true;
    save(this.record);
    for (const program of this.programs) {
      program.release();
    }
  }

  private destroyNow(): void {
    if (!this.stopped) {
      this.stopped = true;
      destroy(this.record, 2000);
    }
  }

  private remember(program: Program): void {
    this.programs = [...this.programs.filter((other) => other.running), program];
    this.record.programs = this.programs.map((other) => recordOf(other.pid));
    save(this.record);
  }

  private async waitReady(program: Program): Promise<void> {
    await program.waitForLog(READY);
  }
}

/** Of `baton stats --json`: what tests look at. */
export interface Stats {
  version: string;
  datapath: string;
  counters: Record<string, number>;
  losses?: { counter: string; total: number }[];
  nodes: {
    name: string;
    address: string;
    mac: string | null;
    state: string;
    why?: string;
    active: number;
    adopted: number;
  }[];
  sessions: Record<string, number>;
  notOffered?: string[];
  /** Of each engine thread. */
  stages: { worker: number; frames: number }[];
}

export function batonCommand(args: readonly string[], root = projectRoot()): string[] {
  return [process.execPath, path.join(root, 'bin', 'baton.js'), ...args];
}

/** Takes down a farm that was left running; false when there is none of that name. */
export function stopKept(tag: string): boolean {
  const record = load(tag);
  if (record === undefined) {
    return false;
  }
  destroy(record, 3000);
  return true;
}

function plan(tag: string, options: FarmOptions): Wired[] {
  const wired: Wired[] = [];
  const { nodeNetwork = false, clientNetwork = false } = options;
  if (nodeNetwork && clientNetwork) throw new Error('a farm has two networks at most');
  const mac = (network: number, last: number): string =>
    `02:00:0a:${network.toString(16)}:00:${last.toString(16).padStart(2, '0')}`;
  /** `far`: on the network behind the router; `near`: on the balancer's; `both`: on each. */
  const add = (name: string, last: number, legs: 'near' | 'far' | 'both' = 'near'): void => {
    const network = legs === 'far' ? 98 : 99;
    const routed = legs === 'far' || (legs === 'near' && clientNetwork);
    wired.push({
      name,
      namespace: `${tag}-${name}`,
      address: `10.${network}.0.${last}`,
      mac: mac(network, last),
      bridge: legs === 'far' ? 'br1' : 'br0',
      eth1: legs === 'both' ? { address: `10.98.0.${last}`, mac: mac(98, last) } : undefined,
      gateway: routed ? `10.${network}.0.${ROUTER}` : undefined,
      routes: name === 'router',
    });
  };
  for (let index = 0; index < (options.clients ?? 1); index++) {
    add(index === 0 ? 'client' : `client${index + 1}`, 200 + index, clientNetwork ? 'far' : 'near');
  }
  add('balancer', 2, nodeNetwork ? 'both' : 'near');
  for (let index = 0; index < (options.nodes ?? 3); index++) {
    add(`n${index + 1}`, 3 + index, nodeNetwork ? 'far' : 'near');
  }
  if (nodeNetwork || clientNetwork) add('router', ROUTER, 'both');
  for (const [name, last] of Object.entries(options.others ?? {})) {
    add(name, last);
  }
  return wired;
}
