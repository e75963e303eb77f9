/** A config file as it was written: its values, each with its line and column. */
import { readFileSync } from 'node:fs';
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
import { withRegularFile } from '../base/regular-file.js';
import { printable } from '../base/text.js';
import { type KeyPath, Source } from './source.js';

/** Room for a million resources. A larger file would take minutes to parse. */
const MOST_BYTES = 256 * 1024 * 1024;

export class FileSource extends Source {
  readonly data: unknown;
  /** The file's contents. */
  readonly text: string;
  private readonly lines = new LineCounter();
  private readonly document: Document.Parsed;

  /** @throws BatonError BATON_CONFIG when the file cannot be read */
  constructor(file: string) {
    super(file);
    const text = readText(file);
    this.text = text;
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
    if (!this.sound) return;
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

  /** `file:line:column: ` */
  protected placeAt(offset: number): string {
    const { line, col } = this.lines.linePos(offset);
    return `${this.name}:${Math.max(line, 1)}:${Math.max(col, 1)}: `;
  }

  protected offsetOf(path: KeyPath, at: 'value' | 'key'): number {
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
    bytes = withRegularFile(file, (descriptor, { size }) => {
      if (size > MOST_BYTES) {
        throw new BatonError(
          'BATON_CONFIG',
          `larger than ${MOST_BYTES} bytes, expected a smaller config file`,
          { where: printable(file) },
        );
      }
      return readFileSync(descriptor);
    });
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
