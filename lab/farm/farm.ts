/**
 * A farm in network namespaces: clients, a balancer, nodes with stock web servers, a switch between
 * them. lab/README.md has the picture. Needs root.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { ControlClient } from '../../src/api/client.js';
import type { StatsDocument } from '../../src/api/documents.js';
import { PATIENCE_MS } from '../patience.js';
import { type WebOptions, WebServer } from '../servers/web.js';
import { type Layout, planMachines } from './addresses.js';
import { batonCommand, projectRoot } from './baton.js';
import { balancerYaml, CONTROL_SOCKET, KEY_FILE, nodeYaml, type Resource } from './configs.js';
import { Host } from './host.js';
import { Lifetime } from './lifetime.js';
import { cablesOf, loseAt, offloadAt, type Wired, wire } from './network.js';
import { Program, type RunOptions, type RunResult } from './process.js';
import { sweep } from './registry.js';

export interface FarmOptions extends Layout {
  /** Prefix of everything's name; default: a prefix of this process. */
  tag?: string;
  /**
   * Interfaces behave as network cards do: clients finish their checksums and cut their segments,
   * and the balancer's cable takes what XDP sends, so that XDP runs in the driver. Default: every
   * offload is as veth has it, as between containers of one host.
   */
  cards?: boolean;
  /** Web servers of the nodes, by index; default nginx on port 80. */
  web?: WebOptions[];
  /** Keys to add to the nodes' configs, by index. */
  agents?: Record<string, unknown>[];
  /** How the nodes take connections, by index: values of the key `handoff`. */
  handoffs?: string[];
}

/** Both programs log this word when they work. */
const READY = /\bready\b/;
/** Time for each program to end by itself, in ms. */
const STOP_MS = 3000;

let farmsOfThisProcess = 0;

export class Farm {
  readonly tag: string;
  /** Configs, logs and web roots. */
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
  /** The balancer that was started last, and the agents by node index. */
  balancerProgram: Program | undefined;
  readonly agents: (Program | undefined)[] = [];
  private readonly agentKeys: Record<string, unknown>[];
  private readonly handoffs: readonly string[];
  private readonly nodeNetwork: boolean;
  /** Ends of the balancer's cables in the switch's namespace. */
  private readonly balancerCables: readonly string[];

