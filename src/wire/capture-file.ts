/** Opens a capture file of any known format. */
import { type CaptureReader, isPcap, PcapReader } from './pcap.js';
import { isPcapng, PcapngReader } from './pcapng.js';

/** A reader for the file in `bytes`, or undefined when it is neither pcap nor pcapng. */
export function openCapture(bytes: Uint8Array): CaptureReader | undefined {
  if (isPcapng(bytes)) return new PcapngReader(bytes);
  if (isPcap(bytes)) return new PcapReader(bytes);
  return undefined;
}
