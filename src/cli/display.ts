/** The three ways to show the intervals of a watch: on a terminal, as text, as JSON. */

import { printable } from '../base/text.js';
import type { Interval } from './interval.js';
import { type Line, renderInterval } from './watch-report.js';

/** The output of a watch: standard output and standard error. */
export interface Screen {
  write(text: string): void;
  /** Writes one line to standard error. */
  note(line: string): void;
  /** Current size of the terminal in characters. Undefined: the output is not a terminal. */
  size(): { columns: number; rows: number } | undefined;
  /** Whether the terminal can show dimmed lines. */
  dims: boolean;
}

export interface Display {
  began(seconds: number): void;
  interval(interval: Interval): void;
  /** The balancer did not answer, for this reason. */
  silent(why: string): void;
  restarted(): void;
}

/**
 * Shows intervals one after the other, on standard output. Notes go to standard error. A balancer
 * that does not answer is reported once.
 */
export class Stream implements Display {
  private readonly screen: Screen;
  private readonly form: (interval: Interval) => string;
  private isSilent = false;
  private anything = false;

  private constructor(screen: Screen, form: (interval: Interval) => string) {
    this.screen = screen;
    this.form = form;
  }

  /** One JSON document in a line. Numbers are rounded to thousandths. */
  static json(screen: Screen): Stream {
    return new Stream(screen, (interval) => `${JSON.stringify(interval, thousandths)}\n`);
  }

  /** Text: each interval below its time, with an empty line between two. */
  static text(screen: Screen): Stream {
    const stream: Stream = new Stream(screen, (interval) => {
      const lines = [interval.at, ...renderInterval(interval).map(({ text }) => text)];
      return `${stream.anything ? '\n' : ''}${lines.join('\n')}\n`;
    });
    return stream;
  }

  began(): void {}

  interval(interval: Interval): void {
    this.isSilent = false;
    this.screen.write(this.form(interval));
    this.anything = true;
  }

  silent(why: string): void {
    if (!this.isSilent) this.screen.note(`no answer: ${why}`);
    this.isSilent = true;
  }

  restarted(): void {
    this.isSilent = false;
    this.screen.note('the balancer was restarted');
  }
}

function thousandths(_key: string, value: unknown): unknown {
  return typeof value === 'number' ? Math.round(value * 1_000) / 1_000 : value;
}

const CLEAR = '\x1b[2J';
const HOME = '\x1b[H';
const CLEAR_LINE_END = '\x1b[K';
const CLEAR_BELOW = '\x1b[J';
const DIM = '\x1b[2m';
const UNDIM = '\x1b[22m';

/**
 * Shows each interval in the place of the last one, below a line about the watch itself. Long lines
 * are cut at the right. When there are too many lines, the last line says how many are missing.
 */
export class Terminal implements Display {
  private readonly screen: Screen;
  private shown: Interval | undefined;
  private drawnOn = '';

  constructor(screen: Screen) {
    this.screen = screen;
  }

  began(seconds: number): void {
    this.draw(`first figures in ${seconds} s; Ctrl-C ends`);
  }

  interval(interval: Interval): void {
    this.shown = interval;
    this.draw(interval.at);
  }

  silent(why: string): void {
    this.draw(`NO ANSWER: ${why}`);
  }

  restarted(): void {
    this.draw('the balancer was restarted');
  }

  private draw(head: string): void {
    const { columns, rows } = this.screen.size() ?? { columns: 80, rows: 24 };
    // The last row and column stay free: a terminal scrolls or wraps when text reaches them.
    const room = Math.max(2, rows - 1);
    const lines = this.shown === undefined ? [] : renderInterval(this.shown, columns - 1);
    const all: Line[] = [{ text: printable(head), dim: false }, ...lines];
    const shown = all.length <= room ? all : all.slice(0, room - 1);
    if (shown.length < all.length)
      shown.push({ text: `(${all.length - shown.length} more lines)`, dim: true });
    const text = shown.map((line) => this.style(line, columns - 1) + CLEAR_LINE_END).join('\n');
    const size = `${columns}x${rows}`;
    const clear = size === this.drawnOn ? '' : CLEAR;
    this.drawnOn = size;
    this.screen.write(`${clear}${HOME}${text}\n${CLEAR_BELOW}`);
  }

  private style({ text, dim }: Line, columns: number): string {
    const cut = [...text].slice(0, Math.max(1, columns)).join('');
    return dim && this.screen.dims ? `${DIM}${cut}${UNDIM}` : cut;
  }
}
