/** Listening on an address and a port of the config. */
import type { Server } from 'node:net';
import { BatonError, reasonOf } from '../base/errors.js';
import { type Endpoint, formatAddress, formatEndpoint } from '../wire/address.js';

/**
 * Resolves when `server` listens.
 * @param key of the config, for messages, such as "api.listen"
 * @throws BatonError BATON_IN_USE when the port is taken; BATON_SYSTEM when it is not possible to
 *   listen there
 */
export async function listen(server: Server, endpoint: Endpoint, key: string): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: formatAddress(endpoint.address), port: endpoint.port }, () => {
        server.off('error', reject);
        resolve();
      });
    });
  } catch (error) {
    const where = `${key} ${formatEndpoint(endpoint)}`;
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EADDRINUSE') {
      throw new BatonError('BATON_IN_USE', 'this port is taken', {
        where,
        hint: '`ss -ltnp` shows by which process: stop it, or set another port; a port of this balancer is free after a reload without it',
        cause: error,
      });
    }
    if (code === 'EADDRNOTAVAIL') {
      throw new BatonError('BATON_SYSTEM', 'this machine does not have this address', {
        where,
        hint: '`ip address` shows those that it has',
        cause: error,
      });
    }
    throw new BatonError('BATON_SYSTEM', `cannot listen there: ${reasonOf(error)}`, {
      where,
      cause: error,
    });
  }
}
