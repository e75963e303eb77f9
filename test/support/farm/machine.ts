/** What Baton may change on a machine, as text to compare before and after. */
import type { Host } from './host.js';

const SYSCTLS = [
  'net/ipv4/tcp_syncookies',
  'net/ipv4/conf/eth0/arp_ignore',
  'net/ipv4/conf/eth0/arp_announce',
  'net/ipv4/conf/all/arp_ignore',
  'net/ipv4/conf/lo/arp_ignore',
];

export interface MachineState {
  addresses: string[];
  filters: string;
  sysctls: string;
}

export async function machineState(host: Host): Promise<MachineState> {
  const [eth0, lo, qdiscs, ingress, egress, sysctls] = await Promise.all([
    host.addresses('eth0'),
    host.addresses('lo'),
    host.run('tc', ['qdisc', 'show', 'dev', 'eth0']),
    host.run('tc', ['filter', 'show', 'dev', 'eth0', 'ingress'], { allowFailure: true }),
    host.run('tc', ['filter', 'show', 'dev', 'eth0', 'egress'], { allowFailure: true }),
    host.run('sh', ['-c', SYSCTLS.map((name) => `echo ${name} $(cat /proc/sys/${name})`).join('; ')]),
  ]);
  return {
    addresses: [...eth0, ...lo].sort(),
    filters: [qdiscs.stdout, ingress.stdout, egress.stdout].join('\n'),
    sysctls: sysctls.stdout,
  };
}
