/**
 * Opens the datapath of an engine thread: an AF_PACKET ring, with the sessions in memory of the
 * thread; or AF_XDP sockets, with the sessions in maps that the XDP program reads. A composition
 * root, used by engine-thread.ts.
 */
import type { StageClock } from '../../base/stages.js';
import type { Inlet } from '../../datapath/inlets/inlet.js';
import { NodePort } from '../../datapath/inlets/node-port.js';
import { StackInlet } from '../../datapath/inlets/stack-inlet.js';
import { type PacketDatapath, transmitSlots } from '../../datapath/packet.js';
import type { XdpDatapath } from '../../datapath/xdp.js';
import type { Engine } from '../../engine/engine.js';
import type { EngineOptions } from '../../engine/options.js';
import { native } from '../../host/native.js';
import type { EngineStart, NodeInterfaceStart, XdpStart } from './engine-messages.js';
import { joinFanout } from './fanout.js';
import { PacketEngineDatapath } from './packet-engine-datapath.js';
import { XdpEngineDatapath } from './xdp-engine-datapath.js';

type OpenDatapath = PacketDatapath | XdpDatapath;

export interface EngineDatapath {
  readonly datapath: OpenDatapath;
  /** Options of the engine that depend on the datapath. */
  readonly options: Pick<EngineOptions, 'memory' | 'limits' | 'heads'>;
  /** Whether the engine takes frames at once; else they wait in the ring until `activated`. */
  readonly takesAtOnce: boolean;
  /** The engine's clock, ms. */
  readonly now: () => number;
  /**
   * Attaches the engine, before the first poll. Returns how many sessions of an earlier run it has
   * taken over.
   */
  attach(engine: Engine): number;
  /**
   * To be called when the MAC addresses of nodes are set and the XDP program of an earlier run no
   * longer works: takes over what that program did since `attach`.
   */
  activated(): void;
  close(): void;
}

/** Opens the datapath that this thread was started with. Throws what the kernel refuses. */
export function openDatapath(given: EngineStart, stages: StageClock): EngineDatapath {
  const { datapath: start } = given;
  const opened =
    start.kind === 'xdp'
      ? new XdpEngineDatapath(given, start, stages)
      : new PacketEngineDatapath(given, start, stages);
  for (const inlet of openInlets(given, opened.datapath)) opened.datapath.addInlet(inlet);
  return opened;
}

/** Opens the sources of frames besides the datapath's own ring, in the order of their polling. */
function openInlets(given: EngineStart, datapath: OpenDatapath): Inlet[] {
  const inlets: Inlet[] = [];
  if (given.datapath.kind === 'xdp') {
    const stack = openStackInlet(given, given.datapath, datapath);
    datapath.local = stack;
    inlets.push(stack);
  }
  if (given.nodeInterface !== undefined) {
    const port = openNodePort(given.nodeInterface, datapath);
    datapath.nodes = port;
    inlets.push(port);
  }
  return inlets;
}

function openStackInlet(
  { interfaceIndex }: EngineStart,
  start: XdpStart,
  datapath: OpenDatapath,
): StackInlet {
  return joinFanout(
    start.share,
    (share) => new StackInlet(native(), { interfaceIndex, ...share }, datapath, start),
  );
}

function openNodePort(
  { interfaceIndex, mtu, share: wanted }: NodeInterfaceStart,
  datapath: OpenDatapath,
): NodePort {
  return joinFanout(
    wanted,
    (share) => new NodePort(native(), { interfaceIndex, ...share }, transmitSlots(mtu), datapath),
  );
}
