/**
 * AF_XDP sockets for an engine thread, which keeps its sessions in maps: the XDP program forwards
 * by the same records.
 */
import { monotonicClock } from '../../base/clock.js';
import type { StageClock } from '../../base/stages.js';
import { HEAD_WAYS, JUDGED_HEAD_BYTES, movesParts } from '../../datapath/heads-layout.js';
import { openXdpDatapath, type XdpDatapath } from '../../datapath/xdp.js';
import { CONTROL } from '../../datapath/xdp-layout.js';
import type { Engine } from '../../engine/engine.js';
import type { HeadMemory } from '../../engine/moving/judged-heads.js';
import { SESSION_ADDRESS_BYTES } from '../../engine/table/client-addresses.js';
import { KERNEL_EVENT_WORDS } from '../../engine/table/kernel-event.js';
import { SESSION_RECORD_BYTES } from '../../engine/table/session-record.js';
import { native } from '../../host/native.js';
import { EarlierTable } from './earlier-table.js';
import type { EngineDatapath } from './engine-datapath.js';
import type { EngineStart, XdpStart } from './engine-messages.js';
import { KernelExchange } from './kernel-exchange.js';

const WORD_BYTES = Uint32Array.BYTES_PER_ELEMENT;
/** Bytes of CONTROL.headKey. */
const HEAD_KEY_BYTES = 16;
/** Polls at the end, at most: more frames than sockets hold. */
const LAST_POLLS = 256;

export class XdpEngineDatapath implements EngineDatapath {
  readonly datapath: XdpDatapath;
  readonly options: EngineDatapath['options'];
  readonly takesAtOnce = true;
  readonly now = monotonicClock();
  private readonly worker: number;
  private readonly halfOpen: number;
  private readonly eventsFd: number;
  private readonly control: ArrayBuffer;
  private earlier: EarlierTable | undefined;
  private engine: Engine | undefined;

  /** Throws what the kernel refuses, with `code` and `syscall`. */
  constructor({ worker, workers, limits }: EngineStart, start: XdpStart, stages: StageClock) {
    const { pool, capacity, indexWords, fds, earlier } = start;
    const control = native().openMap({ fd: fds.control }).memory();
    this.worker = worker;
    this.halfOpen = limits.halfOpen;
    this.eventsFd = fds.events;
    this.control = control;
    this.datapath = openXdpDatapath(native(), pool, worker, stages, largestFrame(control));
    if (earlier !== undefined)
      this.earlier = new EarlierTable(
        earlier,
        native().openMap({ fd: earlier.fd }),
        native().openMap({ fd: earlier.addressesFd }),
      );
    this.options = {
      limits: { ...limits, sessions: capacity },
      memory: {
        records: native().openMap({ fd: fds.sessions }).memory(),
        ...(fds.addresses === undefined
          ? {}
          : {
              addresses: new Uint32Array(
                native().openMap({ fd: fds.addresses }).memory(),
                worker * capacity * SESSION_ADDRESS_BYTES,
                (capacity * SESSION_ADDRESS_BYTES) / WORD_BYTES,
              ),
            }),
        recordsOffset: worker * capacity * SESSION_RECORD_BYTES,
        index: native().openMap({ fd: fds.index }).memory(),
        indexOffset: worker * indexWords * WORD_BYTES,
        indexWords,
        indexState: new Uint32Array(control, CONTROL.indexState + worker * WORD_BYTES, 1),
      },
      heads: headMemory(worker, workers, start, control),
    };
  }

  attach(engine: Engine): number {
    const taken = this.earlier?.takeOver(engine, this.now()) ?? 0;
    const exchange = new KernelExchange(engine, {
      control: new Uint32Array(this.control),
      events: native().openRecordRing(this.eventsFd, this.worker, KERNEL_EVENT_WORDS),
      worker: this.worker,
      halfOpen: this.halfOpen,
    });
    this.engine = engine;
    this.datapath.onBatch = (now) => exchange.exchange(now);
    return taken;
  }

  activated(): void {
    const { earlier, engine } = this;
    if (earlier === undefined || engine === undefined) return;
    earlier.takeOver(engine, this.now());
    earlier.takeLosses(engine, this.now());
    earlier.close();
    this.earlier = undefined;
  }

  close(): void {
    const { datapath, engine, now } = this;
    // The sockets get nothing more. After the last frames and events have been read, the records
    // say everything, and the next process finds it there.
    for (let polls = 0; engine !== undefined && polls < LAST_POLLS; polls++)
      if (!datapath.poll(engine, now)) break;
    datapath.close();
  }
}

/**
 * Bytes of the largest frame of a client that keeps to the MSS that it was offered. Larger ones
 * come in by the StackInlet: `to_engine` of xdp-session.h passes them on.
 */
function largestFrame(control: ArrayBuffer): number {
  return new DataView(control).getUint32(CONTROL.mostFrame, true);
}

/** The worker's part of the maps with heads; undefined: the program forwards none by itself. */
function headMemory(
  worker: number,
  workers: number,
  { capacity, headSets, fds }: XdpStart,
  control: ArrayBuffer,
): HeadMemory | undefined {
  if (headSets === 0) return undefined;
  return {
    heads: native().openMap({ fd: fds.heads }).memory(),
    headsOffset: worker * headSets * HEAD_WAYS * JUDGED_HEAD_BYTES,
    sets: headSets,
    moves: native().openMap({ fd: fds.moves }).memory(),
    ...movesParts(capacity, workers, worker),
    generation: new Uint32Array(control, CONTROL.headGeneration, 1),
    key: new Uint8Array(control, CONTROL.headKey, HEAD_KEY_BYTES),
  };
}
