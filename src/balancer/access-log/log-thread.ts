/**
 * The log thread: reads the records of the engine threads, joins them to lines, and appends the
 * lines to the file. A slow or full disk delays this thread alone. A composition root, which
 * access-log.ts starts.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { ACCESS_LOG_COUNTER_NAMES, type AccessLogCounter } from '../../base/access-log-counters.js';
import { monotonicClock } from '../../base/clock.js';
import { BatonError, reasonOf } from '../../base/errors.js';
import type { AccessLogConfig } from '../../config/load.js';
import { formatLine } from './format.js';
import { Joiner } from './joiner.js';
import { LineBuffer } from './line-buffer.js';
import { LogFile } from './log-file.js';
import { type FromLog, type LogFailure, type LogStart, START_ID, type ToLog } from './messages.js';
import { RingReader } from './ring-reader.js';

/** Time between two looks at the rings, in ms. */
const POLL_MS = 20;

class LogThread {
  private readonly tell: (message: FromLog) => void;
  private readonly clock = monotonicClock();
  private readonly rings: { reader: RingReader; sink: ReturnType<Joiner['sink']> }[];
  private readonly joiner: Joiner;
  private readonly buffer: LineBuffer;
  private readonly counters: Float64Array;
  private wish: AccessLogConfig;
  private timer: NodeJS.Timeout | undefined;

  /** @throws BatonError BATON_LOG: the file cannot be opened */
  constructor({ wish, names, rings, counters }: LogStart, tell: (message: FromLog) => void) {
    this.tell = tell;
    this.wish = wish;
    this.counters = new Float64Array(counters);
    this.buffer = new LineBuffer(LogFile.open(wish.file), {
      written: (lines) => this.count('lines', lines),
      lost: (lines) => this.count('lost', lines),
      warn: (message) => tell({ kind: 'warning', message }),
      info: (message) => tell({ kind: 'info', message }),
      now: this.clock,
    });
    this.joiner = new Joiner((line) => this.buffer.add(formatLine(line, this.wish.format)));
    this.joiner.names = names;
    this.rings = rings.map((memory, worker) => ({
      reader: new RingReader(memory),
      sink: this.joiner.sink(worker),
    }));
    this.schedule();
  }

  take(message: ToLog): void {
    // Records from before the message belong to the names and the file before it.
    this.turn();
    switch (message.kind) {
      case 'change':
        this.change(message.id, message.wish);
        return;
      case 'reopen':
        this.reopen();
        return;
      case 'names':
        this.joiner.names = message.names;
        this.tell({ kind: 'done', id: message.id });
        return;
      case 'stop':
        clearTimeout(this.timer);
        this.buffer.close();
    }
  }

  /** Writes the lines of all sessions that have ended. */
  private turn(): void {
    this.joiner.setTime(Date.now(), this.clock());
    for (const { reader, sink } of this.rings) {
      reader.drain(sink);
      this.count('ring_lost', reader.takeLost());
    }
    this.count('table_lost', this.joiner.lost);
    this.joiner.lost = 0;
    this.buffer.flush();
  }

  private schedule(): void {
    this.timer = setTimeout(() => {
      this.turn();
      this.schedule();
    }, POLL_MS);
  }

  private change(id: number, wish: AccessLogConfig): void {
    try {
      if (wish.file !== this.wish.file) this.buffer.setFile(LogFile.open(wish.file));
      this.wish = wish;
      this.tell({ kind: 'done', id });
    } catch (error) {
      this.tell({ kind: 'refused', id, failure: failureOf(error) });
    }
  }

  private reopen(): void {
    try {
      this.buffer.setFile(LogFile.open(this.wish.file));
      this.tell({ kind: 'info', message: `access log reopened: ${this.wish.file}` });
    } catch (error) {
      const why = error instanceof BatonError ? error.toLine() : reasonOf(error);
      this.tell({ kind: 'warning', message: `${why}; lines still go to the file before` });
    }
  }

  private count(name: AccessLogCounter, amount: number): void {
    this.counters[ACCESS_LOG_COUNTER_NAMES.indexOf(name)]! += amount;
  }
}

function failureOf(error: unknown): LogFailure {
  const { where, hint } =
    error instanceof BatonError ? error : { where: undefined, hint: undefined };
  return { message: reasonOf(error), where, hint };
}

function start(given: LogStart, port: NonNullable<typeof parentPort>): void {
  const tell = (message: FromLog): void => port.postMessage(message);
  try {
    const thread = new LogThread(given, tell);
    port.on('message', (message: ToLog) => {
      thread.take(message);
      if (message.kind === 'stop') port.close();
    });
  } catch (error) {
    tell({ kind: 'refused', id: START_ID, failure: failureOf(error) });
    return;
  }
  tell({ kind: 'done', id: START_ID });
}

if (parentPort !== null) start(workerData as LogStart, parentPort);
