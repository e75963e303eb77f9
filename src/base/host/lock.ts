/**
 * One process for each role and interface. The lock is a name among the abstract Unix sockets: they
 * belong to the network namespace, as the interface does, and the kernel frees them with the process.
 */
import { createServer } from 'node:net';
import { BatonError, reasonOf } from '../errors.js';

export interface Lock {
  release(): Promise<void>;
}

/**
 * Takes the lock.
 * @throws BatonError BATON_IN_USE when another process holds it.
 */
export function takeLock(role: string, interfaceName: string): Promise<Lock> {
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
