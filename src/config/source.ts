/** A config file as it was written: its values, each with its line and column. */
import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
} from 'yaml';
import { BatonError } from '../base/errors.js';
import { whyUnreadable } from '../base/file-errors.js';
import { printable, quoted } from '../base/text.js';

/** Keys of maps and indices of lists, from the top of the file. */
export type KeyPath = readonly (string | number)[];

/** Room for a million resources. A larger file would take minutes to parse. */
const MOST_BYTES = 256 * 1024 * 1024;

/** "virtualServers[0].port" */
export function formatPath(path: KeyPath): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else text += `${text === '' ? '' : '.'}${/^[\w.-]+$/.test(part) ? part : quoted(part)}`;
  }
  return text;
}

interface Problem {
  offset: number;
  path: string;
  text: string;
}

export class ConfigSource {
  /** As given on the command line. Each message begins with it. */
  readonly file: string;
  /** Plain values. Undefined when the file is not valid YAML. */
  readonly data: unknown;
  private readonly lines = new LineCounter();
  private readonly document: Document.Parsed;
  private readonly problems: Problem[] = [];
  private readonly warnings: Problem[] = [];

  /** @throws BatonError BATON_CONFIG when the file cannot be read */
  constructor(file: string) {
    this.file = file;
    const text = readText(file);
    const document = parseDocument(text, {
      lineCounter: this.lines,
      prettyErrors: false,
      uniqueKeys: true,
      // 'silent' would hide a second document in the file.
      logLevel: 'error',
    });
    this.document = document;
    for (const error of [...document.errors, ...document.warnings]) {
      const offset = error.pos[0];
      const repeated =
        error.code === 'DUPLICATE_KEY' ? /^[\w.-]+/.exec(text.slice(offset))?.[0] : undefined;
      if (repeated !== undefined) {
        this.addProblem(offset, repeated, 'appears twice in this map, expected each key once');
      } else if (error.code === 'MULTIPLE_DOCS') {
        this.addProblem(
          offset,
          '',
          'a second document begins here, expected one document in the file',
        );
      } else {
        this.addProblem(offset, '', `not valid YAML: ${sentence(error.message)}`);
      }
    }
    if (this.problems.length > 0) return;
    try {
      this.data = document.toJS({ maxAliasCount: 100 });
    } catch (error) {
      this.addProblem(
        0,
        '',
        `not valid YAML: ${sentence(error instanceof Error ? error.message : String(error))}`,
      );
    }
  }

  /** Records a problem of the value at `path`, or of its key when the key itself is wrong. */
  wrong(path: KeyPath, text: string, at: 'value' | 'key' = 'value'): void {
    this.addProblem(this.offsetOf(path, at), formatPath(path), text);
  }

  /** Records a missing key. The message shows where the map begins that should contain it. */
  missing(path: KeyPath, text: string): void {
    this.addProblem(this.offsetOf(path.slice(0, -1), 'value'), formatPath(path), text);
  }

  /** Records a warning. It does not make the file invalid. */
  warn(path: KeyPath, text: string): void {
    this.warnings.push({ offset: this.offsetOf(path, 'value'), path: formatPath(path), text });
  }

  /** `file:line:column: key` of the value at `path`, for errors that are found later. */
  placeOf(path: KeyPath): string {
    const { line, col } = this.lines.linePos(this.offsetOf(path, 'value'));
    return `${this.name}:${line}:${col}: ${formatPath(path)}`;
  }

  /** The name of the file, escaped for a terminal. */
  get name(): string {
    return printable(this.file);
  }

  /** Resolves a path in the file, which is relative to the directory of the file. */
  resolve(path: string): string {
    return resolve(dirname(this.file), path);
  }

  get sound(): boolean {
    return this.problems.length === 0;
  }

  warningLines(): string[] {
    return this.toLines(this.warnings);
  }

  /**
   * @throws BatonError BATON_CONFIG with all problems, in the order of the file, if there are any
   */
  throwIfWrong(): void {
    if (this.sound) return;
    throw new BatonError('BATON_CONFIG', this.toLines(this.problems).join('\n'));
  }

  private toLines(problems: Problem[]): string[] {
    const seen = new Set<string>();
    return [...problems]
      .sort((a, b) => a.offset - b.offset)
      .filter(({ offset, path }) => {
        // A value with two problems is reported once, with the first of them.
        const place = `${offset} ${path}`;
        return path === '' || (!seen.has(place) && seen.add(place));
      })
      .map(({ offset, path, text }) => {
        const { line, col } = this.lines.linePos(offset);
        const key = path === '' ? '' : `${path}: `;
        return `${this.name}:${Math.max(line, 1)}:${Math.max(col, 1)}: ${key}${text}`;
      });
  }

  private addProblem(offset: number, path: string, text: string): void {
    this.problems.push({ offset, path, text });
  }

  private offsetOf(path: KeyPath, at: 'value' | 'key'): number {
    let node: unknown = this.document.contents;
    let offset = isNode(node) ? (node.range?.[0] ?? 0) : 0;
    for (const [index, part] of path.entries()) {
      const holder = isAlias(node) ? node.resolve(this.document) : node;
      if (isSeq(holder)) {
        node = holder.items[Number(part)];
      } else if (isMap(holder)) {
        const pair = holder.items.find(
          ({ key }) => isScalar(key) && String(key.value) === String(part),
        );
        if (pair === undefined) return offset;
        offset = isScalar(pair.key) ? (pair.key.range?.[0] ?? offset) : offset;
        if (at === 'key' && index === path.length - 1) return offset;
        node = pair.value;
      } else {
        return offset;
      }
      // A key without a value has an empty value somewhere behind it. Readers see the key.
      if (isNode(node) && node.range && node.range[0] !== node.range[1]) offset = node.range[0];
    }
    return offset;
  }
}

function readText(file: string): string {
  let bytes: Uint8Array;
  try {
    const { size } = statSync(file);
    if (size > MOST_BYTES) {
      throw new BatonError(
        'BATON_CONFIG',
        `larger than ${MOST_BYTES} bytes, expected a smaller config file`,
        {
          where: printable(file),
        },
      );
    }
    bytes = readFileSync(file);
  } catch (error) {
    if (error instanceof BatonError) throw error;
    throw new BatonError('BATON_CONFIG', `cannot be read: ${whyUnreadable(error)}`, {
      where: printable(file),
      cause: error,
    });
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new BatonError('BATON_CONFIG', 'not UTF-8 text, expected YAML', {
      where: printable(file),
      cause: error,
    });
  }
}

function sentence(message: string): string {
  return printable(message.replace(/\s*\n\s*/g, ' ').replace(/[.:\s]+$/, ''));
}
