/** The values of a config, and the problems that are found in them. */
import { dirname, resolve } from 'node:path';
import { BatonError } from '../base/errors.js';
import { printable, quoted } from '../base/text.js';

/** Keys of maps and indices of lists, from the top of the config. */
export type KeyPath = readonly (string | number)[];

/** Most problems that one error lists. */
const MOST_LINES = 200;

/** "virtualServers[0].port" */
export function formatPath(path: KeyPath): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else text += `${text === '' ? '' : '.'}${/^[\w.-]+$/.test(part) ? part : quoted(part)}`;
  }
  return text;
}

/** What is wrong with one value. */
export interface Problem {
  /** Where the problem is: an offset in the file. Problems are listed in this order. */
  readonly offset: number;
  /** "virtualServers[0].port"; empty: the whole config. */
  readonly path: string;
  readonly text: string;
}

/**
 * A config that is being checked. `FileSource` is a file, with lines and columns; `DataSource` is
 * plain data.
 */
export abstract class Source {
  /** As given to the loader: relative paths start at its directory. */
  readonly file: string;
  /** Plain values, without defaults. Undefined: the file is not valid YAML. */
  abstract readonly data: unknown;
  private readonly problems: Problem[] = [];
  private readonly warnings: Problem[] = [];

  constructor(file: string) {
    this.file = file;
  }

  /** Where the value at `path`, or its key, is: the greater the later. */
  protected abstract offsetOf(path: KeyPath, at: 'value' | 'key'): number;

  /** The beginning of a message about this place, with ": " at its end. */
  protected abstract placeAt(offset: number): string;

  /** Records a problem of the value at `path`, or of its key when the key itself is wrong. */
  wrong(path: KeyPath, text: string, at: 'value' | 'key' = 'value'): void {
    this.addProblem(this.offsetOf(path, at), formatPath(path), text);
  }

  /** Records a missing key. The message shows where the map begins that should contain it. */
  missing(path: KeyPath, text: string): void {
    this.addProblem(this.offsetOf(path.slice(0, -1), 'value'), formatPath(path), text);
  }

  /** Records a warning. It does not make the config invalid. */
  warn(path: KeyPath, text: string): void {
    this.warnings.push({ offset: this.offsetOf(path, 'value'), path: formatPath(path), text });
  }

  /** The place of the value at `path` with its key, for errors that are found later. */
  placeOf(path: KeyPath): string {
    return `${this.placeAt(this.offsetOf(path, 'value'))}${formatPath(path)}`;
  }

  /** The name of the file, escaped for a terminal. */
  get name(): string {
    return printable(this.file);
  }

  /** Resolves a path in the config, which is relative to the directory of the file. */
  resolve(path: string): string {
    return resolve(dirname(this.file), path);
  }

  get sound(): boolean {
    return this.problems.length === 0;
  }

  warningLines(): string[] {
    return this.toLines(this.warnings);
  }

  /** @throws BatonError BATON_CONFIG with the problems in their order, if there are any */
  throwIfWrong(): void {
    if (this.sound) return;
    const lines = this.toLines(this.problems);
    const more = lines.length - MOST_LINES;
    if (more > 0) lines.splice(MOST_LINES, more, `and ${more} more problems`);
    throw new BatonError('BATON_CONFIG', lines.join('\n'));
  }

  protected addProblem(offset: number, path: string, text: string): void {
    this.problems.push({ offset, path, text });
  }

  private toLines(problems: readonly Problem[]): string[] {
    const seen = new Set<string>();
    return [...problems]
      .sort((a, b) => a.offset - b.offset)
      .filter(({ offset, path }) => {
        // A value with two problems is reported once, with the first of them.
        const place = `${offset} ${path}`;
        return path === '' || (!seen.has(place) && seen.add(place));
      })
      .map(({ offset, path, text }) => {
        const key = path === '' ? '' : `${path}: `;
        return `${this.placeAt(offset)}${key}${text}`;
      });
  }
}

/** Plain data, for instance what runs with one change. A place in it is its key path. */
export class DataSource extends Source {
  readonly data: unknown;

  /** @param file where the data is from: relative paths start at its directory */
  constructor(data: unknown, file: string) {
    super(file);
    this.data = data;
  }

  /** All places are equal, so problems stay in the order in which they were found. */
  protected offsetOf(): number {
    return 0;
  }

  protected placeAt(): string {
    return '';
  }
}
