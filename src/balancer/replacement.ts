/** `baton balancer --replace`: a new balancer takes the place of one that runs. */
import { ControlClient } from '../api/client.js';
import { BatonError } from '../base/errors.js';
import type { Log } from '../base/log.js';

/**
 * Asks the balancer that has the control socket to leave.
 * @throws BatonError BATON_IN_USE when it works on another interface: it is not the one to be
 *   replaced
 */
export async function askToLeave(
  { controlSocket, interface: name }: { controlSocket: string; interface: string },
  log: Log,
): Promise<void> {
  const client = new ControlClient(controlSocket);
  // A balancer of another version may answer in another form. It is replaced all the same.
  const there = await client.stats().catch(() => undefined);
  if (there !== undefined && there.interface !== name) {
    throw new BatonError(
      'BATON_IN_USE',
      `the balancer there works on ${there.interface}, not on ${name}`,
      {
        where: `control socket ${controlSocket}`,
        hint: 'set another controlSocket for this balancer',
      },
    );
  }
  if (!(await client.leave())) log.info('no balancer to replace', { controlSocket });
}
