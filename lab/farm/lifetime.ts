/**
 * What a farm owns on this machine: namespaces, programs, a directory. The registry records each
 * before it exists, and all of it ends with the farm, however this process ends.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { KEY_FILE } from './configs.js';
import type { Program } from './process.js';
import { destroy, type FarmRecord, load, recordOf, save } from './registry.js';

/** Time for programs to end when the network is taken down, in ms. */
const GRACE_MS = 2000;
const KEPT_GRACE_MS = 3000;

export class Lifetime {
  /**
   * Configs, logs, web roots and the key; readable by every user, because web servers drop root.
   */
  readonly directory: string;
  private programs: Program[] = [];
  private ended = false;
  private readonly onExit = (): void => this.destroyNow();
  private readonly onSignal = (signal: NodeJS.Signals): void => {
    this.destroyNow();
    process.exit(signal === 'SIGINT' ? 130 : 143);
  };

  private constructor(private readonly record: FarmRecord) {
    this.directory = record.directory;
    process.once('exit', this.onExit);
    process.once('SIGINT', this.onSignal);
    process.once('SIGTERM', this.onSignal);
  }

  /**
   * Records a farm and makes its directory with a new key. Throws when there is a farm of this
   * name.
   * @param tag prefix of everything's name
   * @param namespaces those that the caller is about to make
   */
  static begin(tag: string, namespaces: readonly string[]): Lifetime {
    const existing = load(tag);
    if (existing !== undefined) {
      const how = existing.keep
        ? 'end it with `make demo-stop`'
        : `process ${existing.owner.pid} uses it`;
      throw new Error(`the farm ${tag} is running already: ${how}`);
    }
    const record: FarmRecord = {
      tag,
      owner: recordOf(process.pid),
      keep: false,
      directory: path.join('/tmp', tag),
      namespaces: [...namespaces],
      programs: [],
    };
    save(record);
    const lifetime = new Lifetime(record);
    rmSync(record.directory, { recursive: true, force: true });
    mkdirSync(record.directory, { mode: 0o755 });
    const key = `${randomBytes(16).toString('hex')}\n`;
    writeFileSync(path.join(record.directory, KEY_FILE), key, { mode: 0o600 });
    return lifetime;
  }

  /** Records a program that ends with the farm. */
  add(program: Program): void {
    this.programs = [...this.programs.filter((other) => other.running), program];
    this.record.programs = this.programs.map((other) => recordOf(other.pid));
    save(this.record);
  }

  /**
   * Ends every program and takes the namespaces down. Never rejects; a second call does nothing.
   * @param graceMs time for each program to end by itself
   */
  async stop(graceMs: number): Promise<void> {
    if (this.ended) return;
    await Promise.all(this.programs.map((program) => program.stop(graceMs)));
    this.destroyNow();
    process.off('exit', this.onExit);
    process.off('SIGINT', this.onSignal);
    process.off('SIGTERM', this.onSignal);
  }

  /** Lets everything outlive this process; stopKept ends it. */
  keep(): void {
    this.ended = true;
    this.record.keep = true;
    save(this.record);
    for (const program of this.programs) program.release();
  }

  private destroyNow(): void {
    if (this.ended) return;
    this.ended = true;
    destroy(this.record, GRACE_MS);
  }
}

/** Takes down a farm that was left running. Returns false when there is none of that name. */
export function stopKept(tag: string): boolean {
  const record = load(tag);
  if (record === undefined) return false;
  destroy(record, KEPT_GRACE_MS);
  return true;
}
