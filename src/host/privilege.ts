/** The privileges of this process. */
import { readFileSync } from 'node:fs';
import { BatonError } from '../base/errors.js';

/** Capabilities of linux/capability.h. */
const CAP_NET_ADMIN = 12;
const CAP_NET_RAW = 13;
const CAP_SYS_ADMIN = 21;
const CAP_PERFMON = 38;
const CAP_BPF = 39;

const NEEDED = [
  ['CAP_NET_ADMIN', CAP_NET_ADMIN],
  ['CAP_NET_RAW', CAP_NET_RAW],
  ['CAP_BPF', CAP_BPF],
  ['CAP_PERFMON', CAP_PERFMON],
] as const;

/** Names of the needed capabilities that a mask of effective ones lacks. */
export function missingCapabilities(mask: bigint): string[] {
  const has = (bit: number): boolean => ((mask >> BigInt(bit)) & 1n) === 1n;
  // Linux 5.8 split CAP_PERFMON and CAP_BPF off CAP_SYS_ADMIN, which still includes them.
  const covered = (bit: number): boolean => has(bit) || (bit >= CAP_PERFMON && has(CAP_SYS_ADMIN));
  return NEEDED.filter(([, bit]) => !covered(bit)).map(([name]) => name);
}

/**
 * Requires the privileges to change the network.
 * @throws BatonError BATON_PRIVILEGE
 */
export function requirePrivileges(): void {
  const mask =
    /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0';
  const missing = missingCapabilities(BigInt(`0x${mask}`));
  if (missing.length === 0) return;
  throw new BatonError(
    'BATON_PRIVILEGE',
    `no privilege to change the network: ${missing.join(', ')} missing`,
    { hint: 'run it as root' },
  );
}
