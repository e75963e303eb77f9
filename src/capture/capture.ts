/**
 * A capture: the frames that a running balancer receives and sends, as a pcapng file. tcpdump
 * cannot see the frames that the XDP program takes, nor those that the engine sends through AF_XDP.
 *
 *     XDP program -- perf buffers (kernel-tap.ts) ----------+
 *                                                           +-- by time --> file
 *     engine threads -- rings -- control socket ------------+
 *
 * Neither side waits for this process. Frames that it does not read in time are left out and
 * counted. When the balancer is replaced, the capture continues with the next one.
 */

import type { ControlClient, RecordStream } from '../api/client.js';
import { BatonError } from '../base/errors.js';
import { formatCount } from '../base/format.js';
import type { TapWish } from '../datapath/frame-tap.js';
import type { OutputFile } from '../host/output-file.js';
import { formatAddress, toAddress } from '../wire/address.js';
import { PacketDirection, PcapngWriter } from '../wire/pcapng-writer.js';
import { readTapRecords, TapKind, type TapRecord } from '../wire/tap-record.js';
import type { KernelTap, KernelTapAbsence } from './kernel-tap.js';

/** Time between two reads of both sides, in ms. */
const POLL_MS = 20;
/** A frame is written at this age, in ms. Until then an earlier frame may still arrive. */
const WRITE_AGE_MS = 200;
/** Time between two checks that the balancer is still the same, in ms. */
const CHECK_MS = 250;
/**
 * With more bytes than this in waiting frames, all are written without waiting for earlier ones.
 */
const MOST_WAITING_BYTES = 64 * 1024 * 1024;
const NS_PER_MS = 1_000_000n;

export interface CaptureOptions {
  /** Interface of the clients; and that of the nodes, if it is another one. */
  interface: string;
  nodeInterface: string | undefined;
  controlSocket: string;
  wish: Omit<TapWish, 'received'>;
  /** Limits of frames and of time (s). Undefined: until `stop`. */
  count?: number | undefined;
  seconds?: number | undefined;
}

/** The sources of a capture. Tests replace them. */
export interface CaptureSources {
  /** Opens the tap of the XDP program on the clients' interface. */
  openKernelTap(wish: TapWish): KernelTap | KernelTapAbsence;
  /** Whether a tap belongs to the program that is attached now. */
  isCurrent(tap: KernelTap): boolean;
  client: Pick<ControlClient, 'capture'>;
}

export interface CaptureResult {
  frames: number;
  /** Frames that the XDP program and the engine have left out. */
  lostByKernel: number;
  lostByEngine: number;
}

/**
 * Captures until `stop` is aborted, or until the limit of frames or time. `note` gets messages for
 * the operator.
 * @throws BatonError when there is nothing to capture from, or another capture is running
 */
export async function capture(
  options: CaptureOptions,
  sources: CaptureSources,
  output: OutputFile,
  note: (line: string) => void,
  stop: AbortSignal,
): Promise<CaptureResult> {
  const run = new CaptureRun(options, sources, output, note);
  try {
    await run.begin();
    await run.untilEnd(stop);
  } finally {
    run.close();
  }
  return run.result();
}

/** The result in one line. */
export function summary({ frames, lostByKernel, lostByEngine }: CaptureResult): string {
  const lost = lostByKernel + lostByEngine;
  const where =
    lost === 0
      ? ''
      : ` (${formatCount(lostByKernel)} of the XDP program, ${formatCount(lostByEngine)} of the engine: this command read them too slowly)`;
  return `${formatCount(frames)} ${frames === 1 ? 'frame' : 'frames'} captured, ${formatCount(lost)} lost${where}`;
}

