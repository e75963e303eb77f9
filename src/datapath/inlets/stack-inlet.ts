/**
 * Segments larger than a frame of the wire, for which AF_XDP has no room: the XDP program on the
 * clients' interface passes them to the network stack, and they reach the engine here. Frames for
 * this machine itself, where it is a node, leave here, because AF_XDP passes no program at tc
 * egress.
 */
import type { Native } from '../../host/native.js';
import { Protocol } from '../../wire/ipv4.js';
import { TapKind } from '../../wire/tap-record.js';
import { FrameFlags, type FrameMemory } from '../datapath.js';
import type { Admitter } from './inlet.js';
import { type InletOptions, type InletSizes, PacketInlet } from './packet-inlet.js';

/**
 * 1 MiB, for the few frames that come here where the wire cuts segments. A block with any frame in
 * it is handed over after 2 ms: there are enough blocks for a quarter of a second without the
 * engine. Nothing is sent here, so the ring has the fewest slots that it takes.
 */
const SMALL: InletSizes = {
  receiveBlocks: 128,
  receiveBlockBytes: 8_192,
  transmitSlots: 32,
  transmitSlotBytes: 2_048,
  retireMs: 2,
};
/**
 * Where senders leave the cutting to hardware. 8 MiB: each block has room for a segment of 64 KiB,
 * and a client's long head waits no longer than it must.
 */
const FOR_UNCUT: InletSizes = {
  ...SMALL,
  receiveBlocks: 64,
  receiveBlockBytes: 131_072,
  retireMs: 1,
};

export class StackInlet extends PacketInlet {
  private readonly memory: ArrayBuffer;
  /** The same memory. */
  private readonly bytesOut: Uint8Array;

  /**
   * Throws what the kernel refuses, with `code` and `syscall`.
   * @param uncut segments may be as large as IPv4 allows, not only as large as the datapath's
   *   frames
   */
  constructor(
    native: Pick<Native, 'openPacketRing'>,
    on: InletOptions,
    datapath: Admitter & { readonly memory: FrameMemory },
    { uncut }: { uncut: boolean },
  ) {
    super(native, on, datapath, uncut ? FOR_UNCUT : SMALL);
    this.bytesOut = datapath.memory.bytes;
    this.memory = this.bytesOut.buffer as ArrayBuffer;
  }

  /** Sends a frame of the datapath's memory to this machine itself, which is a node: Port.local. */
  send(offset: number, length: number, flags: number, headed: boolean): void {
    if (this.tap !== undefined) this.tap.frame(TapKind.nodes, this.bytesOut, offset, length);
    this.ring.sendFrom(this.memory, offset, length, flags | FrameFlags.queued, headed);
  }

  protected override wants(protocol: number): boolean {
    return protocol === Protocol.tcp || protocol === Protocol.ixcp;
  }
}
