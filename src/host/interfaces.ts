/** Network interfaces: checks that Baton can work on one, and finds its addresses. */
import { readFileSync } from 'node:fs';
import { BatonError } from '../base/errors.js';
import {
  type Address,
  type Address4,
  formatAddress,
  formatNodeAddress,
  isAddress6,
  type OwnAddresses,
  ownTowards,
} from '../wire/address.js';
import { type InterfaceInfo, native } from './native.js';

export const LOOPBACK = 'lo';
const MAC_BYTES = 6;

/** Names of all interfaces of this network namespace, in the kernel's order. */
export function interfaceNames(): string[] {
  const lines = readFileSync('/proc/net/dev', 'utf8').split('\n').slice(2);
  return lines
    .map((line) => line.slice(0, Math.max(0, line.indexOf(':'))).trim())
    .filter((name) => name !== '');
}

/**
 * An interface that can send and receive Ethernet frames.
 * @throws BatonError BATON_INTERFACE when it does not exist, is down, or is not an Ethernet
 *   interface
 */
export function requireInterface(name: string): InterfaceInfo {
  const refuse = (message: string, hint?: string): never => {
    throw new BatonError('BATON_INTERFACE', message, {
      where: name,
      ...(hint === undefined ? {} : { hint }),
    });
  };
  const info = native().interfaceInfo(name);
  if (info === undefined)
    return refuse('no such interface', `this machine has ${interfaceNames().join(', ')}`);
  if (info.loopback)
    refuse('is the loopback interface; name an interface that reaches other machines');
  if (info.mac.length !== MAC_BYTES || info.mac.every((byte) => byte === 0)) {
    refuse('has no MAC address; name an Ethernet interface');
  }
  if (!info.up) refuse('the interface is down', `\`ip link set ${name} up\` brings it up`);
  return info;
}

/**
 * Requires that the loopback interface is up. While it is down, its addresses are not local.
 * @throws BatonError BATON_INTERFACE
 */
export function requireLoopback(): void {
  if (native().interfaceInfo(LOOPBACK)?.up === true) return;
  throw new BatonError('BATON_INTERFACE', 'the loopback interface is down', {
    where: LOOPBACK,
    hint: `\`ip link set ${LOOPBACK} up\` brings it up`,
  });
}

/**
 * This machine's own addresses on an interface, one of each family: `wanted`, and else the first
 * that is not in `others`.
 * @param peers each of them is reached from an address of its own family
 * @throws BatonError BATON_INTERFACE when the interface lacks an address that is wanted or needed
 */
export function ownAddresses(
  name: string,
  info: InterfaceInfo,
  wanted: Address | undefined,
  others: readonly Address[],
  peers: readonly Address[],
): OwnAddresses {
  const own = info.addresses
    .map((entry) => entry.address)
    .filter((address) => !others.includes(address));
  if (wanted !== undefined && !own.includes(wanted)) {
    const has = own.length === 0 ? 'no address of its own' : own.map(formatAddress).join(', ');
    throw new BatonError('BATON_INTERFACE', `does not have the address ${formatAddress(wanted)}`, {
      where: name,
      hint: `it has ${has}`,
    });
  }
  const choices = wanted === undefined ? own : [wanted, ...own];
  const found: OwnAddresses = {
    ipv4: choices.find((address): address is Address4 => !isAddress6(address)),
    ipv6: choices.find(isAddress6),
  };
  requireTowards(name, found, peers);
  return found;
}

/**
 * Requires that a machine has an address of its own of the family of each of these.
 * @throws BatonError BATON_INTERFACE
 */
export function requireTowards(name: string, own: OwnAddresses, peers: readonly Address[]): void {
  const unreached = peers.find((peer) => ownTowards(own, peer) === undefined);
  if (unreached === undefined && (own.ipv4 ?? own.ipv6) !== undefined) return;
  const family = unreached !== undefined && isAddress6(unreached) ? 'IPv6' : 'IPv4';
  const why = unreached === undefined ? '' : `, which ${formatNodeAddress(unreached)} needs`;
  throw new BatonError('BATON_INTERFACE', `has no ${family} address of its own${why}`, {
    where: name,
    hint: `\`ip address add ADDRESS/PREFIX dev ${name}\` adds one`,
  });
}
