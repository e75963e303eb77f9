/** The secret of initial sequence numbers and timestamps. */
import { createHmac } from 'node:crypto';

const PURPOSE = 'baton: initial sequence numbers';

/**
 * 32 bytes, the same for every process with this key: a balancer that starts anew goes on with handshakes that the
 * one before had begun, also where nothing of that one is left. Who has the key could forge far more than these.
 * @param key 16 bytes, that of balancer and nodes
 */
export function sequenceSecret(key: Uint8Array): Uint8Array {
  return createHmac('sha256', key).update(PURPOSE).digest();
}
