/** Whether a farm can be made on this machine, and a farm for the length of a test. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Test } from 'tap';
import { native } from '../../src/host/native.js';
import { APACHE } from '../servers/web.js';
import type { Resource } from './configs.js';
import { Farm, type FarmOptions } from './farm.js';
import { PYTHON } from './process.js';

/** Why end-to-end tests cannot run on this machine; false when they can. For tap's `skip`. */
export function whyNoFarm(): string | false {
  if (process.getuid?.() !== 0) {
    return 'needs root for network namespaces';
  }
  for (const command of ['ip', 'tc', 'ethtool', 'nginx', 'curl', 'wrk', 'nsenter']) {
    if (!findCommand(command)) {
      return `needs ${command}`;
    }
  }
  if (!existsSync(PYTHON)) {
    return `needs ${PYTHON}`;
  }
  if (!native().kernelHasFunction('bpf_sk_assign_tcp_reqsk')) {
    return 'needs a kernel that can adopt connections (6.9 or newer)';
  }
  return false;
}

/** Why a farm cannot have Apache on a node; false when it can. */
export function whyNoApache(): string | false {
  return !existsSync(APACHE) && `needs ${APACHE}`;
}

export function findCommand(name: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${name}`], { stdio: 'ignore' }).status === 0;
}

export interface FarmUse extends FarmOptions {
  resources?: Resource[];
  /** More keys for balancer.yaml. */
  balancer?: Record<string, unknown>;
  /** Puts content on the nodes before anything starts. */
  fill?: (farm: Farm) => void;
  /** Starts everything, in place of Farm.startAll. */
  start?: (farm: Farm) => Promise<void>;
}

/**
 * Starts a whole farm, runs `body`, and takes the farm down in any case. When the test failed, the
 * ends of the logs are shown.
 */
export async function withFarm(
  t: Test,
  use: FarmUse,
  body: (farm: Farm) => Promise<void>,
): Promise<void> {
  const farm = await Farm.create(use);
  try {
    use.fill?.(farm);
    if (use.start === undefined) await farm.startAll(use.resources ?? [], use.balancer);
    else await use.start(farm);
    await body(farm);
  } finally {
    if (!t.passing()) {
      t.comment(`the balancer's log ends with:\n${farm.balancerProgram?.log().slice(-3000)}`);
      for (const agent of farm.agents) {
        t.comment(`${agent?.name}'s log ends with:\n${agent?.log().slice(-1000)}`);
      }
    }
    await farm.stop();
  }
}
