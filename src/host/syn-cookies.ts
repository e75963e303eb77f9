/** The kernel builds a socket from an acknowledgement only where SYN cookies are on. */
import type { HostState } from './journal/journal.js';
import { Setting } from './sysctl.js';

const WHEN_NEEDED = 1;

/** Switches SYN cookies on (net.ipv4.tcp_syncookies) where they are off. */
export function requireSynCookies(state: HostState): Promise<void> {
  return state.setting(
    Setting.synCookies,
    String(WHEN_NEEDED),
    (current) => current >= WHEN_NEEDED,
  );
}