  private constructor(
    tag: string,
    private readonly lifetime: Lifetime,
    wired: readonly Wired[],
    options: FarmOptions,
  ) {
    this.tag = tag;
    this.agentKeys = options.agents ?? [];
    this.handoffs = options.handoffs ?? [];
    this.nodeNetwork = options.nodeNetwork ?? false;
    this.balancerCables = wired.filter(({ name }) => name === 'balancer').flatMap(cablesOf);
    this.directory = lifetime.directory;
    const started = (program: Program): void => lifetime.add(program);
    const hosts = wired.map(
      (w) => new Host(w.name, w.namespace, w.address, w.mac, lifetime.directory, started),
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
    this.keyFile = path.join(this.directory, KEY_FILE);
    this.balancerConfig = path.join(this.directory, 'balancer.yaml');
  }

  /** Makes the network and the key. The methods below start web servers and Baton. */
  static async create(options: FarmOptions = {}): Promise<Farm> {
    if (process.getuid?.() !== 0) {
      throw new Error('a farm in network namespaces needs root');
    }
    sweep();
    const tag = options.tag ?? `baton-${process.pid.toString(36)}${farmsOfThisProcess++}`;
    const wired = planMachines(tag, options);
    const switchNamespace = `${tag}-switch`;
    const namespaces = [switchNamespace, ...wired.map((machine) => machine.namespace)];
    const farm = new Farm(tag, Lifetime.begin(tag, namespaces), wired, options);
    try {
      await wire(switchNamespace, wired);
      if (options.cards === true) {
        await farm.pollBalancer();
        await Promise.all(farm.clients.map((client) => client.setOffloads(false)));
      }
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
   * Turns GRO on at the switch's ends of the balancer's cables, so that they poll. Only then does a
   * veth take what XDP sends out of its peer: a balancer that starts later has XDP in the driver.
   */
  async pollBalancer(): Promise<void> {
    for (const cable of this.balancerCables)
      await offloadAt(`${this.tag}-switch`, cable, 'gro', true);
  }

  /** Has the cable to a host lose 2 % of the frames in both directions, from now on. */
  async loseFramesTo(host: Host): Promise<void> {
    await loseAt(`${this.tag}-switch`, host.name);
  }

  /** Sets whether the switch leaves checksums of frames to a host unfinished, the default. */
  async leaveChecksums(host: Host, on: boolean): Promise<void> {
    await offloadAt(`${this.tag}-switch`, host.name, 'tx', on);
  }

  /** Starts a program in the switch's namespace. It ends with the farm. */
  startAtSwitch(name: string, argv: readonly string[]): Program {
    const inside = ['nsenter', `--net=/run/netns/${this.tag}-switch`, '--', ...argv];
    const program = Program.start(name, inside, path.join(this.directory, `${name}.log`));
    this.lifetime.add(program);
    return program;
  }

  async startWebs(): Promise<void> {
    await Promise.all(this.webs.map((web) => web.start()));
  }

  /** Writes balancer.yaml: the nodes of this farm, these resources, and the given keys. */
  configureBalancer(resources: readonly Resource[], more: Record<string, unknown> = {}): void {
    writeFileSync(
      this.balancerConfig,
      balancerYaml(this.nodes, this.nodeNetwork, resources, this.handoffs, more),
    );
  }

  /** Writes a node's config and returns its path. */
  configureNode(index: number, more: Record<string, unknown> = {}): string {
    const file = path.join(this.directory, `n${index + 1}.yaml`);
    writeFileSync(file, nodeYaml(this.nodeNetwork, { ...this.agentKeys[index], ...more }));
    return file;
  }

  /** Starts an agent and waits until it is ready. */
  async startNode(index: number, more: Record<string, unknown> = {}): Promise<Program> {
    const host = this.nodes[index]!;
    const file = this.configureNode(index, more);
    const program = host.start(`agent-${host.name}`, batonCommand(['node', '-c', file]));
    this.agents[index] = program;
    await program.waitForLog(READY);
    return program;
  }

  /**
   * Starts the balancer with the config written before, and waits until it is ready.
   * @param args more arguments
   * @param root the installation to run
   */
  async startBalancer(args: readonly string[] = [], root = projectRoot()): Promise<Program> {
    const command = batonCommand(['balancer', '-c', this.balancerConfig, ...args], root);
    const program = this.balancer.start('balancer', command);
    this.balancerProgram = program;
    await program.waitForLog(READY);
    return program;
  }

  /** Starts web servers, agents and the balancer, and waits until every node takes handoffs. */
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
        const up = nodes.filter(({ state, condition }) => state === 'up' && condition === 'up');
        return up.length >= count;
      },
      `${count} nodes up`,
      timeoutMs,
    );
  }

  /** Polls until `test` holds. Rejects with `what` when it does not hold in time. */
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

  /** Waits until the balancer has at most `but` sessions. Rejects with the rest after a while. */
  async waitEmpty({ but = 0 } = {}): Promise<void> {
    const empty = async (): Promise<boolean> => (await this.stats()).sessions.total <= but;
    await this.waitFor(empty, `at most ${but} sessions left`).catch(async (error: Error) => {
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
   * What `baton stats --json` prints. It is read from the control socket: a command for each poll
   * would occupy a processor for as long as a test waits.
   */
  stats(): Promise<StatsDocument> {
    return this.control().stats();
  }

  /** The API of the balancer, through its control socket. */
  control(): ControlClient {
    return new ControlClient(path.join(this.directory, CONTROL_SOCKET));
  }

  /** Ends every program and takes the network down. Never rejects; a second call does nothing. */
  stop(): Promise<void> {
    return this.lifetime.stop(STOP_MS);
  }

  /** Lets the farm outlive this process. */
  keep(): void {
    this.lifetime.keep();
  }
}
