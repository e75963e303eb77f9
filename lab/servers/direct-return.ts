/**
 * Makes a node as balancers with direct return have always wanted it: without an agent of Baton.
 */
import type { Host } from '../farm/host.js';

/**
 * Adds the virtual address to the loopback interface, where nobody is told of it by ARP
 * (ip-sysctl: arp_ignore, arp_announce).
 */
export async function addVirtualAddress(host: Host, address: string): Promise<void> {
  const quiet = 'echo 1 > arp_ignore && echo 2 > arp_announce';
  await host.run('sh', ['-c', `cd /proc/sys/net/ipv4/conf/all && ${quiet}`]);
  await host.run('ip', ['address', 'add', `${address}/32`, 'dev', 'lo']);
}
