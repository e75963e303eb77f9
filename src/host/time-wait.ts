/**
 * A client may use its port again while the node's old socket is in TIME-WAIT. That state must end
 * for the new connection. If the listener has the virtual server's own address and port, the shim
 * ends it by a SYN (bpf/shim/adopt.h). Otherwise only an RST ends it, and net.ipv4.tcp_rfc1337
 * forbids that.
 */
import type { Journal } from './journal/journal.js';
import { Setting } from './sysctl.js';

const RESETS_END_IT = 0;

/** Switches net.ipv4.tcp_rfc1337 off if it is on. */
export function requireEndOfTimeWait(journal: Journal): Promise<void> {
  return journal.setting(
    Setting.rfc1337,
    String(RESETS_END_IT),
    (current) => current === RESETS_END_IT,
  );
}
