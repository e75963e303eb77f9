/**
 * Finds the processes that listen on this machine. A process that is bound to the address and port
 * of a virtual server would never see a client, because the guard drops its frames. The start
 * reports this instead.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { BatonError } from '../../base/errors.js';
import {
  type Address,
  type Address4,
  type Endpoint,
  formatAddress,
  formatEndpoint,
  isAddress6,
  toAddress,
  toAddress6,
  UNSPECIFIED,
} from '../../wire/address.js';
import type { FarmSlots, ServerSlot } from '../objects/farm.js';
import { hasLocalNode } from './local-node.js';

/** The state of a listening socket in /proc/net/tcp. */
const LISTEN = '0A';
const ANY_IPV6 = '0'.repeat(32);
/** ::ffff:0:0/96 as the kernel prints it: words in host byte order. */
const MAPPED = /^0{16}(?:0000FFFF|FFFF0000)([0-9A-F]{8})$/;

export interface ListeningSocket {
  /** undefined: every IPv6 address. */
  address: Address | undefined;
  port: number;
  inode: string;
}

/**
 * The listening sockets in the text of /proc/net/tcp or tcp6.
 */
export function parseListening(text: string): ListeningSocket[] {
  const found: ListeningSocket[] = [];
  for (const line of text.split('\n').slice(1)) {
    const fields = line.trim().split(/\s+/);
    const [address, port] = (fields[1] ?? '').split(':');
    if (fields[3] !== LISTEN || address === undefined || port === undefined) continue;
    const socket = { port: Number.parseInt(port, 16), inode: fields[9] ?? '' };
    const mapped = MAPPED.exec(address)?.[1];
    if (address === ANY_IPV6) found.push({ address: undefined, ...socket });
    else if (mapped !== undefined) found.push({ address: addressOf(mapped), ...socket });
    else if (address.length === 8) found.push({ address: addressOf(address), ...socket });
    else {
      const words = (address.match(/.{8}/g) ?? []).map(addressOf);
      if (words.length === 4) found.push({ address: toAddress6(words), ...socket });
    }
  }
  return found;
}

function addressOf(word: string): Address4 {
  // The kernel prints the word in host byte order. Its bytes are in network byte order.
  const bytes = Uint32Array.of(Number.parseInt(word, 16)).buffer;
  return toAddress(new DataView(bytes).getUint32(0));
}

/**
 * Requires that no process listens on the address and port of a virtual server. Where the balancer
 * is a node, its web server does, and gets what is handed to it.
 * @throws BatonError BATON_IN_USE that names the process
 */
export async function requireNoListener(
  all: readonly (Endpoint & Pick<ServerSlot, 'name' | 'mode' | 'transport' | 'ports'>)[],
  nodes: FarmSlots['nodes'],
): Promise<void> {
  if (hasLocalNode({ nodes })) return;
  // Whoever forwards a range, or UDP, means the virtual address alone, and not this machine's own
  // services at the same ports.
  const servers = all.filter(({ mode, transport, ports: [first, ...others] }) => {
    const isOne = others.length === 0 && first?.from === first?.to;
    return mode === 'handoff' || (transport === 'tcp' && isOne);
  });
  const sockets = ['/proc/net/tcp', '/proc/net/tcp6'].flatMap((file) =>
    parseListening(readIfThere(file)),
  );
  for (const server of servers) {
    const { name, address, port } = server;
    const same = sockets.filter((socket) => socket.port === port);
    const ipv4 = same.filter((socket) => typeof socket.address === 'number');
    const any = isAddress6(address) ? undefined : UNSPECIFIED;
    let taken = same.find((socket) => socket.address === address || socket.address === any);
    const every = isAddress6(address) ? undefined : same.find((one) => one.address === undefined);
    // /proc does not say whether a socket for all IPv6 addresses accepts IPv4 too: a bind shows it.
    if (taken === undefined && ipv4.length === 0 && every !== undefined && !(await isFree(port)))
      taken = every;
    if (taken === undefined) continue;
    const where = taken.address === address ? formatAddress(address) : 'every address';
    throw new BatonError(
      'BATON_IN_USE',
      `port ${port} of ${where} is already bound by ${holderOf(taken.inode)}, and virtual server ${name} is ${formatEndpoint(server)}`,
      { hint: "stop it, or bind it to the machine's own address" },
    );
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy());
    server.once('error', () => resolve(false));
    server.listen({ host: formatAddress(UNSPECIFIED), port }, () =>
      server.close(() => resolve(true)),
    );
  });
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    // A kernel without IPv6 has no tcp6.
    return '';
  }
}

/** The process that has the socket open: "nginx (process 123)". */
function holderOf(inode: string): string {
  const wanted = `socket:[${inode}]`;
  for (const process of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const files = readdirSync(`/proc/${process}/fd`);
      if (!files.some((file) => linkOf(`/proc/${process}/fd/${file}`) === wanted)) continue;
      return `${readFileSync(`/proc/${process}/comm`, 'utf8').trim()} (process ${process})`;
    } catch {
      // The process has ended meanwhile.
    }
  }
  return 'another process';
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}
