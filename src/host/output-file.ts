/** Writes a capture file, in large pieces. */
import { closeSync, fchmodSync, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { BatonError } from '../base/errors.js';
import { whyUnwritable } from '../base/file-errors.js';

const BUFFER_BYTES = 1 << 20;
/** A capture contains what clients sent. */
const OWNER_ONLY = 0o600;
const STANDARD_OUTPUT = 1;
/** Time between two attempts to write to a full pipe, in ms. */
const FULL_PIPE_MS = 2;

export class OutputFile {
  /** The output is a pipe, and its reader has closed it. Nothing more is written. */
  abandoned = false;
  private readonly name: string;
  private readonly descriptor: number;
  private readonly buffer = new Uint8Array(BUFFER_BYTES);
  private readonly sleeper = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  private used = 0;
  /** The file may have content of an earlier run. */
  private isOld: boolean;

  private constructor(name: string, descriptor: number, isOld: boolean) {
    this.name = name;
    this.descriptor = descriptor;
    this.isOld = isOld;
  }

  /**
   * Opens a file, or makes one. The first write empties an old file. Only its owner may read it.
   * @throws BatonError BATON_CAPTURE
   */
  static open(name: string): OutputFile {
    try {
      const descriptor = openSync(name, 'a', OWNER_ONLY);
      const isFile = fstatSync(descriptor).isFile();
      return new OutputFile(name, descriptor, isFile);
    } catch (error) {
      throw unwritable(name, error);
    }
  }

  static standardOutput(): OutputFile {
    return new OutputFile('standard output', STANDARD_OUTPUT, false);
  }

  append(piece: Uint8Array): void {
    if (piece.length > this.buffer.length - this.used) this.flush();
    for (let at = 0; at < piece.length; ) {
      const part = piece.subarray(at, at + this.buffer.length - this.used);
      this.buffer.set(part, this.used);
      this.used += part.length;
      at += part.length;
      if (at < piece.length) this.flush();
    }
  }

  /** Writes the appended bytes. Waits while a pipe is full. */
  flush(): void {
    for (let at = 0; at < this.used && !this.abandoned; ) at += this.write(at);
    this.used = 0;
  }

  /** Forgets appended bytes that are not written yet. */
  discard(): void {
    this.used = 0;
  }

  close(): void {
    try {
      this.flush();
    } finally {
      if (this.descriptor !== STANDARD_OUTPUT) closeSync(this.descriptor);
    }
  }

  private empty(): void {
    ftruncateSync(this.descriptor);
    // An old file has kept its mode.
    fchmodSync(this.descriptor, OWNER_ONLY);
    this.isOld = false;
  }

  private write(at: number): number {
    try {
      if (this.isOld) this.empty();
      return writeSync(this.descriptor, this.buffer, at, this.used - at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') this.abandoned = true;
      else if (code === 'EAGAIN') Atomics.wait(this.sleeper, 0, 0, FULL_PIPE_MS);
      else throw unwritable(this.name, error);
      return 0;
    }
  }
}

function unwritable(name: string, error: unknown): BatonError {
  return new BatonError('BATON_CAPTURE', `cannot be written: ${whyUnwritable(error)}`, {
    where: name,
  });
}
