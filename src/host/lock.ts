/**
 * A lock that allows one process for each role and interface. The lock is an abstract Unix socket:
 * it belongs to the network namespace, as the interface does, and the kernel frees it when the
 * process ends.
 */
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { BatonError, reasonOf } from '../base/errors.js';

export interface Lock {
  release(): Promise<void>;
}

/** Time between two attempts to take a lock that another process has, in ms. */
const TRY_MS = 20;

/**
 * Takes the lock.
 * @param patience how long to wait for another process to release it, in ms
 * @throws BatonError BATON_IN_USE when another process still has it
 */
export async function takeLock(role: string, interfaceName: string, patience = 0): Promise<Lock> {
  const end = performance.now() + patience;
  for (;;) {
    try {
      return await tryLock(role, interfaceName);
    } catch (error) {
      const held = error instanceof BatonError && error.code === 'BATON_IN_USE';
      if (!held || performance.now() >= end) throw error;
      await delay(TRY_MS);
    }
  }
}

function tryLock(role: string, interfaceName: string): Promise<Lock> {
  return new Promise((resolve, reject) => {
    // The socket is only a name: a process that connects is refused.
    const server = createServer((socket) => socket.destroy());
    server.once('error', (error) => {
      const held = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
      const message = held
        ? `another ${role} is running on this interface`
        : `cannot lock the interface: ${reasonOf(error)}`;
      reject(
        new BatonError(held ? 'BATON_IN_USE' : 'BATON_SYSTEM', message, {
          where: interfaceName,
          cause: error,
          ...(held ? { hint: 'stop it first' } : {}),
        }),
      );
    });
    server.listen(`\0baton-${role}-${interfaceName}`, () => {
      server.unref();
      resolve({ release: () => new Promise((released) => server.close(() => released())) });
    });
  });
}
