/**
 * The farm as an engine sees it: nodes and virtual servers in numbered slots. Session records name
 * both by slot. So nothing is ever renumbered: an engine takes another farm between two batches,
 * and sessions do not notice.
 */

import { BatonError } from '../base/errors.js';
import type { Address6 } from '../wire/address.js';
import { CARRY_BYTES } from '../wire/ixp.js';
import type { Timeouts } from './options.js';

/** An address of either family. IPv4 is an unsigned 32-bit number. */
export type AnyAddress = number | Address6;

/** The number by which tables know an address: the alias of an IPv6 address (wire/alias.ts). */
export type NumberOf = (address: AnyAddress) => number;

/**
 * For farms without IPv6.
 * @throws BatonError BATON_CONFIG for an IPv6 address
 */
export function onlyIpv4(address: AnyAddress): number {
  if (typeof address === 'number') return address;
  throw new BatonError('BATON_CONFIG', 'an IPv6 address needs the key of aliases');
}

/** A node in its slot. */
export interface NodeAt {
  readonly slot: number;
  readonly address: AnyAddress;
  /** It gets no new sessions; those that it has go on. */
  readonly retired: boolean;
  /** How packets get there. Absent: `link`. */
  readonly via?: Via;
}

export const VIAS = ['link', 'ixp'] as const;
/** How packets get to a node: on its link, or carried in packets to its own address. */
export type Via = (typeof VIAS)[number];

/** By how many bytes packets to a node grow. */
export function carryBytes(via: Via | undefined): number {
  return via === 'ixp' ? CARRY_BYTES : 0;
}

/** The same of all nodes: the largest. */
export function mostCarryBytes(nodes: readonly { readonly via?: Via }[]): number {
  return nodes.reduce((most, { via }) => Math.max(most, carryBytes(via)), 0);
}

/** How a node gets a connection: after a handshake and a look-up, or by its first packet. */
export const Mode = { handoff: 0, forward: 1 } as const;
/** Where the later requests of a connection go. */
export const KeepAlive = { sticky: 0, migrate: 1 } as const;
/** Which requests get another node when theirs fails: those that may be repeated, or all. */
export const Retry = { safe: 0, all: 1 } as const;

/** A virtual server in its slot. What is absent is 0. */
export interface ServerAt {
  readonly slot: number;
  readonly address: AnyAddress;
  /** The only port of the mode handoff; the lowest of others. */
  readonly port: number;
  /** One of `Mode`. */
  readonly mode?: number;
  /** One of `Protocol` (directory/dispatcher.ts). */
  readonly protocol?: number;
  /** One of `KeepAlive`. */
  readonly keepAlive?: number;
  /** One of `Retry`. */
  readonly retry?: number;
  /** With Protocol.tcp: how long to wait for the client's first bytes, in ms. */
  readonly firstBytes?: number;
  /** It is closed to new connections; its sessions go on. */
  readonly retired: boolean;
  /** With Mode.forward: its IP protocol number. */
  readonly transport?: number;
  /** With Mode.forward: its ports in ascending order. */
  readonly ports?: readonly { readonly from: number; readonly to: number }[];
}

export interface EngineFarm {
  readonly nodes: readonly NodeAt[];
  readonly servers: readonly ServerAt[];
  readonly timeouts: Timeouts;
}

/** Each entry in the slot of its place in the list, and none retired. */
export function inSlots<Entry>(
  entries: readonly Entry[],
): (Entry & { slot: number; retired: boolean })[] {
  return entries.map((entry, slot) => ({ ...entry, slot, retired: false }));
}

/**
 * A slot may be freed, or taken by another address, only when nothing names it any more.
 *
 * @param what for example "node"
 * @param retired whether its present owner gets no new sessions
 * @param held sessions of this engine that name it
 * @throws BatonError BATON_IN_USE
 */
export function requireUnused(what: string, slot: number, retired: boolean, held: number): void {
  if (retired && held === 0) return;
  const why = retired ? `${held} sessions still have it` : 'it is not retired';
  throw new BatonError('BATON_IN_USE', `the slot ${slot} of a ${what} cannot be freed: ${why}`);
}
