/**
 * Stops a node from answering ARP for the virtual addresses on its lo: only the balancer answers
 * for them. Documentation/networking/ip-sysctl.rst describes both settings. For each of them the
 * kernel uses the larger of the values of the interface and of `all`.
 */
import { BatonError } from '../base/errors.js';
import type { Journal } from '../host/journal/journal.js';
import { readNumber, Setting } from '../host/sysctl.js';

/** Values of arp_ignore with which the kernel does not answer for an address on lo. */
const SILENT = [1, 2, 8];
const ANSWER_OWN_ONLY = 1;
/** arp_announce: our own requests never have a virtual address as their sender. */
const BEST_OWN_ADDRESS = 2;

/**
 * Sets arp_ignore and arp_announce of the interface, unless their values already suffice.
 * @throws BatonError BATON_SYSTEM when the value of `all` makes that impossible
 */
export async function quietArp(journal: Journal, interfaceName: string): Promise<void> {
  const ignoreOfAll = readNumber(Setting.arpIgnore('all'));
  if (ignoreOfAll > ANSWER_OWN_ONLY && !SILENT.includes(ignoreOfAll)) {
    throw new BatonError(
      'BATON_SYSTEM',
      `net.ipv4.conf.all.arp_ignore is ${ignoreOfAll}, so this machine answers ARP for the virtual addresses`,
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
