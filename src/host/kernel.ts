/** Whether this machine's kernel can run Baton. */
import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { BatonError } from '../base/errors.js';
import { native } from './native.js';

/** The kernel function that adopts a session, and the first Linux version that has it. */
export const ADOPT_FUNCTION = 'bpf_sk_assign_tcp_reqsk';
const ADOPT_KERNEL = { major: 6, minor: 9 } as const;
/** The kernel's list of its functions and types (BTF). */
const DESCRIPTION = '/sys/kernel/btf/vmlinux';

/**
 * Requires a kernel that can adopt a session. Distributions add functions to older kernels, so this
 * checks the function and not the version.
 * @throws BatonError BATON_KERNEL
 */
export function requireAdoption(functionName = ADOPT_FUNCTION): void {
  if (native().kernelHasFunction(functionName)) return;
  throw kernelFault(release(), existsSync(DESCRIPTION), functionName);
}

/**
 * The error for a kernel without the function: the reason, and what to install.
 * @param version as `uname -r` prints it
 * @param described whether the kernel lists its functions
 */
export function kernelFault(version: string, described: boolean, functionName: string): BatonError {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  const { major: needed, minor: neededMinor } = ADOPT_KERNEL;
  if (major < needed || (major === needed && minor < neededMinor)) {
    return new BatonError(
      'BATON_KERNEL',
      `kernel ${version} is too old: Linux ${needed}.${neededMinor} or newer is needed, for ${functionName}`,
      {
        hint: 'Debian 13 has such a kernel; for Debian 12, install linux-image-amd64 or -arm64 from bookworm-backports',
      },
    );
  }
  if (!described) {
    return new BatonError(
      'BATON_KERNEL',
      `kernel ${version} does not list its functions: there is no ${DESCRIPTION}`,
      {
        hint: 'mount /sys; if it is mounted, use a kernel with CONFIG_DEBUG_INFO_BTF, like those of Debian',
      },
    );
  }
  return new BatonError('BATON_KERNEL', `kernel ${version} has no ${functionName}`, {
    hint: 'use a kernel with CONFIG_BPF_SYSCALL and CONFIG_SYN_COOKIES, like those of Debian',
  });
}
