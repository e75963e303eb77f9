/**
 * The frames that the XDP program shows to a capture. The capture asks for them through the maps of
 * the program. So it needs no balancer process, whatever process has loaded the program.
 */

import { XDP_NAMES } from '../base/kernel-counters.js';
import type { TapWish } from '../datapath/frame-tap.js';
import { CONTROL, SHARED_LAYOUT } from '../datapath/xdp-layout.js';
import { hostU32 } from '../host/bpf-object.js';
import { type AttachedXdp, type MapHandle, native, type PerfBuffers } from '../host/native.js';
import { XDP_PROGRAM } from '../host/xdp.js';
import { TAP_RECORD, TAP_RECORD_BYTES } from '../wire/tap-record.js';

/** struct tap_config of bpf/lib/tap.h. */
export const TAP_CONFIG = { client: 0, clientPort: 4, snapLength: 8 } as const;
export const TAP_CONFIG_BYTES = 12;
/** Pages in the buffer of each CPU: 4 MiB with pages of 4 KiB. */
const PAGES = 1024;
/** xdp_control.tap counts units of 2^8 ms of CLOCK_MONOTONIC, in 8 bits. */
export const UNIT_SHIFT = 8;
const LEASE_MASK = 0xff;
/** Duration of a lease in units: the program shows frames for 2 s after the last renewal. */
export const LEASE_UNITS = 8;
const MAPS = ['control', 'tap_config', 'tap_frames', 'counters'] as const;
type MapName = (typeof MAPS)[number];

/** Why the tap cannot be opened. */
export type KernelTapAbsence = 'no program' | 'other version' | 'in use';

export class KernelTap {
  private readonly program: number;
  private readonly maps: Readonly<Record<MapName, MapHandle>>;
  private readonly buffers: PerfBuffers;
  private readonly lease: Uint8Array;
  private readonly lostBefore: number;

  /**
   * Opens the tap of the program on an interface. The program then shows frames for two seconds.
   * Throws an Error when the kernel refuses.
   */
  static open(interfaceIndex: number, wish: TapWish): KernelTap | KernelTapAbsence {
    const attached = native().xdpProgram(interfaceIndex);
    if (attached?.name !== XDP_PROGRAM) return 'no program';
    const maps = openMaps(attached);
    if (maps === undefined) return 'other version';
    try {
      const control = maps.control.memory();
      if (new Uint32Array(control, CONTROL.layout, 1)[0] !== SHARED_LAYOUT)
        throw new Absent('other version');
      const lease = new Uint8Array(control, CONTROL.tap, 1);
      const left = (((lease[0] ?? 0) - nowUnits()) << 24) >> 24;
      if (lease[0] !== 0 && left > 0 && left <= LEASE_UNITS) throw new Absent('in use');
      return new KernelTap(attached.id, maps, lease, wish);
    } catch (error) {
      for (const map of Object.values(maps)) map.close();
      if (error instanceof Absent) return error.why;
      throw error;
    }
  }

  private constructor(
    program: number,
    maps: Readonly<Record<MapName, MapHandle>>,
    lease: Uint8Array,
    wish: TapWish,
  ) {
    this.program = program;
    this.maps = maps;
    this.lease = lease;
    maps.tap_config.update(hostU32(0), tapConfig(wish));
    this.lostBefore = this.counted();
    this.buffers = native().openPerfBuffers(
      maps.tap_frames.fd,
      PAGES,
      TAP_RECORD_BYTES,
      TAP_RECORD.captured,
    );
    this.renew();
  }

  /** Renews the lease: the program shows frames for two more seconds. Call it more often. */
  renew(): void {
    // 0 would mean that there is no capture.
    this.lease[0] = (nowUnits() + LEASE_UNITS) & LEASE_MASK || 1;
  }

  /** Whether the tap's program is still attached to the interface. */
  isOf(interfaceIndex: number): boolean {
    return native().xdpProgram(interfaceIndex)?.id === this.program;
  }

  /** The records since the last call (wire/tap-record.ts), CPU after CPU. */
  drain(): Uint8Array {
    return this.buffers.drain();
  }

  /** Number of frames left out since the tap was opened. */
  lost(): number {
    return this.counted() - this.lostBefore;
  }

  close(): void {
    this.lease[0] = 0;
    this.buffers.close();
    for (const map of Object.values(this.maps)) map.close();
  }

  private counted(): number {
    return this.maps.counters.sums(XDP_NAMES.length)[XDP_NAMES.indexOf('tap_lost')] ?? 0;
  }
}

class Absent extends Error {
  constructor(readonly why: KernelTapAbsence) {
    super(why);
  }
}

function openMaps({ maps }: AttachedXdp): Record<MapName, MapHandle> | undefined {
  const found = MAPS.map((name) => maps.find((map) => map.name === name));
  if (found.some((map) => map === undefined)) return undefined;
  return Object.fromEntries(
    found.map((map) => [map?.name, native().openMap({ id: map?.id ?? 0 })]),
  ) as Record<MapName, MapHandle>;
}

function tapConfig({ client, clientPort, snapLength }: TapWish): Uint8Array {
  const view = new DataView(new ArrayBuffer(TAP_CONFIG_BYTES));
  view.setUint32(TAP_CONFIG.client, client ?? 0);
  view.setUint16(TAP_CONFIG.clientPort, clientPort ?? 0);
  view.setUint32(TAP_CONFIG.snapLength, snapLength, true);
  return new Uint8Array(view.buffer);
}

/** CLOCK_MONOTONIC in the units of a lease. */
function nowUnits(): number {
  const ms = Number((process.hrtime.bigint() / 1_000_000n) & 0xffff_ffffn);
  return (ms >>> UNIT_SHIFT) & LEASE_MASK;
}
