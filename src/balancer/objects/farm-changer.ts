/**
 * Brings a new farm to everything that works with slots, all or nothing. Each step is:
 *
 *     machine.prepareChange       checks; nothing is visible
 *     engine.change               all engine threads, between two batches
 *     machine.commit              maps and addresses
 *
 * So an addition reaches the engine threads before a packet can arrive for it, and a removal after
 * the last one. With new nodes there are two steps: the first one only makes the nodes known, so
 * that their MAC addresses are resolved before a resource names them. When a step fails, the farm
 * of before is brought back. What the change has added is retired on the way, as if it were
 * removed.
 *
 * A removed object is retired. `collect` frees its slot when no session refers to it any more.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { sharedArrays } from '../../base/arrays.js';
import { reasonOf } from '../../base/errors.js';
import type { BalancerConfig } from '../../config/load.js';
import { MAX_XDP_NODES, MOST_VIRTUAL_SERVERS } from '../../datapath/xdp-layout.js';
import type { DirectoryImage } from '../../directory/directory-image.js';
import type { NodeStates } from '../../directory/node-states.js';
import type { PreparedChange } from '../machine/change.js';
import type { Farm, FarmSlots, NodeSlot } from './farm.js';
import { addedNodes, assignSlots, slotsOfNodes, withoutFree, withRetired } from './slots.js';

const CAPACITY = { nodes: MAX_XDP_NODES, servers: MOST_VIRTUAL_SERVERS };
/** How long a change waits for the MAC addresses of new nodes, and how often it looks, ms. */
const RESOLVE_MS = 1_000;
const LOOK_MS = 5;

/** Everything that works with slots. */
export interface FarmUsers {
  readonly machine: { prepareChange(next: FarmSlots): Promise<PreparedChange> };
  readonly engine: {
    change(farm: Farm): Promise<void>;
    snapshot(): Promise<{ readonly heldByServer: readonly number[] }>;
  };
  readonly neighbours: { setNodes(nodes: readonly NodeSlot[]): void };
  /** MAC address of the node in a slot; null: not known. */
  macOf(slot: number): string | null;
  readonly states: Pick<NodeStates, 'held'>;
  /** Needs the names before the first session of a slot ends. */
  readonly accessLog: { setNames(slots: FarmSlots): Promise<void> };
  /** Those who show, watch or keep what is in the slots. They cannot fail. */
  readonly followers: readonly ((farm: Farm) => void)[];
  readonly log: { warn(message: string): void };
}

export class FarmChanger {
  private readonly users: FarmUsers;
  private current: Farm;

  /** @param first the farm that all users have */
  constructor(users: FarmUsers, first: Farm) {
    this.users = users;
    this.current = first;
  }

  get farm(): Farm {
    return this.current;
  }

  /**
   * Applies a config that was checked.
   * @param directory of the config: its holders are indexes of `config.nodes`
   * @throws BatonError for what keeps it from being applied; the farm of before is in place then
   */
  async apply(config: BalancerConfig, directory: DirectoryImage): Promise<void> {
    const slots = assignSlots(this.current, config, CAPACITY);
    await this.bring({
      ...slots,
      generation: this.current.generation + 1,
      directory: withSlots(directory, slotsOfNodes(slots, config.nodes)),
      timeouts: config.timeouts,
    });
  }

  /** Frees the retired slots to which no session refers. Returns whether there were any. */
  async collect(): Promise<boolean> {
    const { current, users } = this;
    const isRetired = ({ retired }: { readonly retired: boolean }): boolean => retired;
    if (![...current.nodes, ...current.servers].some(isRetired)) return false;
    // Only virtual servers need an answer of the engine threads.
    const asks = current.servers.some(isRetired);
    const { heldByServer } = asks ? await users.engine.snapshot() : { heldByServer: [] };
    const slots = withoutFree(current, {
      node: (slot) => users.states.held(slot) === 0,
      server: (slot) => (heldByServer[slot] ?? 0) === 0,
    });
    const freed =
      current.nodes.length - slots.nodes.length + current.servers.length - slots.servers.length;
    if (freed === 0) return false;
    await this.bring({ ...current, ...slots, generation: current.generation + 1 });
    return true;
  }

  private async bring(next: Farm): Promise<void> {
    const before = this.current;
    const added = addedNodes(before, next);
    try {
      if (added.length > 0) await this.introduce(added);
      await this.step(next);
    } catch (error) {
      await this.restore(before);
      throw error;
    }
  }

  /** Makes new nodes known, and waits until they can be reached. No resource names them yet. */
  private async introduce(added: readonly NodeSlot[]): Promise<void> {
    const { current } = this;
    const slots = new Set(added.map(({ slot }) => slot));
    const nodes = [...current.nodes.filter(({ slot }) => !slots.has(slot)), ...added];
    await this.step({ ...current, nodes: nodes.sort((a, b) => a.slot - b.slot) });
    for (let waited = 0; waited < RESOLVE_MS; waited += LOOK_MS) {
      if (added.every(({ slot }) => this.users.macOf(slot) !== null)) return;
      await delay(LOOK_MS);
    }
  }

  /**
   * Brings one farm to all users. When the machine refuses it at last, the engine threads have it
   * already, and so has `current`.
   */
  private async step(next: Farm): Promise<void> {
    const { machine, accessLog, neighbours } = this.users;
    const before = this.current;
    const prepared = await machine.prepareChange(next);
    try {
      await this.toEngines(next);
    } catch (error) {
      await prepared.abandon();
      await accessLog.setNames(before);
      throw error;
    }
    await prepared.commit();
    neighbours.setNodes(next.nodes);
  }

  private async toEngines(next: Farm): Promise<void> {
    const { engine, accessLog, followers } = this.users;
    await accessLog.setNames(next);
    await engine.change(next);
    this.current = next;
    for (const follow of followers) follow(next);
  }

  /**
   * Brings the farm of before back. Engine threads free no slot whose owner is in use, so what was
   * added is retired first. What cannot be undone is logged, and keeps its slots until `collect`.
   */
  private async restore(before: Farm): Promise<void> {
    const { current, users } = this;
    if (current === before) return;
    try {
      // The engine threads have forgotten the MAC addresses of freed slots: they are new again.
      users.neighbours.setNodes(current.nodes);
      const retired = withRetired(before, current);
      await this.toEngines({ ...before, ...retired, generation: current.generation + 1 });
      await this.step({ ...before, generation: current.generation + 2 });
    } catch (error) {
      users.log.warn(`a change is not fully undone: ${reasonOf(error)}`);
    }
  }
}

/** The same directory, whose holders are slots. */
function withSlots(directory: DirectoryImage, slots: Uint16Array): DirectoryImage {
  const { holders } = directory;
  const node = sharedArrays.uint16(holders.node.length);
  for (let at = 0; at < node.length; at++) node[at] = slots[holders.node[at]!]!;
  return { ...directory, holders: { ...holders, node } };
}
