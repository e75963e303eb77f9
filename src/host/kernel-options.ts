/**
 * Which TCP options this machine's kernel goes on with when it adopts a session, and whether it
 * adopts at all: four settings of the network namespace, each of which is off in some guides to
 * hardening. They may change at any time.
 */
import { reasonOf } from '../base/errors.js';
import type { PlainLog } from '../base/log.js';
import { IxcpFlag } from '../wire/ixcp.js';
import { IxpFlag } from '../wire/ixp.js';
import { readNumber, Setting } from './sysctl.js';

export interface KernelOption {
  /** For people, in the plural. */
  name: string;
  /** IxpFlag. */
  option: number;
  /** IxcpFlag that says that it is off. */
  flag: number;
  setting: string;
}

export const KERNEL_OPTIONS: readonly KernelOption[] = [
  {
    name: 'timestamps',
    option: IxpFlag.timestampsOk,
    flag: IxcpFlag.noTimestamps,
    setting: Setting.timestamps,
  },
  {
    name: 'window scaling',
    option: IxpFlag.windowScaleOk,
    flag: IxcpFlag.noWindowScale,
    setting: Setting.windowScaling,
  },
  {
    name: 'selective acknowledgements',
    option: IxpFlag.sackOk,
    flag: IxcpFlag.noSack,
    setting: Setting.sack,
  },
];

/** "net.ipv4.tcp_sack", as `sysctl` has it, from a path below /proc/sys/net. */
export function settingName(setting: string): string {
  return `net.${setting.replaceAll('/', '.')}`;
}

/**
 * The IxcpFlag bits that a report has about this kernel now.
 * @throws BatonError BATON_SYSTEM when the settings cannot be read
 */
export function kernelFlags(read: (setting: string) => number = readNumber): number {
  let flags: number = read(Setting.synCookies) === 0 ? IxcpFlag.noCookies : IxcpFlag.canAdopt;
  for (const { flag, setting } of KERNEL_OPTIONS) if (read(setting) === 0) flags |= flag;
  return flags;
}

/** An agent's eye on them: each change is told, and SYN cookies are switched on again. */
export class KernelWatch {
  private readonly switchOn: () => Promise<void>;
  private readonly log: PlainLog;
  private readonly flags: () => number;
  private last = IxcpFlag.canAdopt as number;
  private unreadable = false;

  /** @param switchOn switches SYN cookies on; its failure is told */
  constructor(switchOn: () => Promise<void>, log: PlainLog, flags: () => number = kernelFlags) {
    this.switchOn = switchOn;
    this.log = log;
    this.flags = flags;
  }

  /** The IxcpFlag bits of a report; those of the last look when they cannot be read. */
  look(): number {
    const { log, last } = this;
    let flags: number;
    try {
      flags = this.flags();
      this.unreadable = false;
    } catch (error) {
      if (!this.unreadable) log.warn(`what this kernel adopts cannot be told: ${reasonOf(error)}`);
      this.unreadable = true;
      return last;
    }
    for (const { name, option, flag, setting } of KERNEL_OPTIONS) {
      if (((flags ^ last) & flag) === 0) continue;
      const what = settingName(setting);
      if ((flags & flag) === 0) log.info(`${what} is on again`);
      else if (option === IxpFlag.sackOk)
        log.warn(`${what} is 0: sessions here go on without ${name}`);
      else
        log.warn(`${what} is 0: balancers offer no client ${name} as long as this node takes part`);
    }
    const off = (flags & IxcpFlag.noCookies) !== 0;
    if (off) {
      if ((last & IxcpFlag.noCookies) === 0) {
        log.warn(
          `${settingName(Setting.synCookies)} is 0: this kernel cannot adopt; switching it on`,
        );
      }
      this.switchOn().catch((error: unknown) => {
        if ((last & IxcpFlag.noCookies) === 0)
          log.warn(`it cannot be switched on: ${reasonOf(error)}`);
      });
    } else if ((last & IxcpFlag.noCookies) !== 0) {
      log.info(`${settingName(Setting.synCookies)} is on again`);
    }
    this.last = flags;
    return flags;
  }
}
