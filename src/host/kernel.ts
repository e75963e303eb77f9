/** Whether this machine's kernel can run Baton. */
import { existsSync } from 'node:fs';
import { release } from 'node:os';
import { BatonError } from '../base/errors.js';
import { native } from './native.js';

/** The kernel function that adopts a session, since Linux 6.9. */
export const ADOPT_FUNCTION = 'bpf_sk_assign_tcp_reqsk';
/** The kernel function by which the shim reads answers of any length, since Linux 5.17. */
export const LOOP_FUNCTION = 'bpf_loop';
/**
 * A kernel function that every version of the shim needs, and the first Linux version on which the
 * shim loads.
 */
export const SHIM_FUNCTION = 'bpf_skc_to_tcp_sock';
const SHIM_KERNEL = { major: 5, minor: 10 } as const;
/** The kernel's list of its functions and types (BTF). */
const DESCRIPTION = '/sys/kernel/btf/vmlinux';

/** What the kernel of a node can do. */
export interface ShimKernel {
  /** It builds sockets for sessions of a balancer. Otherwise handshakes are replayed. */
  readonly adopts: boolean;
  /** The shim can follow answers, so sessions may leave the node again. */
  readonly follows: boolean;
}

/**
 * What this kernel can do for the shim. Distributions add functions to older kernels, so this
 * checks the functions and not the version.
 * @param has whether the kernel has a function
 * @throws BatonError BATON_KERNEL when the shim cannot run on it
 */
export function shimKernel(
  has: (name: string) => boolean = (name) => native().kernelHasFunction(name),
): ShimKernel {
  if (!has(SHIM_FUNCTION)) throw kernelFault(release(), existsSync(DESCRIPTION), SHIM_FUNCTION);
  return { adopts: has(ADOPT_FUNCTION), follows: has(LOOP_FUNCTION) };
}

/**
 * The error for a kernel without the function: the reason, and what to install.
 * @param version as `uname -r` prints it
 * @param described whether the kernel lists its functions
 */
export function kernelFault(version: string, described: boolean, functionName: string): BatonError {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  const { major: needed, minor: neededMinor } = SHIM_KERNEL;
  if (major < needed || (major === needed && minor < neededMinor)) {
    return new BatonError(
      'BATON_KERNEL',
      `kernel ${version} is too old: Linux ${needed}.${neededMinor} or newer is needed, for ${functionName}`,
      {
        hint: 'Debian 11 and newer have such a kernel',
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
    hint: 'use a kernel with CONFIG_BPF_SYSCALL and CONFIG_INET, like those of Debian',
  });
}
