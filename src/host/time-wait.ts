/**
 * A client that uses its port again must find room for its new connection. Where a listener has the
 * virtual server's own address and port, the shim ends the old socket's TIME_WAIT by a SYN
 * (bpf/shim/adopt.h). Elsewhere only an RST can end it, which net.ipv4.tcp_rfc1337 forbids.
 */
import type { Journal } from './journal/journal.js';
import { Setting } from './sysctl.js';

const RESETS_END_IT = 0;

/** Switches net.ipv4.tcp_rfc1337 off where it is on. */
export function requireEndOfTimeWait(journal: Journal): Promise<void> {
  return journal.setting(
    Setting.rfc1337,
    String(RESETS_END_IT),
    (current) => current === RESETS_END_IT,
  );
}
