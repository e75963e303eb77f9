/** Chooses the datapath of a balancer: XDP if possible, else AF_PACKET rings. */
import { BatonError, reasonOf } from '../../base/errors.js';
import { offeredWindow, WINDOW_SHIFT } from '../../engine/syn-ack-options.js';
import type { Journal } from '../../host/journal/journal.js';
import { hasPins, pinName } from '../../host/pins.js';
import { hasXdp } from '../../host/xdp.js';
import { formatAddress, isAddress6 } from '../../wire/address.js';
import { forwardSizes } from '../forward/sizes.js';
import type { ServerSlot } from '../objects/farm.js';
import type { Secrets } from '../threads/engine-messages.js';
import { shareOfLimits } from '../threads/limits.js';
import type { MachineInterfaces } from './interfaces.js';
import type { MachineOptions } from './options.js';
import { requireForwarded } from './preflight.js';
import { XdpProgram } from './xdp-program.js';

/** The machine so far. */
export interface Prepared {
  interfaces: MachineInterfaces;
  /** The XDP program of an earlier run is attached. */
  foundEarlier: boolean;
  seeds: Secrets['seeds'];
  journal: Journal;
}

/**
 * Opens the XDP program if the config asks for it, or allows it and the machine can do it.
 * @returns undefined: the datapath is packet
 * @throws BatonError when the config insists on XDP, or sessions of an earlier run need it, and it
 *   cannot be opened; BATON_IN_USE when the config rules out XDP and such sessions need it
 */
export async function openXdpIfChosen(
  options: MachineOptions,
  prepared: Prepared,
): Promise<XdpProgram | undefined> {
  const { datapath, log } = options;
  const { index } = prepared.interfaces.clients.info;
  if (datapath !== 'packet') {
    try {
      return await openXdp(options, prepared);
    } catch (error) {
      const known = error instanceof BatonError;
      if (prepared.foundEarlier) throw keepsForwarding(options, error);
      if (datapath === 'xdp') throw known ? error : noXdp(options, error);
      log.warn(
        `datapath packet, because XDP is not available: ${known ? error.toLine() : reasonOf(error)}`,
      );
    }
  }
  requireForwarded(options, index);
  // What an earlier run with XDP left is removed when the addresses are taken.
  const pins = pinName(options.interface);
  if (hasXdp(index)) prepared.journal.addLeftover({ kind: 'xdp', mode: 'native' });
  if (hasPins(pins)) prepared.journal.addLeftover({ kind: 'pins', name: pins });
  return undefined;
}

async function openXdp(
  options: MachineOptions,
  { interfaces, seeds, journal }: Prepared,
): Promise<XdpProgram> {
  const { datapath, limits, log, workers } = options;
  const { clients, nodes, own } = interfaces;
  const xdp = await XdpProgram.open(
    {
      ...options,
      info: clients.info,
      nodeInterface: nodes,
      own,
      limits: shareOfLimits(limits, workers),
      forward: forwardSizes(options.farm.servers, limits.sessions),
      seeds,
      mtu: Math.min(clients.info.mtu, nodes?.info.mtu ?? clients.info.mtu),
      offer: {
        window: offeredWindow(limits.headBytes),
        windowShift: WINDOW_SHIFT,
      },
      warn: (message) => log.warn(message),
    },
    journal,
  );
  const line = `datapath xdp (${xdp.how})${xdp.why === '' ? '' : `: ${xdp.why}`}`;
  if (xdp.why !== '' && datapath === 'xdp') log.warn(line);
  else log.info(line);
  return xdp;
}

/**
 * Memory for the addresses of IPv6 clients is made at the start, and only if it is needed then.
 * @throws BatonError BATON_CONFIG when there is none and a virtual server has an IPv6 address
 */
export function requireIpv4(servers: readonly ServerSlot[]): void {
  const server = servers.find(({ address }) => isAddress6(address));
  if (server === undefined) return;
  throw new BatonError(
    'BATON_CONFIG',
    `virtual server ${server.name} has the IPv6 address ${formatAddress(server.address)}, and no virtual server had one when the balancer started`,
    { hint: 'start another balancer with `--replace`, which keeps the sessions' },
  );
}

/** The program of an earlier run forwards sessions: it stays until another takes its place. */
function keepsForwarding(options: MachineOptions, error: unknown): BatonError {
  return new BatonError(
    error instanceof BatonError ? error.code : 'BATON_SYSTEM',
    `XDP cannot be opened: ${reasonOf(error)}; the program of an earlier run stays, and keeps forwarding`,
    {
      where: options.interface,
      hint: 'fix this and start again, or end its sessions first: `baton balancer --detach-all`',
      cause: error,
    },
  );
}

function noXdp(options: MachineOptions, error: unknown): BatonError {
  return new BatonError('BATON_SYSTEM', `XDP is not available: ${reasonOf(error)}`, {
    where: options.interface,
    hint: '`datapath: auto` goes on without it',
    cause: error,
  });
}
