/**
 * Places in compiled files as places in their sources. Node.js can do that itself, but then each
 * test file reads the source maps of all modules that it loads, a sixth of the time of many.
 */
import { existsSync, readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import path from 'node:path';

const COMPILED = /(?:file:\/\/)?(?:[\w./-]*\/)?(dist\/[\w./-]+\.js):(\d+):(\d+)/g;

export class OriginalPlaces {
  private readonly root: string;
  private readonly maps = new Map<string, SourceMap | undefined>();

  /** @param root the directory above dist/ */
  constructor(root: string) {
    this.root = root;
  }

  /** `text` with the file, line and column of the source in place of the compiled file's. */
  in(text: string): string {
    return text.replace(COMPILED, (found, file: string, line: string, column: string) => {
      const origin = this.mapOf(file)?.findOrigin(Number(line), Number(column));
      if (origin === undefined || !('fileName' in origin)) return found;
      const source = path.join(path.dirname(file), origin.fileName);
      return `${source}:${origin.lineNumber}:${origin.columnNumber}`;
    });
  }

  private mapOf(file: string): SourceMap | undefined {
    if (!this.maps.has(file)) {
      const name = path.join(this.root, `${file}.map`);
      const text = existsSync(name) ? readFileSync(name, 'utf8') : undefined;
      this.maps.set(file, text === undefined ? undefined : new SourceMap(JSON.parse(text)));
    }
    return this.maps.get(file);
  }
}
