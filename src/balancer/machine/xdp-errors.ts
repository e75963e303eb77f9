/** Errors about AF_XDP on an interface, each with its remedy. */
import { BatonError, reasonOf } from '../../base/errors.js';
import { MAX_QUEUES } from '../../datapath/xdp-layout.js';

/**
 * Throws BATON_INTERFACE when an interface has more receive queues than the XDP program supports.
 */
export function requireQueues(name: string, queues: number): void {
  if (queues <= MAX_QUEUES) return;
  throw new BatonError(
    'BATON_INTERFACE',
    `has ${queues} receive queues, expected at most ${MAX_QUEUES}`,
    {
      where: name,
      hint: `ethtool -L ${name} combined ${MAX_QUEUES}`,
    },
  );
}

/** The error for AF_XDP sockets that cannot be opened on an interface. */
export function noSockets(where: string, error: unknown): BatonError {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'EBUSY') {
    return new BatonError('BATON_IN_USE', 'another program has AF_XDP sockets on it', {
      where,
      cause: error,
    });
  }
  const memory = code === 'ENOBUFS' || code === 'EPERM' || code === 'ENOMEM';
  return new BatonError('BATON_SYSTEM', `cannot open AF_XDP sockets: ${reasonOf(error)}`, {
    where,
    cause: error,
    ...(memory
      ? { hint: 'let the process lock more memory (`ulimit -l unlimited`, LimitMEMLOCK=infinity)' }
      : {}),
  });
}
