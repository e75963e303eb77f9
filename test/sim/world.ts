/**
 * One simulated farm: clients, the real engine with the real dispatcher, nodes, and a network whose
 * faults come from the seed. `run` goes on until every session has ended, and returns the
 * violations.
 */

import { addressNumber, macBytes } from '../../lab/packet.js';
import { Counters } from '../../src/base/counters.js';
import { FrameFlags } from '../../src/datapath/datapath.js';
import { Way } from '../../src/directory/node-memory.js';
import { ownStates } from '../../src/directory/node-states.js';
import type { RequestDispatcher } from '../../src/directory/request-dispatcher.js';
import type { Engine } from '../../src/engine/engine.js';
import { inSlots } from '../../src/engine/farm.js';
import { NodeTable } from '../../src/engine/node-table.js';
import type { CloseReason, Observer } from '../../src/engine/options.js';
import { MemoryDatapath, type SentFrame } from '../support/memory.js';
import { describe, type ParsedPacket } from '../support/packet-parse.js';
import { UPTIMES } from '../support/uptime.js';
import { Attacker } from './attacker.js';
import {
  BALANCER_ADDRESS,
  BALANCER_MAC,
  MTU,
  makeEngine,
  TIMEOUTS,
  VIRTUAL_ADDRESS,
  VIRTUAL_PORT,
} from './balancer.js';
import { Changes, NODE_SLOTS, SERVER_SLOTS } from './changes.js';
import { Checker } from './checker.js';
import type { ClientConnection } from './client.js';
import { Clock } from './clock.js';
import type { Resource } from './content.js';
import { finished } from './frames.js';
import { type LinkQuality, Network } from './network.js';
import { SimNode } from './node.js';
import { parsed } from './parsed.js';
import { Population } from './population.js';
import { Random } from './random.js';
import { makeScenario, type Scenario } from './scenario.js';

const TICK_MS = 10;
const LIMIT_MS = 600_000;
const MAX_VIOLATIONS = 20;

/** Lets a test put a fault between the engine and the wire. */
export type Sabotage = (sent: SentFrame, world: World) => SentFrame | undefined;

export class World {
  readonly violations: string[] = [];
  readonly random: Random;
  readonly clock: Clock;
  readonly scenario: Scenario;
  readonly nodes: SimNode[] = [];
  readonly counters = new Counters();
  readonly nodeTable: NodeTable;
  readonly key: Uint8Array;
  readonly virtualAddress = VIRTUAL_ADDRESS;
  readonly virtualPort = VIRTUAL_PORT;
  readonly balancerAddress = BALANCER_ADDRESS;
  readonly balancerMac = BALANCER_MAC;
  readonly mtu = MTU;
  readonly checker: Checker;
  readonly engine: Engine;
  readonly network: Network;
  readonly closed = new Map<CloseReason, number>();
  /** Undefined: the farm stays as it is. */
  readonly changes: Changes | undefined;
  private readonly datapath = new MemoryDatapath();
  private readonly population: Population;
  private readonly open = new Set<number>();
  private inbox: { frame: Uint8Array; flags: number }[] = [];
  private pollDue = false;
  private unfinishedClients: number;
  private readonly trace: string[] | undefined;

