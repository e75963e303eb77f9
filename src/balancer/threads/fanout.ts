/** Packet rings of several engine threads that share an interface's frames. */
import type { PacketRingOptions } from '../../host/native.js';
import type { RingShare } from './engine-messages.js';

/**
 * Opens a ring that shares frames with those of the other threads. The threads start one after the
 * other: the first one's ring makes the group, and the others join it.
 */
export function joinFanout<Opened extends { readonly fanoutGroup: number }>(
  { filterProgramFd, fanout }: RingShare,
  open: (share: Pick<PacketRingOptions, 'filterProgramFd' | 'fanout'>) => Opened,
): Opened {
  if (fanout === undefined) return open({ filterProgramFd });
  const opened = open({
    filterProgramFd,
    fanout: { programFd: fanout.programFd, group: fanout.group[0] ?? -1 },
  });
  fanout.group[0] = opened.fanoutGroup;
  return opened;
}
