/** The options of a balancer's machine. */
import type { BatonError } from '../../base/errors.js';
import type { BalancerConfig } from '../../config/load.js';
import type { Limits } from '../../engine/options.js';
import type { FarmSlots } from '../objects/farm.js';

/** The part of a balancer's config that its machine needs. */
export interface MachineConfig
  extends Pick<BalancerConfig, 'interface' | 'nodeInterface' | 'address' | 'datapath' | 'workers'> {
  readonly limits: Pick<Limits, 'sessions' | 'halfOpen' | 'headBytes'>;
}

export interface MachineOptions extends MachineConfig {
  /** The nodes and virtual servers of the config. None is retired. */
  farm: FarmSlots;
  /** 16 bytes. */
  key: Uint8Array;
  log: { warn(message: string): void; info(message: string): void };
  /** How long to wait for another balancer to leave this interface, ms. */
  patience?: number;
  /** Called when an interface was replaced: only a new start helps. */
  onLost?: (error: BatonError) => void;
  /** For tests: where the journal goes, and CHECK_MS. */
  journalDirectory?: string;
  checkMs?: number;
}