  constructor(
    readonly seed: number,
    private readonly sabotage?: Sabotage,
    options: { trace?: boolean; scenario?: Partial<Scenario> } = {},
  ) {
    this.random = new Random(seed);
    this.trace = options.trace ? [] : undefined;
    // The clock may start anywhere: near a wrap of 32 bits, and beyond.
    this.clock = new Clock(
      this.random.pick([...Object.values(UPTIMES), 1_763_665_000_000, this.random.bits()]),
    );
    this.scenario = { ...makeScenario(this.random.fork()), ...options.scenario };
    this.key = Uint8Array.from({ length: 16 }, () => this.random.bits() & 255);
    this.network = new Network(this.clock, this.random.fork());
    this.checker = new Checker(this);
    const nodes = Array.from({ length: this.scenario.nodes }, (_, i) => ({
      address: addressNumber(nodeAddress(i)),
      weight: 1 + (i % 3),
    }));
    // A farm that changes has free slots.
    const changing = this.scenario.changes.length > 0;
    const free = Array<{ weight: number }>(changing ? NODE_SLOTS - nodes.length : 0);
    const states = ownStates([...nodes, ...free.fill({ weight: 0 })], changing ? SERVER_SLOTS : 1);
    this.nodeTable = new NodeTable(inSlots(nodes), states);
    for (let i = 0; i < this.scenario.nodes + this.scenario.spares; i++) {
      this.nodes.push(this.makeNode(i, `node${'x'.repeat(i)}${i}`, nodeMac(i), nodeAddress(i)));
    }
    for (let i = 0; i < this.scenario.nodes; i++) {
      this.nodeTable.setMac(i, macBytes(nodeMac(i)));
      // Where reports may be late or never come, the config says it.
      const knows = this.scenario.migrates && this.scenario.reports;
      if (this.scenario.kernels[i] === 'replays' && !knows) states.setWay(i, Way.replay);
    }
    const made = makeEngine(
      { now: this.clock.now, key: this.key, observer: this.observer() },
      this.scenario,
      this.nodeTable,
      this.random,
      this.datapath,
      this.counters,
    );
    this.engine = made.engine;
    if (changing) this.changes = this.scheduleChanges(made.dispatcher);
    this.scheduleFaults();
    this.unfinishedClients = this.scenario.plans.length;
    this.population = new Population(this, this.scenario.clientLink, this.random.fork());
    this.population.schedule(this.scenario.plans);
    if (this.scenario.attacked) new Attacker(this, this.random.fork()).start();
    // Whether a session can leave a node is known from its first report.
    if (this.scenario.migrates || this.scenario.kernels.includes('refuses')) this.report();
    if (this.scenario.reports) this.reportLater();
    this.tickLater();
  }

  get resources(): readonly Resource[] {
    return this.scenario.resources;
  }

  get mild(): boolean {
    return this.scenario.mild;
  }

  get migrates(): boolean {
    return this.scenario.migrates;
  }

  get parks(): boolean {
    return this.scenario.parks;
  }

  get connections(): readonly ClientConnection[] {
    return this.population.connections;
  }

  get trusting(): boolean {
    return !this.scenario.attacked;
  }

  nodeName(index: number): string {
    return this.nodes[index]!.options.name;
  }

  nodeByMac(mac: string): { name: string; address: string } | undefined {
    const node = this.nodes.find((each) => each.options.mac === mac);
    return node === undefined
      ? undefined
      : { name: node.options.name, address: node.options.address };
  }

  clientMac(address: string): string {
    return this.population.macOf(address);
  }

  connection(tuple: string, isn: number): ClientConnection | undefined {
    return this.population.connection(tuple, isn);
  }

  violation(message: string): void {
    if (this.violations.length < MAX_VIOLATIONS) {
      this.violations.push(`at ${this.at()}: ${message}`);
      this.trace?.push(`${this.at()} !!! ${message}`);
    }
  }

