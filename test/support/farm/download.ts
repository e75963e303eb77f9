/** A long answer that is under way while a test breaks something. */
import { createHash } from 'node:crypto';
import { createReadStream, rmSync } from 'node:fs';
import type { Farm } from '../farm.js';
import type { Program } from './process.js';

export class Download {
  private static count = 0;
  private readonly file: string;
  private readonly program: Program;

  /** @param rate as curl's --limit-rate takes it. */
  constructor(farm: Farm, url: string, rate: string) {
    const name = `download${Download.count++}`;
    this.file = `${farm.directory}/${name}.bin`;
    this.program = farm.client.start(name, [
      'curl',
      '-sS',
      '-m',
      '60',
      '--limit-rate',
      rate,
      '-o',
      this.file,
      url,
    ]);
  }

  get running(): boolean {
    return this.program.running;
  }

  /** Waits for its end: curl's exit code, and the SHA-256 of what arrived. */
  async finish(): Promise<{ exit: number | null; sha256: string; error: string }> {
    const { code } = await this.program.exited;
    const hash = createHash('sha256');
    try {
      for await (const chunk of createReadStream(this.file)) {
        hash.update(chunk as Buffer);
      }
    } catch {
      // nothing arrived: the hash of nothing will not match
    }
    rmSync(this.file, { force: true });
    return { exit: code, sha256: hash.digest('hex'), error: this.program.log() };
  }
}
