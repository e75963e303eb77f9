/** Everything that Baton may change on a machine, to compare before and after. */
import { readdirSync, statSync } from 'node:fs';
import { addressesIn, type Host } from '../farm/host.js';

const SYSCTLS = [
  'net/ipv4/tcp_syncookies',
  'net/ipv4/tcp_rfc1337',
  'net/ipv4/conf/eth0/arp_ignore',
  'net/ipv4/conf/eth0/arp_announce',
  'net/ipv4/conf/all/arp_ignore',
  'net/ipv4/conf/lo/arp_ignore',
];

export interface MachineState {
  addresses: string[];
  filters: string;
  sysctls: string;
  /** Name and mode of the interface's XDP program; '' when there is none. */
  xdp: string;
  /** Directories of pins, and journals, of this machine. */
  kept: string[];
}

/** Where Baton keeps what outlives it. Names end in the inode of the network namespace. */
const KEPT = ['/sys/fs/bpf/baton', '/run/baton'];

/** All questions in one shell: a start of `nsenter` for each would take longer than the answers. */
const questions = (device: string): string =>
  [
    `ip -j -4 addr show dev ${device}`,
    'ip -j -4 addr show dev lo',
    `tc qdisc show dev ${device}`,
    `tc filter show dev ${device} ingress; tc filter show dev ${device} egress`,
    SYSCTLS.map((name) => `echo ${name} $(cat /proc/sys/${name})`).join('; '),
    `ip -j -d link show dev ${device}`,
  ].join(`; echo '${MARK}'; `);
const MARK = '--';

/** @param device the interface whose addresses, filters and XDP program are read, besides lo */
export async function machineState(host: Host, device = 'eth0'): Promise<MachineState> {
  const { stdout } = await host.run('sh', ['-c', questions(device)]);
  const [own = '', lo = '', qdiscs = '', filters = '', sysctls = '', link = ''] = stdout.split(
    `${MARK}\n`,
  );
  return {
    addresses: [...addressesIn(own), ...addressesIn(lo)].sort(),
    filters: `${qdiscs}\n${filters}`,
    sysctls,
    xdp: xdpOf(link),
    kept: keptBy(host),
  };
}

function xdpOf(links: string): string {
  const [link] = JSON.parse(links) as {
    xdp?: { mode: number; prog?: { name?: string; id: number } };
  }[];
  if (link?.xdp === undefined) return '';
  const mode = { 1: 'native', 2: 'generic' }[link.xdp.mode] ?? `mode ${link.xdp.mode}`;
  return `${link.xdp.prog?.name ?? link.xdp.prog?.id}, ${mode}`;
}

function keptBy(host: Host): string[] {
  const inode = String(statSync(`/run/netns/${host.namespace}`).ino);
  return KEPT.flatMap((directory) => {
    let names: string[];
    try {
      names = readdirSync(directory);
    } catch {
      return [];
    }
    return names.filter((name) => name.includes(inode)).map((name) => `${directory}/${name}`);
  });
}
