/**
 * Random changes of the farm while clients run: nodes are added, removed, drained and weighed anew,
 * directories are swapped, and a second virtual server comes and goes. Every change goes the way of
 * an engine thread (ThreadFarm). A resource always keeps a node that takes sessions, so every
 * request must still get its answer.
 */
import { addressNumber } from '../../lab/packet.js';
import { httpServer, serverSlot } from '../../lab/virtual-server.js';
import type { Farm, NodeSlot, ServerSlot } from '../../src/balancer/objects/farm.js';
import { writeFarm } from '../../src/balancer/objects/farm-states.js';
import { ThreadFarm } from '../../src/balancer/threads/thread-farm.js';
import { BatonError } from '../../src/base/errors.js';
import { directoryImage } from '../../src/directory/directory-image.js';
import { Admin } from '../../src/directory/node-memory.js';
import type { PredictorName } from '../../src/directory/predictors/index.js';
import type { RequestDispatcher } from '../../src/directory/request-dispatcher.js';
import type { Engine } from '../../src/engine/engine.js';
import type { NodeTable } from '../../src/engine/node-table.js';
import type { Timeouts } from '../../src/engine/options.js';
import { REQUEST_BYTES } from '../../src/engine/table/session-table.js';
import { toAddress } from '../../src/wire/address.js';
import { directoryEntry, type Resource, resourceOf } from './content.js';
import type { Random } from './random.js';

/** Slots in the memory of a world that changes. */
export const NODE_SLOTS = 6;
export const SERVER_SLOTS = 3;

export interface ChangesWorld {
  readonly engine: Engine;
  readonly dispatcher: RequestDispatcher;
  readonly nodeTable: NodeTable;
  /** Addresses of all machines, by index. The first ones are in the farm at the start. */
  readonly machines: readonly string[];
  /** A resource's holders are all machines that have ever held it: what a machine has, it keeps. */
  readonly resources: readonly Resource[];
  readonly predictor: PredictorName;
  readonly timeouts: Timeouts;
  readonly server: { address: string; port: number };
  /** The MAC address of a machine that has been added is found. */
  resolved(machine: number, slot: number): void;
  violation(message: string): void;
}

export class Changes {
  readonly counts = {
    swapped: 0,
    added: 0,
    removed: 0,
    freed: 0,
    drained: 0,
    weighed: 0,
    servers: 0,
    refused: 0,
    handoffs: 0,
  };
  private readonly thread: ThreadFarm;
  private farm: Farm;
  /** Machines that hold each resource now. */
  private holders: number[][];
  /** The last node of each session. */
  private readonly nodeOf = new Map<number, number>();

  constructor(
    private readonly world: ChangesWorld,
    private readonly random: Random,
    inFarm: number,
  ) {
    const { machines, resources, server, predictor, timeouts } = world;
    this.holders = resources.map(({ holders }) => [...holders]);
    const nodes = machines.slice(0, inFarm).map((_, machine) => this.nodeAt(machine, machine));
    const address = toAddress(addressNumber(server.address));
    const servers = [serverSlot(0, httpServer('www', address, server.port, predictor))];
    const slots = { nodes, servers };
    this.farm = { ...slots, generation: 1, directory: this.directory(nodes), timeouts };
    writeFarm(world.nodeTable.states, this.farm);
    const { engine, dispatcher } = world;
    this.thread = new ThreadFarm({ engine, dispatcher, events: { forget: () => {} } }, this.farm);
  }

  /** The slot of a machine; undefined: it is not in the farm. */
  slotOf(machine: number): number | undefined {
    const address = addressNumber(this.world.machines[machine]!);
    return this.farm.nodes.find((node) => node.address === address)?.slot;
  }

  /** Makes one change. */
  next(): void {
    this.free();
    const actions = [
      () => this.swap(),
      () => this.add(),
      () => this.remove(),
      () => this.drain(),
      () => this.weigh(),
      () => this.changeServers(),
      () => this.refuse(),
    ];
    this.random.pick(actions)();
  }

