/** The secret of initial sequence numbers and timestamps. */
import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';

const PURPOSE = 'baton: initial sequence numbers';
/** A random number of each boot. */
const BOOT_ID = '/proc/sys/kernel/random/boot_id';

/**
 * 32 bytes, the same for every process with this key until the machine starts anew: a balancer goes
 * on with handshakes that the one before had begun, also where nothing of that one is left. The
 * clock of cookies begins again at each boot. With the same secret its cookies would come again,
 * too, and those that were seen before would be taken (RFC 6528 section 3). Who has the key could
 * forge far more than these.
 *
 * @param key 16 bytes, that of balancer and nodes
 * @param boot tells this boot of this machine from all others
 */
export function sequenceSecret(
  key: Uint8Array,
  boot = readFileSync(BOOT_ID, 'latin1'),
): Uint8Array {
  return createHmac('sha256', key).update(`${PURPOSE} ${boot}`).digest();
}
