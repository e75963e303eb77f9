/**
 * Collects lines, and writes them to the file many at a time. Lines that the file does not take are
 * lost and counted: nothing waits for a disk.
 */
import { reasonOf } from '../../base/errors.js';
import { MOST_FORMATTED_BYTES } from './format.js';
import type { LogFile } from './log-file.js';

const BUFFER_BYTES = 256 * 1024;
const NEWLINE = 10;
/** The shortest time between two warnings about lost lines, in ms. */
const QUIET_MS = 60_000;

export interface LineBufferListener {
  written(lines: number): void;
  lost(lines: number): void;
  warn(message: string): void;
  info(message: string): void;
  /** ms on a clock that does not jump. */
  now(): number;
}

export class LineBuffer {
  private readonly listener: LineBufferListener;
  private readonly bytes = Buffer.alloc(BUFFER_BYTES);
  private file: LogFile;
  private used = 0;
  /** Lines lost since the last warning, and when that was. */
  private unreported = 0;
  private warnedAt = Number.NEGATIVE_INFINITY;
  private failing = false;

  constructor(file: LogFile, listener: LineBufferListener) {
    this.file = file;
    this.listener = listener;
  }

  /** Adds a line of printable ASCII with its newline, of at most MOST_FORMATTED_BYTES. */
  add(line: string): void {
    this.used += this.bytes.write(line, this.used, 'latin1');
    if (this.used > BUFFER_BYTES - MOST_FORMATTED_BYTES) this.flush();
  }

  /** Writes all lines. */
  flush(): void {
    if (this.used === 0) return;
    const { bytes, error } = this.file.append(this.bytes, this.used);
    this.listener.written(this.lines(0, bytes));
    if (bytes < this.used) this.lose(this.lines(bytes, this.used), error);
    else if (this.failing) this.recover();
    this.used = 0;
  }

  /** Writes all lines to the present file, closes it, and goes on with another one. */
  setFile(file: LogFile): void {
    this.flush();
    const before = this.file;
    this.file = file;
    before.close();
  }

  close(): void {
    this.flush();
    this.file.close();
  }

  private lose(lines: number, error: unknown): void {
    this.failing = true;
    this.listener.lost(lines);
    this.unreported += lines;
    const now = this.listener.now();
    if (now - this.warnedAt < QUIET_MS) return;
    this.listener.warn(
      `${this.unreported} lines of the access log were lost: ${reasonOf(error)}: ${this.file.path}`,
    );
    this.unreported = 0;
    this.warnedAt = now;
  }

  private recover(): void {
    this.failing = false;
    const more = this.unreported > 0 ? `; ${this.unreported} more lines were lost` : '';
    this.listener.info(`the access log is written again${more}: ${this.file.path}`);
    this.unreported = 0;
  }

  private lines(start: number, end: number): number {
    let lines = 0;
    for (let at = start; at < end; at++) if (this.bytes[at] === NEWLINE) lines += 1;
    return lines;
  }
}