  /** The engine begins or repeats a handoff. */
  onHandoff(slot: number, node: number): void {
    if (this.nodeOf.get(slot) === node) return;
    this.nodeOf.set(slot, node);
    this.counts.handoffs += 1;
    const { engine, nodeTable } = this.world;
    const { sessions } = engine;
    const text = Buffer.from(
      sessions.request.subarray(slot * REQUEST_BYTES, (slot + 1) * REQUEST_BYTES),
    );
    const path = text.toString('latin1').split(' ')[1] ?? '';
    const resource = resourceOf(this.world.resources, path);
    const { states } = nodeTable;
    const holder = this.farm.nodes.find((each) => each.slot === node);
    const machine = this.machineAt(node);
    const holds = resource !== undefined && this.holdersOf(resource).includes(machine ?? -1);
    const takes =
      holder?.retired === false && states.weight[node] !== 0 && states.admin(node) === Admin.up;
    if (!holds || !takes)
      this.world.violation(
        `${path} goes to slot ${node}, which ${holds ? 'takes none' : 'does not hold it'}`,
      );
  }

  onClosed(slot: number): void {
    this.nodeOf.delete(slot);
  }

  private holdersOf(resource: Resource): number[] {
    return this.holders[this.world.resources.indexOf(resource)]!;
  }

  private nodeAt(slot: number, machine: number): NodeSlot {
    const address = toAddress(addressNumber(this.world.machines[machine]!));
    const weight = 1 + (machine % 3);
    return { slot, name: `machine${machine}`, address, weight, retired: false };
  }

  private machineAt(slot: number): number | undefined {
    const address = this.farm.nodes.find((node) => node.slot === slot)?.address;
    const machine = this.world.machines.findIndex((each) => addressNumber(each) === address);
    return machine < 0 ? undefined : machine;
  }

  /** Whether the node takes sessions when nothing is wrong with it. */
  private takes(node: NodeSlot): boolean {
    const { states } = this.world.nodeTable;
    return !node.retired && node.weight > 0 && states.admin(node.slot) === Admin.up;
  }

  /** Some of these nodes hold each resource, in an order of its own. At least one of them takes. */
  private deal(nodes: readonly NodeSlot[]): void {
    const present = nodes.filter((node) => !node.retired);
    const machine = ({ address }: NodeSlot): number =>
      this.world.machines.findIndex((each) => addressNumber(each) === address);
    this.holders = this.world.resources.map((resource) => {
      const one = this.random.pick(present.filter((node) => this.takes(node)));
      const more = present.filter((node) => node !== one && this.random.chance(0.5));
      const machines = [one, ...more].map(machine);
      for (const each of machines)
        if (!resource.holders.includes(each)) resource.holders.push(each);
      return machines;
    });
  }

  /** Other resources come before and between those that clients ask for, so indexes change. */
  private directory(nodes: readonly NodeSlot[]): Farm['directory'] {
    const slots = new Map(nodes.map(({ slot, address }) => [address as number, slot]));
    const slot = (machine: number): number =>
      slots.get(addressNumber(this.world.machines[machine]!))!;
    const known = this.world.resources.map((resource, index) =>
      directoryEntry({ ...resource, holders: this.holders[index]!.map(slot) }),
    );
    const fillers = Array.from({ length: this.random.between(0, 3) }, (_, index) => ({
      path: `/filler${index}/`,
      nodes: [this.random.pick(nodes).slot],
    }));
    return directoryImage(this.random.shuffle([...known, ...fillers]), this.random.bits());
  }

  /** Puts the farm with these nodes and servers in place, with a new directory. */
  private change(nodes: readonly NodeSlot[], servers = this.farm.servers): void {
    const next: Farm = {
      generation: this.farm.generation + 1,
      nodes,
      servers,
      directory: this.directory(nodes),
      timeouts: this.world.timeouts,
    };
    this.thread.prepare(next);
    if (this.random.chance(0.1)) {
      this.thread.discard();
      this.thread.prepare(next);
    }
    writeFarm(this.world.nodeTable.states, next, this.farm);
    this.farm = next;
    this.thread.commit();
  }

  private swap(): void {
    this.counts.swapped += 1;
    this.deal(this.farm.nodes);
    this.change(this.farm.nodes);
  }

