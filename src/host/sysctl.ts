/** Settings below /proc/sys/net, in the network namespace of this process. */
import { readFileSync, writeFileSync } from 'node:fs';
import { BatonError, reasonOf } from '../base/errors.js';

const ROOT = '/proc/sys/net';

/** Settings by path: in the dotted form, an interface name with a dot would be ambiguous. */
export const Setting = {
  synCookies: 'ipv4/tcp_syncookies',
  rfc1337: 'ipv4/tcp_rfc1337',
  timestamps: 'ipv4/tcp_timestamps',
  windowScaling: 'ipv4/tcp_window_scaling',
  sack: 'ipv4/tcp_sack',
  arpIgnore: (name: string) => `ipv4/conf/${name}/arp_ignore`,
  arpAnnounce: (name: string) => `ipv4/conf/${name}/arp_announce`,
} as const;

/**
 * The value of a setting. Undefined when the setting does not exist, or no longer exists.
 * @throws BatonError BATON_SYSTEM
 */
export function readSetting(setting: string): string | undefined {
  try {
    return readFileSync(`${ROOT}/${setting}`, 'latin1').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw failure('read', setting, error);
  }
}

/** The value of a numeric setting; 0 when it does not exist. Throws as `readSetting` does. */
export function readNumber(setting: string): number {
  const value = Number(readSetting(setting) ?? '0');
  return Number.isFinite(value) ? value : 0;
}

/** Sets a value. Throws BatonError BATON_SYSTEM. */
export function writeSetting(setting: string, value: string): void {
  try {
    writeFileSync(`${ROOT}/${setting}`, value);
  } catch (error) {
    throw failure(
      'written',
      setting,
      error,
      `set it to ${value} from a place where /proc/sys is writable`,
    );
  }
}

function failure(verb: string, setting: string, error: unknown, hint?: string): BatonError {
  return new BatonError('BATON_SYSTEM', `cannot be ${verb}: ${reasonOf(error)}`, {
    where: `${ROOT}/${setting}`,
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  });
}
