/**
 * The interface that nodes are reached by, where that is another one than the clients'. It has a
 * packet ring of its own: frames to nodes leave by it, notices come in by it. The engine knows one
 * memory only, that of the datapath beside which this stands: frames are copied out of it, and into
 * it.
 *
 *     commit, forward to Port.nodes -> sendFrom -> ring.flush, once a batch
 *     ring.receive, notices alone   -> datapath.admit -> engine
 */
import type { Native } from '../../host/native.js';
import { TapKind } from '../../wire/tap-record.js';
import type { FrameMemory } from '../datapath.js';
import { type Admitting, NoticeTap, type TapOptions, type TapSizes } from './packet-inlet.js';

/** 8 MiB, for the notices and reports of all nodes: three or four for each connection. */
const RECEIVE = { receiveBlocks: 256, receiveBlockBytes: 32_768, retireMs: 2 } as const;

export class NodePort extends NoticeTap {
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
    on: TapOptions,
    slots: Pick<TapSizes, 'transmitSlots' | 'transmitSlotBytes'>,
    datapath: Admitting & { readonly memory: FrameMemory },
  ) {
    super(native, on, datapath, { ...RECEIVE, ...slots });
    this.bytesOut = datapath.memory.bytes;
    this.memory = this.bytesOut.buffer as ArrayBuffer;
  }

  /**
   * Sends a frame of the datapath's memory as it lies there now, at the next flush.
   * @param flags FrameFlags
   * @param headed a virtio header precedes it
   */
  send(offset: number, length: number, flags: number, headed: boolean): void {
    if (this.tap !== undefined) this.tap.frame(TapKind.nodes, this.bytesOut, offset, length);
    this.ring.sendFrom(this.memory, offset, length, flags, headed);
  }

  /** Sends what the last batch left, and what the device did not take before. */
  flush(): void {
    this.ring.flush(this.descriptors, 0);
  }
}
