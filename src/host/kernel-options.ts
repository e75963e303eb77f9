/**
 * Whether this machine's kernel can adopt a session, and which TCP options it then supports. Four
 * settings of the network namespace decide. Some hardening guides switch each of them off, and they
 * may change at any time.
 */
import { reasonOf } from '../base/errors.js';
import type { PlainLog } from '../base/log.js';
import { IxcpFlag } from '../wire/ixcp.js';
import { IxpFlag } from '../wire/ixp.js';
import type { ShimKernel } from './kernel.js';
import { readNumber, Setting } from './sysctl.js';

export interface KernelOption {
  /** In words, plural. */
  name: string;
  /** IxpFlag. */
  option: number;
  /** The IxcpFlag of a report that says that the option is off. */
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

/** The name that `sysctl` uses, as "net.ipv4.tcp_sack", of a path below /proc/sys/net. */
export function settingName(setting: string): string {
  return `net.${setting.replaceAll('/', '.')}`;
}

/**
 * The IxcpFlag bits that describe this kernel in a report, as its settings are now.
 * @param kernel what it can do in any case
 * @throws BatonError BATON_SYSTEM when the settings cannot be read
 */
export function kernelFlags(
  { adopts, follows }: ShimKernel,
  read: (setting: string) => number = readNumber,
): number {
  let flags = 0;
  if (adopts) flags |= read(Setting.synCookies) === 0 ? IxcpFlag.noCookies : IxcpFlag.canAdopt;
  if (follows) flags |= IxcpFlag.canLeave | IxcpFlag.canPark;
  for (const { flag, setting } of KERNEL_OPTIONS) if (read(setting) === 0) flags |= flag;
  return flags;
}

/** Watches these settings for an agent: logs each change, and switches SYN cookies on again. */
export class KernelWatch {
  private readonly switchOn: () => Promise<void>;
  private readonly log: PlainLog;
  private readonly flags: () => number;
  private last = IxcpFlag.canAdopt as number;
  private unreadable = false;

  /**
   * @param switchOn switches SYN cookies on; the log reports its failure
   * @param flags of `kernelFlags`
   */
  constructor(switchOn: () => Promise<void>, log: PlainLog, flags: () => number) {
    this.switchOn = switchOn;
    this.log = log;
    this.flags = flags;
  }

  /** The IxcpFlag bits for a report. When the settings cannot be read, those of the last call. */
  look(): number {
    const { log, last } = this;
    let flags: number;
    try {
      flags = this.flags();
      this.unreadable = false;
    } catch (error) {
      if (!this.unreadable) log.warn(`cannot tell what this kernel can adopt: ${reasonOf(error)}`);
      this.unreadable = true;
      return last;
    }
    for (const { name, option, flag, setting } of KERNEL_OPTIONS) {
      if (((flags ^ last) & flag) === 0) continue;
      const what = settingName(setting);
      if ((flags & flag) === 0) log.info(`${what} is on again`);
      else if (option === IxpFlag.sackOk)
        log.warn(`${what} is 0: sessions on this node continue without ${name}`);
      else log.warn(`${what} is 0: balancers offer clients no ${name} while this node takes part`);
    }
    const off = (flags & IxcpFlag.noCookies) !== 0;
    if (off) {
      if ((last & IxcpFlag.noCookies) === 0) {
        log.warn(
          `${settingName(Setting.synCookies)} is 0: this kernel cannot adopt sessions; switching it on`,
        );
      }
      this.switchOn().catch((error: unknown) => {
        if ((last & IxcpFlag.noCookies) === 0) log.warn(`cannot switch it on: ${reasonOf(error)}`);
      });
    } else if ((last & IxcpFlag.noCookies) !== 0) {
      log.info(`${settingName(Setting.synCookies)} is on again`);
    }
    this.last = flags;
    return flags;
  }
}
