/** The kernel builds a socket from an acknowledgement only if SYN cookies are on. */
import type { Journal } from './journal/journal.js';
import { Setting } from './sysctl.js';

const WHEN_NEEDED = 1;

/** Switches SYN cookies on (net.ipv4.tcp_syncookies) if they are off. */
export function requireSynCookies(journal: Journal): Promise<void> {
  return journal.setting(
    Setting.synCookies,
    String(WHEN_NEEDED),
    (current) => current >= WHEN_NEEDED,
  );
}
