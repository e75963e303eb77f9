/** The secret of initial sequence numbers and timestamps. */
import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';

const PURPOSE = 'baton: initial sequence numbers';
/** A random number that the kernel makes at each boot. */
const BOOT_ID = '/proc/sys/kernel/random/boot_id';

/**
 * The secret of this boot, 32 bytes: the same for every process with this key until the machine
 * restarts. So a balancer can complete handshakes that an earlier process began, even if nothing
 * else of that process is left. The secret must change at each boot, because the clock of cookies
 * begins again: with the same secret the same cookies would be made and old ones accepted (RFC 6528
 * section 3). Anybody who has the key could forge far more than cookies.
 *
 * @param key 16 bytes, shared by balancer and nodes
 * @param boot identifies this boot of this machine
 */
export function sequenceSecret(
  key: Uint8Array,
  boot = readFileSync(BOOT_ID, 'latin1'),
): Uint8Array {
  return createHmac('sha256', key).update(`${PURPOSE} ${boot}`).digest();
}
