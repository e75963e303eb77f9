/** Whether this machine's kernel can run Baton. */
import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { BatonError } from '../base/errors.js';
import { native } from './native.js';

/** The kernel function by which a node adopts, and the first kernel that has it. */
export const ADOPT_FUNCTION = 'bpf_sk_assign_tcp_reqsk';
const ADOPT_KERNEL = { major: 6, minor: 9 } as const;
/** Where a kernel lists its functions and types (BTF). */
const DESCRIPTION = '/sys/kernel/btf/vmlinux';

/**
 * Makes sure that the kernel can adopt a session. Distributions add functions to older kernels, so
 * the function counts and not the version.
 * @throws BatonError BATON_KERNEL
 */
export function requireAdoption(functionName = ADOPT_FUNCTION): void {
  if (native().kernelHasFunction(functionName)) return;
  throw kernelFault(release(), existsSync(DESCRIPTION), functionName);
}

/**
 * Why a kernel without the function cannot run Baton, and what to install.
 * @param version as `uname -r` prints it
 * @param described the kernel lists its functions
 */
export function kernelFault(version: string, described: boolean, functionName: string): BatonError {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  const { major: needed, minor: neededMinor } = ADOPT_KERNEL;
  if (major < needed || (major === needed && minor < neededMinor)) {
    return new BatonError(
      'BATON_KERNEL',
      `kernel ${version} is too old: Linux ${needed}.${neededMinor} or newer is needed, for ${functionName}`,
      {
        hint: 'Debian 13 has one; Debian 12 has linux-image-amd64 and -arm64 in bookworm-backports',
      },
    );
  }
  if (!described) {
    return new BatonError(
      'BATON_KERNEL',
      `kernel ${version} does not list its functions: there is no ${DESCRIPTION}`,
      {
        hint: 'mount /sys; if it is mounted, take a kernel with CONFIG_DEBUG_INFO_BTF, like those of Debian',
      },
    );
  }
  return new BatonError('BATON_KERNEL', `kernel ${version} has no ${functionName}`, {
    hint: 'take a kernel with CONFIG_BPF_SYSCALL and CONFIG_SYN_COOKIES, like those of Debian',
  });
}
