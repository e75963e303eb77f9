/**
 * Records by which the XDP program and the engine give frames to `baton capture`: struct tap_record
 * of bpf/lib/tap.h, then the frame's bytes, padded to a multiple of eight. Host byte order, which
 * is little-endian wherever Baton runs.
 */

export const TAP_RECORD = { time: 0, length: 8, captured: 12, kind: 16 } as const;
export const TAP_RECORD_BYTES = 24;
const ALIGNMENT = 8;

/** The place where a frame was seen. */
export const TapKind = {
  /** Received on the clients' interface. */
  received: 0,
  /** Sent by the XDP program. */
  kernel: 1,
  /** Sent by the engine on the clients' interface. */
  engine: 2,
  /** Received on the nodes' interface: a notice. */
  notice: 3,
  /** Sent by the engine on the nodes' interface. */
  nodes: 4,
  /** Not a frame: `length` frames were left out since the last record of this kind. */
  lost: 255,
} as const;

export interface TapRecord {
  /** ns of CLOCK_MONOTONIC. */
  time: bigint;
  /** TapKind */
  kind: number;
  /** Bytes of the whole frame. */
  length: number;
  /** Captured bytes, from the start of the frame. */
  bytes: Uint8Array;
}

/** Length of a record with `captured` bytes of its frame. */
export function tapRecordBytes(captured: number): number {
  return (TAP_RECORD_BYTES + captured + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
}

/** Writes the head of a record at `at`; the frame's bytes belong at `at + TAP_RECORD_BYTES`. */
export function writeTapRecord(
  view: DataView,
  at: number,
  { time, kind, length }: Omit<TapRecord, 'bytes'>,
  captured: number,
): void {
  view.setBigUint64(at + TAP_RECORD.time, time, true);
  view.setUint32(at + TAP_RECORD.length, length, true);
  view.setUint32(at + TAP_RECORD.captured, captured, true);
  view.setUint32(at + TAP_RECORD.kind, kind, true);
  view.setUint32(at + TAP_RECORD.kind + 4, 0, true);
}

/**
 * Calls `take` with each whole record in `bytes`, which come from a trusted program. Returns how
 * many bytes were used. The rest is the beginning of a record. The frames are views of `bytes`.
 */
export function readTapRecords(bytes: Uint8Array, take: (record: TapRecord) => void): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  while (bytes.length - at >= TAP_RECORD_BYTES) {
    const captured = view.getUint32(at + TAP_RECORD.captured, true);
    const end = at + tapRecordBytes(captured);
    if (end > bytes.length) break;
    const start = at + TAP_RECORD_BYTES;
    take({
      time: view.getBigUint64(at + TAP_RECORD.time, true),
      kind: view.getUint8(at + TAP_RECORD.kind),
      length: view.getUint32(at + TAP_RECORD.length, true),
      bytes: bytes.subarray(start, start + captured),
    });
    at = end;
  }
  return at;
}