  /** Runs the world until every session has ended. Returns the violations. */
  run(): string[] {
    const limit = this.clock.now + LIMIT_MS;
    try {
      while (this.clock.next() !== undefined && this.clock.now < limit && !this.settled())
        this.clock.step();
    } catch (error) {
      this.violation(
        `exception: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
      );
    }
    if (!this.settled()) this.violation(`not settled after ${LIMIT_MS} ms: ${this.leftovers()}`);
    const { states } = this.nodeTable;
    for (let i = 0; i < this.nodeTable.count; i++) {
      if (states.active[i] !== 0 || states.held(i) !== 0)
        this.violation(`slot ${i} still counts ${states.active[i]}, ${states.held(i)} sessions`);
    }
    const { ofServer, heldByServer } = this.engine.sessions;
    if ([...ofServer, ...heldByServer].some((count) => count !== 0))
      this.violation('a virtual server still counts sessions');
    return this.violations;
  }

  /** All frames in order; empty without the option `trace`. */
  get log(): readonly string[] {
    return this.trace ?? [];
  }

  /** A frame arrives at the balancer's interface. */
  toEngine(frame: Uint8Array, flags: number): void {
    this.inbox.push({ frame, flags });
    if (this.pollDue) return;
    this.pollDue = true;
    this.clock.after(this.random.fraction(), () => {
      this.pollDue = false;
      const batch = this.inbox;
      this.inbox = [];
      for (const each of batch) {
        this.checker.onReceived(each.frame, each.flags);
        const offset = this.datapath.place(each.frame, each.flags);
        this.engine.receive(offset, each.frame.length, each.flags, this.clock.now);
        this.drain();
      }
      this.engine.tick(this.clock.now);
      this.drain();
      this.datapath.flush();
    });
  }

  /** Sends a frame over a link of this world. */
  carry(frame: Uint8Array, link: LinkQuality, arrive: (frame: Uint8Array) => void): void {
    this.network.carry(frame, link, arrive);
  }

  // --- called by nodes

  built(node: SimNode, packet: ParsedPacket): void {
    this.checker.onSocket(node.options.name, packet);
  }

  dies(node: SimNode): boolean {
    const { deaths } = this.scenario;
    if (deaths === 0 || !this.random.chance(deaths)) return false;
    const delay = this.random.pick([0, 0, 1, 30, 300]);
    const die = (): void => {
      if (node.down) return;
      node.counts.died++;
      this.trace?.push(`${this.at()} ${node.options.name} dies`);
      node.stop();
      this.clock.after(this.random.between(200, 6_000), () => {
        node.down = false;
      });
    };
    if (delay > 0) this.clock.after(delay, die);
    else die();
    return delay === 0;
  }

  transmit(node: SimNode, frame: Uint8Array): void {
    const packet = parsed(frame);
    this.note(node.options.name, frame);
    const { destination } = packet.ethernet;
    if (destination === BALANCER_MAC) {
      this.carry(frame, this.scenario.nodeLink, (arriving) => this.toEngine(arriving, 0));
      return;
    }
    const client = packet.ip?.destination ?? '';
    this.carry(frame, this.scenario.answerLink, (arriving) =>
      this.population.receive(client, arriving),
    );
  }

  // --- called by clients

  finished(connection: ClientConnection): void {
    this.unfinishedClients--;
    this.trace?.push(
      `${this.at()} ${connection.label}: ${connection.outcome}, ${connection.story}`,
    );
    const good = connection.outcome === 'answered' || connection.outcome === 'gone';
    const slowness = connection.plan.kind === 'slow' && connection.outcome === 'refused';
    if (this.mild && !good && !slowness)
      this.violation(`${connection.label}: ${connection.outcome}, ${connection.story}`);
  }

  private at(): string {
    return `${(this.clock.now % 100_000_000).toFixed(1)} ms`;
  }

  /** Adds a frame that leaves `from` to the trace. */
  note(from: string, frame: Uint8Array): void {
    if (this.trace === undefined) return;
    this.trace.push(`${this.at()} ${from.padEnd(9)} ${describe(parsed(frame, this.key))}`);
  }

  private makeNode(index: number, name: string, mac: string, address: string): SimNode {
    const server = {
      clock: this.clock,
      node: index,
      name,
      resources: this.scenario.resources,
      serviceMs: this.scenario.serviceMs,
      keepAliveMs: this.scenario.keepAliveMs,
      violation: (message: string) => this.violation(message),
      mayAsk: (tuple: string, client: string, target: string) =>
        this.population.mayAsk(tuple, target, client),
    };
    const kernel = this.scenario.kernels[index] ?? 'adopts';
    return new SimNode({ index, name, mac, address, server, kernel }, this, this.random.fork());
  }

  /** Checks that each session is opened and closed once. */
  private observer(): Observer {
    return {
      handoff: (slot, node) => this.changes?.onHandoff(slot, node),
      opened: (slot) => {
        if (this.open.has(slot)) this.violation(`session ${slot} opened twice`);
        this.open.add(slot);
      },
      closed: (slot, reason) => {
        if (!this.open.delete(slot))
          this.violation(`session ${slot} closed (${reason}) but not open`);
        this.changes?.onClosed(slot);
        this.closed.set(reason, (this.closed.get(reason) ?? 0) + 1);
      },
    };
  }

  private settled(): boolean {
    return (
      this.unfinishedClients === 0 &&
      this.engine.sessions.size === 0 &&
      this.open.size === 0 &&
      this.network.inFlight === 0
    );
  }

  private leftovers(): string {
    const { sessions } = this.engine;
    return `${this.unfinishedClients} clients, ${sessions.size} sessions (${[...sessions.inState].join(' ')}), ${this.open.size} open`;
  }

  private tickLater(): void {
    this.clock.after(TICK_MS, () => {
      this.engine.tick(this.clock.now);
      this.drain();
      this.tickLater();
    });
  }

  private reportLater(): void {
    this.clock.after(1000, () => {
      this.report();
      this.reportLater();
    });
  }

  private report(): void {
    for (const node of this.nodes) node.report(BALANCER_ADDRESS, BALANCER_MAC);
  }

  /** Takes the frames that the engine has sent, checks them, and sends them over the network. */
  private drain(): void {
    for (const each of this.datapath.take()) {
      const sent = this.sabotage === undefined ? each : this.sabotage(each, this);
      if (sent === undefined) continue;
      const wire = sent.flags & FrameFlags.checksumPartial ? finished(sent.frame) : sent.frame;
      this.checker.onSent(sent, wire);
      const packet = parsed(wire);
      this.note('engine', wire);
      const node = this.nodes.find((one) => one.options.mac === packet.ethernet.destination);
      if (node !== undefined) {
        // Two flipped bits can cancel out in a TCP checksum, so a damaged frame is not damaged
        // again.
        const { nodeLink } = this.scenario;
        const link = packet.problems.length > 0 ? { ...nodeLink, damage: 0 } : nodeLink;
        this.carry(wire, link, (arriving) => node.receive(arriving));
      } else if (packet.ip !== undefined) {
        const client = packet.ip.destination;
        this.carry(wire, this.scenario.clientLink, (arriving) =>
          this.population.receive(client, arriving),
        );
      }
    }
  }

  private scheduleFaults(): void {
    for (const { kind, node, at, until } of this.scenario.faults) {
      const machine = this.nodes[node]!;
      this.clock.after(at, () => {
        this.trace?.push(`${this.at()} ${machine.options.name} is ${kind}`);
        if (kind === 'down') machine.stop();
        else if (kind === 'deaf') machine.deaf = true;
        else this.setMac(node, undefined);
      });
      this.clock.after(until, () => {
        this.trace?.push(`${this.at()} ${machine.options.name} is no longer ${kind}`);
        if (kind === 'down') machine.down = false;
        else if (kind === 'deaf') machine.deaf = false;
        else this.setMac(node, macBytes(machine.options.mac));
      });
    }
  }

  /** Sets the MAC address of a machine that is in the farm. */
  private setMac(machine: number, mac: Uint8Array | undefined): void {
    const slot = this.changes === undefined ? machine : this.changes.slotOf(machine);
    if (slot !== undefined) this.nodeTable.setMac(slot, mac);
  }

  private scheduleChanges(dispatcher: RequestDispatcher): Changes {
    const changes = new Changes(
      {
        engine: this.engine,
        dispatcher,
        nodeTable: this.nodeTable,
        machines: this.nodes.map(({ options }) => options.address),
        resources: this.scenario.resources,
        predictor: this.scenario.predictor,
        timeouts: TIMEOUTS,
        server: { address: VIRTUAL_ADDRESS, port: VIRTUAL_PORT },
        resolved: (machine, slot) =>
          this.nodeTable.setMac(slot, macBytes(this.nodes[machine]!.options.mac)),
        violation: (message) => this.violation(message),
      },
      this.random.fork(),
      this.scenario.nodes,
    );
    for (const at of this.scenario.changes) {
      this.clock.after(at, () => {
        this.trace?.push(`${this.at()} the farm changes`);
        changes.next();
      });
    }
    return changes;
  }
}

function nodeAddress(index: number): string {
  return `10.9.0.${10 + index}`;
}

function nodeMac(index: number): string {
  return `02:00:00:02:00:${index.toString(16).padStart(2, '0')}`;
}
