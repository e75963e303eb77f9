/** Sends and receives ARP on an interface for a short time. */
import { type ArpPacket, parseArp } from '../../wire/arp.js';
import { LinkPort } from './link-port.js';

export class ArpPort extends LinkPort {
  /** @param onPacket called with every well-formed ARP packet that arrives, except our own. */
  constructor(interfaceIndex: number, onPacket?: (packet: ArpPacket) => void) {
    const onFrame = (frame: Uint8Array): void => {
      const packet = parseArp(frame);
      if (packet !== undefined) onPacket?.(packet);
    };
    super(interfaceIndex, onPacket === undefined ? undefined : onFrame);
  }
}