  private add(): void {
    const { nodes } = this.farm;
    const spare = this.world.machines
      .map((_, machine) => machine)
      .filter((machine) => {
        const slot = this.slotOf(machine);
        return slot === undefined || nodes.some((node) => node.slot === slot && node.retired);
      });
    if (spare.length === 0) return;
    const machine = this.random.pick(spare);
    const taken = new Set(nodes.map(({ slot }) => slot));
    const free = Array.from({ length: NODE_SLOTS }, (_, slot) => slot).find(
      (slot) => !taken.has(slot),
    );
    const slot = this.slotOf(machine) ?? free;
    if (slot === undefined) return;
    this.counts.added += 1;
    const others = nodes.filter((node) => node.slot !== slot);
    const next = [...others, this.nodeAt(slot, machine)];
    this.deal(next);
    this.change(next);
    this.world.resolved(machine, slot);
  }

  private remove(): void {
    const { nodes } = this.farm;
    const leaving = this.random.pick(nodes);
    const next = nodes.map((node) =>
      node === leaving ? { ...node, weight: 0, retired: true } : node,
    );
    if (leaving.retired || !next.some((node) => this.takes(node))) return;
    this.counts.removed += 1;
    this.deal(next);
    this.change(next);
  }

  /** Frees the slots of retired nodes and virtual servers without sessions. */
  private free(): void {
    const { nodes, servers } = this.farm;
    const { states } = this.world.nodeTable;
    const { heldByServer } = this.world.engine.sessions;
    const left = nodes.filter(({ slot, retired }) => !retired || states.held(slot) > 0);
    const open = servers.filter(({ slot, retired }) => !retired || heldByServer[slot]! > 0);
    if (left.length === nodes.length && open.length === servers.length) return;
    this.counts.freed += 1;
    this.change(left, open);
  }

  private drain(): void {
    const { states } = this.world.nodeTable;
    const node = this.random.pick(this.farm.nodes);
    const before = states.admin(node.slot);
    states.setAdmin(node.slot, this.random.pick(Object.values(Admin)));
    if (this.isServed()) this.counts.drained += 1;
    else states.setAdmin(node.slot, before);
  }

  private weigh(): void {
    const node = this.random.pick(this.farm.nodes);
    const weight = this.random.between(0, 5);
    const next = this.farm.nodes.map((each) =>
      each === node && !node.retired ? { ...each, weight } : each,
    );
    if (!this.isServed(next)) return;
    this.counts.weighed += 1;
    this.change(next);
  }

  /** Whether each resource has a holder that takes sessions. */
  private isServed(nodes: readonly NodeSlot[] = this.farm.nodes): boolean {
    const taking = nodes.filter((node) => this.takes(node)).map(({ slot }) => this.machineAt(slot));
    return this.holders.every((machines) => machines.some((each) => taking.includes(each)));
  }

  private changeServers(): void {
    const { nodes, servers } = this.farm;
    this.counts.servers += 1;
    const [first, ...others] = servers as [ServerSlot, ...ServerSlot[]];
    const open = others.find(({ retired }) => !retired);
    const taken = new Set(servers.map(({ slot }) => slot));
    const slot = [1, 2].find((each) => !taken.has(each));
    if (open !== undefined) {
      this.change(nodes, [first, ...others.map((each) => ({ ...each, retired: true }))]);
    } else if (slot !== undefined) {
      const port = 8000 + this.farm.generation;
      this.change(nodes, [...servers, { ...first, slot, name: `port-${port}`, port }]);
    }
  }

  /** A farm that frees a slot in use must be refused, and must change nothing. */
  private refuse(): void {
    const { nodes } = this.farm;
    const { states } = this.world.nodeTable;
    const kept = nodes.filter(({ slot, retired }) => !retired || states.held(slot) > 0);
    const leaving = this.random.pick(kept);
    try {
      this.thread.prepare({ ...this.farm, nodes: nodes.filter((node) => node !== leaving) });
      this.world.violation(`slot ${leaving.slot} could be freed`);
    } catch (error) {
      if (!(error instanceof BatonError)) throw error;
      this.counts.refused += 1;
    }
    this.thread.commit();
  }
}
