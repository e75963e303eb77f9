/**
 * One process for each role and interface. The lock is a name among the abstract Unix sockets: they
 * belong to the network namespace, as the interface does, and the kernel frees them with the
 * process.
 */
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { BatonError, reasonOf } from '../base/errors.js';

export interface Lock {
  release(): Promise<void>;
}

/** How often a lock that another process holds is tried for, in ms. */
const TRY_MS = 20;

/**
 * Takes the lock.
 * @param patience how long to wait for whoever holds it, in ms
 * @throws BatonError BATON_IN_USE when another process holds it.
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
    // Nobody is to connect: whoever does is sent away.
    const server = createServer((socket) => socket.destroy());
    server.once('error', (error) => {
      const held = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
      const message = held
        ? `another ${role} is running on this interface`
        : `no lock to be had: ${reasonOf(error)}`;
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
