/** Network interfaces: checks that Baton can work on one, and finds its address. */
import { readFileSync } from 'node:fs';
import { BatonError } from '../base/errors.js';
import { type Address, formatAddress } from '../wire/address.js';
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
 * This machine's own address on an interface: `wanted`, or else the first that is not in `others`.
 * @throws BatonError BATON_INTERFACE when the interface has no such address
 */
export function ownAddress(
  name: string,
  info: InterfaceInfo,
  wanted: Address | undefined,
  others: readonly Address[],
): Address {
  const own = info.addresses
    .map((entry) => entry.address)
    .filter((address) => !others.includes(address));
  if (wanted !== undefined) {
    if (own.includes(wanted)) return wanted;
    const has = own.length === 0 ? 'no address of its own' : own.map(formatAddress).join(', ');
    throw new BatonError('BATON_INTERFACE', `does not have the address ${formatAddress(wanted)}`, {
      where: name,
      hint: `it has ${has}`,
    });
  }
  const first = own[0];
  if (first === undefined) {
    throw new BatonError('BATON_INTERFACE', 'has no IPv4 address of its own', {
      where: name,
      hint: `\`ip address add ADDRESS/PREFIX dev ${name}\` adds one`,
    });
  }
  return first;
}