class CaptureRun {
  private readonly options: CaptureOptions;
  private readonly sources: CaptureSources;
  private readonly output: OutputFile;
  private readonly note: (line: string) => void;
  private readonly writer: PcapngWriter;
  /** Add this to a time of CLOCK_MONOTONIC to get the time since 1970, in ns. */
  private readonly epoch: bigint;
  private kernel: KernelTap | undefined;
  private engine: RecordStream | undefined;
  private connecting = false;
  private begun = false;
  private waiting: TapRecord[] = [];
  private waitingBytes = 0;
  /** The beginning of a record of the engine whose rest has not arrived. */
  private rest: Uint8Array = new Uint8Array();
  private frames = 0;
  private lostByKernel = 0;
  private lostByEngine = 0;

  constructor(
    options: CaptureOptions,
    sources: CaptureSources,
    output: OutputFile,
    note: (line: string) => void,
  ) {
    this.options = options;
    this.sources = sources;
    this.output = output;
    this.note = note;
    const now = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1_000)) * 1_000n;
    this.epoch = now - process.hrtime.bigint();
    this.writer = new PcapngWriter(
      (piece) => output.append(piece),
      interfaces(options),
      options.wish.snapLength,
    );
  }

  /** Opens both sides. One is enough: after a crash there is only the XDP program. */
  async begin(): Promise<void> {
    const absence = this.openKernel();
    if (absence === 'in use') throw inUse(this.options.interface);
    if (absence === 'other version') {
      this.note(
        'the XDP program is of another version of Baton: frames that the kernel forwards are not captured',
      );
    }
    try {
      await this.openEngine();
    } catch (error) {
      if (
        this.kernel === undefined ||
        !(error instanceof BatonError) ||
        error.code !== 'BATON_CONTROL'
      )
        throw error;
      this.note(
        `${error.message}: until a balancer runs, only frames that the XDP program receives and sends are captured`,
      );
    }
    this.note(`capturing${this.clientText()} on ${this.options.interface}; Ctrl-C ends`);
    this.begun = true;
    this.output.flush();
  }

  async untilEnd(stop: AbortSignal): Promise<void> {
    const { seconds } = this.options;
    const end =
      seconds === undefined ? Number.POSITIVE_INFINITY : performance.now() + seconds * 1_000;
    let checked = performance.now();
    while (!stop.aborted && !this.isFull() && performance.now() < end) {
      await pause(Math.min(POLL_MS, Math.max(0, end - performance.now())), stop);
      this.takeFromKernel();
      this.writeUntil(process.hrtime.bigint() - BigInt(WRITE_AGE_MS) * NS_PER_MS);
      if (performance.now() - checked < CHECK_MS) continue;
      checked = performance.now();
      this.check();
    }
    // The last frames of the engine are on their way.
    if (!this.isFull()) await pause(2 * POLL_MS, undefined);
    this.takeFromKernel();
    this.writeUntil(process.hrtime.bigint());
  }

  close(): void {
    this.closeKernel();
    this.engine?.close();
    this.engine = undefined;
    if (!this.begun) {
      // Nothing was captured: an earlier file with that name keeps its content.
      this.output.discard();
      return;
    }
    const now = process.hrtime.bigint() + this.epoch;
    const { frames, lostByKernel, lostByEngine } = this;
    // Frames are not counted for each interface of the file: the first one has the sum.
    this.writer.statistics(
      0,
      now,
      frames + lostByKernel + lostByEngine,
      lostByKernel + lostByEngine,
    );
    this.output.flush();
  }

  result(): CaptureResult {
    const { frames, lostByKernel, lostByEngine } = this;
    return { frames, lostByKernel, lostByEngine };
  }

  private clientText(): string {
    const { client, clientPort } = this.options.wish;
    if (client === undefined) return '';
    return ` ${formatAddress(toAddress(client))}${clientPort === undefined ? '' : `:${clientPort}`}`;
  }

  /** The limit of frames is reached, or the reader has closed the pipe. */
  private isFull(): boolean {
    return this.output.abandoned || this.frames >= (this.options.count ?? Number.POSITIVE_INFINITY);
  }

  private openKernel(): KernelTapAbsence | undefined {
    const opened = this.sources.openKernelTap({ ...this.options.wish, received: false });
    if (typeof opened === 'string') return opened;
    this.kernel = opened;
    return undefined;
  }

  private closeKernel(): void {
    const { kernel } = this;
    if (kernel === undefined) return;
    this.kernel = undefined;
    this.takeFrom(kernel);
    this.lostByKernel += kernel.lost();
    kernel.close();
  }

  /** The engine shows received frames if the XDP program does not. */
  private async openEngine(): Promise<void> {
    const wish = { ...this.options.wish, received: this.kernel === undefined };
    this.connecting = true;
    try {
      const engine = await this.sources.client.capture(wish, (bytes) => this.takeFromEngine(bytes));
      this.engine = engine;
      void engine.ended.then(() => {
        if (this.engine !== engine) return;
        this.engine = undefined;
        this.rest = new Uint8Array();
        this.note('the balancer has ended; the capture continues with the next one');
      });
    } finally {
      this.connecting = false;
    }
  }

  /** Checks for another XDP program and another balancer, as after a replacement. */
  private check(): void {
    const { kernel, sources } = this;
    if (kernel !== undefined && sources.isCurrent(kernel)) kernel.renew();
    else {
      this.closeKernel();
      this.openKernel();
    }
    if (this.engine === undefined && !this.connecting) {
      // When there is no balancer yet, the next check tries again.
      void this.openEngine().then(
        () => this.note('a balancer is running again'),
        () => {},
      );
    }
  }

  private takeFromKernel(): void {
    if (this.kernel !== undefined) this.takeFrom(this.kernel);
  }

  private takeFrom(kernel: KernelTap): void {
    readTapRecords(kernel.drain(), (record) => this.keep(record));
  }

  private takeFromEngine(bytes: Uint8Array): void {
    const all = this.rest.length === 0 ? bytes : Buffer.concat([this.rest, bytes]);
    const used = readTapRecords(all, (record) => {
      if (record.kind === TapKind.lost) this.lostByEngine += record.length;
      else this.keep(record);
    });
    this.rest = all.subarray(used);
  }

  private keep(record: TapRecord): void {
    this.waiting.push(record);
    this.waitingBytes += record.bytes.length;
  }

  /** Writes the frames up to `time`, in the order of their times. */
  private writeUntil(time: bigint): void {
    const all = this.waitingBytes > MOST_WAITING_BYTES;
    this.waiting.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
    let written = 0;
    for (const record of this.waiting) {
      if ((!all && record.time > time) || this.isFull()) break;
      this.write(record);
      written++;
      this.waitingBytes -= record.bytes.length;
    }
    if (written > 0) this.waiting = this.waiting.slice(written);
    this.output.flush();
  }

  private write({ time, kind, bytes, length }: TapRecord): void {
    const inbound = kind === TapKind.received || kind === TapKind.notice;
    this.writer.frame({
      interface: kind,
      time: time + this.epoch,
      direction: inbound ? PacketDirection.inbound : PacketDirection.outbound,
      bytes,
      length,
    });
    this.frames++;
  }
}

/** The interfaces of the file, in the order of TapKind: where a frame was seen, and its sender. */
function interfaces({ interface: clients, nodeInterface }: CaptureOptions) {
  const nodes = nodeInterface ?? clients;
  const [received, kernel, engine] = ['received', 'sent by the XDP program', 'sent by the engine'];
  return [
    { name: clients, description: `${clients}, ${received}` },
    { name: `${clients}-xdp`, description: `${clients}, ${kernel}` },
    { name: `${clients}-engine`, description: `${clients}, ${engine}` },
    { name: `${nodes}-notices`, description: `${nodes}, notices received` },
    { name: `${nodes}-nodes`, description: `${nodes}, ${engine} to nodes` },
  ];
}

function inUse(where: string): BatonError {
  return new BatonError('BATON_IN_USE', 'another capture is running there', {
    where,
    hint: 'end it first',
  });
}

/** Resolves after `ms`, or as soon as `stop` is aborted. */
function pause(ms: number, stop: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      stop?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    stop?.addEventListener('abort', done);
    if (stop?.aborted === true) done();
  });
}
