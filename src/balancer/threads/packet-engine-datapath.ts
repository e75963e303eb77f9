/** AF_PACKET rings for an engine thread, which keeps its sessions in memory of its own. */
import { monotonicClock } from '../../base/clock.js';
import type { StageClock } from '../../base/stages.js';
import { openPacketDatapath, type PacketDatapath } from '../../datapath/packet.js';
import { native } from '../../host/native.js';
import type { EngineDatapath } from './engine-datapath.js';
import type { EngineStart, PacketStart } from './engine-messages.js';
import { joinFanout } from './fanout.js';

export class PacketEngineDatapath implements EngineDatapath {
  readonly datapath: PacketDatapath;
  readonly options: EngineDatapath['options'];
  /**
   * Clients of an earlier run send as soon as the ring is open, when the MAC address of no node is
   * known yet: they would get 503.
   */
  readonly takesAtOnce = false;
  readonly now = monotonicClock();

  /** Throws what the kernel refuses, with `code` and `syscall`. */
  constructor(given: EngineStart, start: PacketStart, stages: StageClock) {
    const { interfaceIndex, mtu, limits } = given;
    const admits = given.nodeInterface !== undefined;
    this.options = { limits };
    this.datapath = joinFanout(start.share, (share) =>
      openPacketDatapath(native(), { interfaceIndex, mtu, admits, ...share }, stages),
    );
  }

  attach(): number {
    return 0;
  }

  activated(): void {}

  close(): void {
    this.datapath.close();
  }
}
