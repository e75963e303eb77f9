/** Addresses and routes of this network namespace: lists, adds and removes them. */
import { readFileSync } from 'node:fs';
import { BatonError, reasonOf } from '../base/errors.js';
import { type Address, formatAddress, isAddress6, parseAddress } from '../wire/address.js';
import { runTool, runToolJson } from './command.js';
import { type Ipv4Address, native } from './native.js';

export type HostAddress = Ipv4Address;

/** One line for each IPv6 address: address, index, prefix length, scope, flags, interface. */
const IPV6_FILE = '/proc/net/if_inet6';

/**
 * Every address of every interface. Callers poll this list, so no tool is run for it.
 * @throws BatonError BATON_SYSTEM when the kernel does not provide it
 */
export function listAddresses(): HostAddress[] {
  try {
    return [...native().ipv4Addresses(), ...parseIpv6Addresses(ipv6Lines())];
  } catch (error) {
    const why = `cannot read the addresses of this machine: ${reasonOf(error)}`;
    throw new BatonError('BATON_SYSTEM', why, { cause: error });
  }
}

function ipv6Lines(): string {
  try {
    return readFileSync(IPV6_FILE, 'latin1');
  } catch {
    // A kernel without IPv6 has no such file.
    return '';
  }
}

/** The addresses in the text of /proc/net/if_inet6. */
export function parseIpv6Addresses(text: string): HostAddress[] {
  return text.split('\n').flatMap((line) => {
    const [digits = '', , prefix = '', , , name] = line.trim().split(/\s+/);
    const groups = digits.match(/[0-9a-f]{4}/g) ?? [];
    const address = parseAddress(groups.join(':'));
    if (address === undefined || name === undefined) return [];
    return [{ interface: name, address, prefix: Number.parseInt(prefix, 16) }];
  });
}

/**
 * What `ip address add` needs for an IPv6 address of ours: no probe of the kernel's own, because
 * ours was first; and deprecated, so that nothing on this machine chooses it as the source of its
 * own connections (RFC 6724 section 5, rule 3).
 */
const IPV6_OPTIONS = ['nodad', 'preferred_lft', '0'];

/** Whether both are the same address of the same interface. */
export function sameAddress(one: HostAddress, other: HostAddress): boolean {
  return (
    one.interface === other.interface &&
    one.address === other.address &&
    one.prefix === other.prefix
  );
}

/** Whether the interface has exactly this address with this prefix length. */
export function hasAddress(wanted: HostAddress): boolean {
  return listAddresses().some((entry) => sameAddress(entry, wanted));
}

/** Adds an address, unless it is there already. Throws BatonError BATON_SYSTEM. */
export async function addAddress(wanted: HostAddress): Promise<void> {
  if (hasAddress(wanted)) return;
  await runTool('ip', [
    'address',
    'add',
    `${formatAddress(wanted.address)}/${wanted.prefix}`,
    'dev',
    wanted.interface,
    ...(isAddress6(wanted.address) ? IPV6_OPTIONS : []),
  ]);
}

/** Removes an address. False when it was not there. Throws BatonError BATON_SYSTEM. */
export async function removeAddress(unwanted: HostAddress): Promise<boolean> {
  if (!hasAddress(unwanted)) return false;
  await runTool('ip', [
    'address',
    'del',
    `${formatAddress(unwanted.address)}/${unwanted.prefix}`,
    'dev',
    unwanted.interface,
  ]);
  return true;
}

/** How this machine sends to an address. */
export interface Route {
  interface: string;
  /** The next router. Undefined: the address is on the interface's own link. */
  gateway: Address | undefined;
  /** The source address of packets on this route. */
  source: Address | undefined;
}

/**
 * The route to an address. Undefined when there is none, or when its next router is no IPv4 address
 * and so unknown here.
 */
export async function routeTo(address: Address): Promise<Route | undefined> {
  let entries: Record<string, unknown>[];
  try {
    entries = await runToolJson('ip', [
      isAddress6(address) ? '-6' : '-4',
      'route',
      'get',
      formatAddress(address),
    ]);
  } catch {
    // The tool fails when there is no route.
    return undefined;
  }
  const entry = entries[0];
  if (entry === undefined || typeof entry.dev !== 'string') return undefined;
  const gateway = addressIn(entry.gateway);
  if (entry.gateway !== undefined && gateway === undefined) return undefined;
  return { interface: entry.dev, gateway, source: addressIn(entry.prefsrc) };
}

function addressIn(value: unknown): Address | undefined {
  return typeof value === 'string' ? parseAddress(value) : undefined;
}
