/**
 * The virtual addresses on the link: checks that no other machine has one (RFC 5227 section 2.1,
 * RFC 4862 section 5.4), and announces that they are ours now (RFC 5227 section 2.3, RFC 4861
 * section 7.2.6). The waits are shorter than the RFC's, which
 * are meant for hundreds of hosts that start together. The takeover of a server should take less
 * than a second.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { BatonError } from '../../base/errors.js';
import { type Address, formatAddress, isAddress6, UNSPECIFIED } from '../../wire/address.js';
import { ArpOperation, type ArpPacket, buildArpRequest, parseArp } from '../../wire/arp.js';
import { formatMac } from '../../wire/ethernet.js';
import { buildNdpAnnouncement, buildNdpProbe, NdpType, parseNdp } from '../../wire/ndp.js';
import { LinkPort } from './link-port.js';

const PROBES = 3;
const PROBE_INTERVAL_MS = 200;
/** Time to the second announcement, ms, for machines that missed the first (ANNOUNCE_INTERVAL). */
const ANNOUNCE_AGAIN_MS = 2_000;

/**
 * Asks three times in 600 ms whether another machine has one of the addresses, or probes for it
 * too.
 * @param mac of the interface, six bytes
 * @throws BatonError BATON_IN_USE that names the MAC address of that machine
 */
export async function probeAddresses(
  interfaceIndex: number,
  mac: Uint8Array,
  addresses: readonly Address[],
): Promise<void> {
  const wanted = new Set(addresses);
  const own = formatMac(mac);
  const holders = new Map<Address, string>();
  const port = new LinkPort(interfaceIndex, (frame) => {
    const claim = claimIn(frame);
    if (claim === undefined) return;
    const holder = formatMac(claim.mac);
    if (wanted.has(claim.address) && holder !== own) holders.set(claim.address, holder);
  });
  try {
    for (let probe = 0; probe < PROBES && holders.size === 0; probe++) {
      for (const address of wanted) port.send(probeOf(mac, address));
      await delay(PROBE_INTERVAL_MS);
    }
  } finally {
    port.close();
  }
  for (const [address, holder] of holders) {
    throw new BatonError(
      'BATON_IN_USE',
      `${formatAddress(address)} is already in use by ${holder}`,
      {
        hint: `another balancer, or a node that answers ${isAddress6(address) ? 'neighbour solicitations' : 'ARP'} for it`,
      },
    );
  }
}

function probeOf(mac: Uint8Array, address: Address): Uint8Array {
  return isAddress6(address)
    ? buildNdpProbe(mac, address)
    : buildArpRequest(mac, UNSPECIFIED, address);
}

function announcementOf(mac: Uint8Array, address: Address): Uint8Array {
  return isAddress6(address)
    ? buildNdpAnnouncement(mac, address)
    : buildArpRequest(mac, address, address);
}

/**
 * The address that the sender of a frame has, or is about to take; undefined: the frame names none.
 */
function claimIn(frame: Uint8Array): { address: Address; mac: Uint8Array } | undefined {
  const arp = parseArp(frame);
  if (arp !== undefined) return { address: claimOf(arp), mac: arp.senderMac };
  const ndp = parseNdp(frame);
  if (ndp === undefined) return undefined;
  // Any other solicitation comes from a host that looks for the address.
  const claims = ndp.type === NdpType.advertisement || ndp.source === 0n;
  return { address: claims ? ndp.target : ndp.source, mac: ndp.mac };
}

/** The address that the sender of an ARP packet has, or is about to take. */
function claimOf(packet: ArpPacket): Address {
  const probe = packet.operation === ArpOperation.request && packet.senderAddress === UNSPECIFIED;
  return probe ? packet.targetAddress : packet.senderAddress;
}

/** Announces addresses twice, two seconds apart. */
export class Announcer {
  private readonly interfaceIndex: number;
  private readonly mac: Uint8Array;
  /** By timer, the addresses that it announces a second time. */
  private readonly pending = new Map<NodeJS.Timeout, Set<Address>>();

  /** @param mac of the interface, six bytes */
  constructor(interfaceIndex: number, mac: Uint8Array) {
    this.interfaceIndex = interfaceIndex;
    this.mac = mac;
  }

  /**
   * Announces these addresses now and once more. Throws the system's error when a packet socket
   * cannot be opened.
   */
  announce(addresses: readonly Address[]): void {
    this.send(addresses);
    const again = new Set(addresses);
    const timer = setTimeout(() => {
      this.pending.delete(timer);
      try {
        this.send([...again]);
      } catch {
        // The interface has disappeared meanwhile. InterfaceWatch reports this.
      }
    }, ANNOUNCE_AGAIN_MS);
    timer.unref();
    this.pending.set(timer, again);
  }

  /** This address is ours no longer: it must not be announced again. */
  forget(address: Address): void {
    for (const again of this.pending.values()) again.delete(address);
  }

  stop(): void {
    for (const timer of this.pending.keys()) clearTimeout(timer);
    this.pending.clear();
  }

  private send(addresses: readonly Address[]): void {
    if (addresses.length === 0) return;
    const port = new LinkPort(this.interfaceIndex);
    try {
      for (const address of addresses) port.send(announcementOf(this.mac, address));
    } finally {
      port.close();
    }
  }
}
