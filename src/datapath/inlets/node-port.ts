/**
 * The interface by which nodes are reached, where it is not the one of the clients. Both an inlet
 * and an outlet: it has a packet ring of its own, by which frames to nodes leave and notices and
 * reports come in. The engine knows only the memory of its datapath: frames are copied out of it,
 * and into it.
 *
 *     commit, forward to Port.nodes -> sendFrom -> ring.flush, once a batch
 *     ring.receive, notices alone   -> datapath.admit -> engine
 */
import type { Native } from '../../host/native.js';
import { Protocol } from '../../wire/ipv4.js';
import { TapKind } from '../../wire/tap-record.js';
import type { FrameMemory } from '../datapath.js';
import type { Admitter, Outlet } from './inlet.js';
import { type InletOptions, type InletSizes, PacketInlet } from './packet-inlet.js';

/** 8 MiB, for the notices and reports of all nodes: three or four for each connection. */
const RECEIVE = { receiveBlocks: 256, receiveBlockBytes: 32_768, retireMs: 2 } as const;

export class NodePort extends PacketInlet implements Outlet {
  private readonly memory: ArrayBuffer;
  /** The same memory. */
  private readonly bytesOut: Uint8Array;

  /**
   * Throws what the kernel refuses, with `code` and `syscall`.
   * @param on the interface, and the filter that chooses what nodes send to us
   * @param slots to send by
   */
  constructor(
    native: Pick<Native, 'openPacketRing'>,
    on: InletOptions,
    slots: Pick<InletSizes, 'transmitSlots' | 'transmitSlotBytes'>,
    datapath: Admitter & { readonly memory: FrameMemory },
  ) {
    super(native, on, datapath, { ...RECEIVE, ...slots });
    this.bytesOut = datapath.memory.bytes;
    this.memory = this.bytesOut.buffer as ArrayBuffer;
  }

  send(offset: number, length: number, flags: number, headed: boolean): void {
    if (this.tap !== undefined) this.tap.frame(TapKind.nodes, this.bytesOut, offset, length);
    this.ring.sendFrom(this.memory, offset, length, flags, headed);
  }

  flush(): void {
    this.ring.flush(this.descriptors, 0);
  }

  protected override wants(protocol: number): boolean {
    return protocol === Protocol.ixcp;
  }
}
