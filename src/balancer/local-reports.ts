/**
 * What the agent of another node reports, for the balancer itself as a node: once a second, what
 * this kernel can do. The virtual addresses are on the balancer's own interface.
 */
import { randomBytes } from 'node:crypto';
import type { NodeStates } from '../directory/node-states.js';
import { LOCAL_NODE } from '../wire/address.js';
import type { FarmSlots } from './objects/farm.js';

const INTERVAL_MS = 1_000;
const MS_PER_SECOND = 1_000;

export interface LocalReportsOptions {
  states: NodeStates;
  /** What this machine can do as a node: IxcpFlag bits. Undefined: it is none. */
  flags(): number | undefined;
  /** Engine time, ms. */
  now(): number;
}

export class LocalReports {
  private readonly options: LocalReportsOptions;
  /** Distinguishes this run from earlier ones. */
  private readonly run = randomBytes(4).readUInt32BE();
  /** Its slot; undefined: the balancer is no node. */
  private slot: number | undefined;
  private timer: NodeJS.Timeout | undefined;

  constructor(options: LocalReportsOptions) {
    this.options = options;
  }

  /** Reports of the local node of this farm from now on, if there is one. */
  setFarm({ nodes }: Pick<FarmSlots, 'nodes'>): void {
    this.slot = nodes.find(({ address }) => address === LOCAL_NODE)?.slot;
    this.report();
  }

  start(): void {
    this.timer = setInterval(() => this.report(), INTERVAL_MS);
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private report(): void {
    const { slot, options } = this;
    const flags = slot === undefined ? undefined : options.flags();
    if (slot === undefined || flags === undefined) return;
    const now = options.now();
    const clock = Math.floor(now / MS_PER_SECOND);
    options.states.reported(slot, this.run, clock, flags, now);
  }
}
