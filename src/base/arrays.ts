/** Makes typed arrays of zeros, in memory of one thread or in memory that threads share. */
export interface ArrayMaker {
  uint8(length: number): Uint8Array;
  uint16(length: number): Uint16Array;
  int32(length: number): Int32Array;
  uint32(length: number): Uint32Array;
}

/** Arrays of this thread alone. */
export const ownArrays: ArrayMaker = {
  uint8: (length) => new Uint8Array(length),
  uint16: (length) => new Uint16Array(length),
  int32: (length) => new Int32Array(length),
  uint32: (length) => new Uint32Array(length),
};

/** Arrays that another thread gets as they are, not as copies. */
export const sharedArrays: ArrayMaker = {
  uint8: (length) => new Uint8Array(new SharedArrayBuffer(length)),
  uint16: (length) => new Uint16Array(new SharedArrayBuffer(length * 2)),
  int32: (length) => new Int32Array(new SharedArrayBuffer(length * 4)),
  uint32: (length) => new Uint32Array(new SharedArrayBuffer(length * 4)),
};
