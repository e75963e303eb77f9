/** The network interface that Baton works on: that it is there, and is one that it can work on. */
import { readFileSync } from 'node:fs';
import { BatonError } from '../base/errors.js';
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
 * An interface that frames can be sent and received on.
 * @throws BatonError BATON_INTERFACE when it is not there, is down, or is no Ethernet.
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
    return refuse('no such interface', `there are ${interfaceNames().join(', ')}`);
  if (info.loopback)
    refuse('the loopback interface, expected one that other machines are reached by');
  if (info.mac.length !== MAC_BYTES || info.mac.every((byte) => byte === 0)) {
    refuse('has no MAC address, expected an Ethernet interface');
  }
  if (!info.up) refuse('the interface is down', `\`ip link set ${name} up\` brings it up`);
  return info;
}

/**
 * Makes sure that the loopback interface works: addresses on it are local only while it is up.
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
 * Our own address on an interface: `wanted`, or its first one that is not among `others`.
 * @throws BatonError BATON_INTERFACE when it has none.
 */
export function ownAddress(
  name: string,
  info: InterfaceInfo,
  wanted: string | undefined,
  others: readonly string[],
): string {
  const own = info.addresses
    .map((entry) => entry.address)
    .filter((address) => !others.includes(address));
  if (wanted !== undefined) {
    if (own.includes(wanted)) return wanted;
    const has = own.length === 0 ? 'no address of its own' : own.join(', ');
    throw new BatonError('BATON_INTERFACE', `has not the address ${wanted}`, {
      where: name,
      hint: `it has ${has}`,
    });
  }
  const first = own[0];
  if (first === undefined) {
    throw new BatonError('BATON_INTERFACE', 'has no IPv4 address of its own', {
      where: name,
      hint: `\`ip address add ADDRESS/PREFIX dev ${name}\` gives it one`,
    });
  }
  return first;
}
