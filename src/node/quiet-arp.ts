/**
 * Keeps a node silent about the virtual addresses that it has on lo: the balancer alone answers ARP
 * for them. The settings are those of Documentation/networking/ip-sysctl.rst; for both the kernel
 * takes the larger of the interface's value and that of `all`.
 */
import { BatonError } from '../base/errors.js';
import type { Journal } from '../host/journal/journal.js';
import { readNumber, Setting } from '../host/sysctl.js';

/** Values of arp_ignore that leave requests for an address on lo unanswered. */
const SILENT = [1, 2, 8];
const ANSWER_OWN_ONLY = 1;
/** arp_announce: never a virtual address as the sender of our own requests. */
const BEST_OWN_ADDRESS = 2;

/**
 * Sets arp_ignore and arp_announce of the interface as far as they do not suffice.
 * @throws BatonError BATON_SYSTEM when the value of `all` gets in the way.
 */
export async function quietArp(journal: Journal, interfaceName: string): Promise<void> {
  const ignoreOfAll = readNumber(Setting.arpIgnore('all'));
  if (ignoreOfAll > ANSWER_OWN_ONLY && !SILENT.includes(ignoreOfAll)) {
    throw new BatonError(
      'BATON_SYSTEM',
      `net.ipv4.conf.all.arp_ignore is ${ignoreOfAll}, with which this machine answers ARP for the virtual addresses`,
      { where: interfaceName, hint: 'set it to 0 or 1' },
    );
  }
  await journal.setting(Setting.arpIgnore(interfaceName), String(ANSWER_OWN_ONLY), (current) =>
    SILENT.includes(Math.max(current, readNumber(Setting.arpIgnore('all')))),
  );
  await journal.setting(
    Setting.arpAnnounce(interfaceName),
    String(BEST_OWN_ADDRESS),
    (current) => Math.max(current, readNumber(Setting.arpAnnounce('all'))) >= BEST_OWN_ADDRESS,
  );
}
