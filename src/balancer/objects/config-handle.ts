/** The main thread's side of the config thread, which reads, checks and writes configs. */
import { Worker } from 'node:worker_threads';
import { BatonError } from '../../base/errors.js';
import { errorOfThread } from '../../base/thread-errors.js';
import { allResources, type BalancerData } from '../../config/data.js';
import type { BalancerConfig } from '../../config/load.js';
import {
  entriesInTurns,
  packInTurns,
  type ResourcePiece,
  unpackInTurns,
} from '../../config/resource-pieces.js';
import type { DirectoryImage } from '../../directory/directory-image.js';
import type { ConfigAnswer, ConfigQuestion, PackedData } from './config-messages.js';

/** A config that is valid, in every form that a change needs. */
export interface CheckedConfig {
  readonly config: BalancerConfig;
  /** The keys of the file, without defaults. */
  readonly data: BalancerData;
  /** In shared memory. It names holders by their indexes in `config.nodes`. */
  readonly directory: DirectoryImage;
}

export interface LoadedConfig extends CheckedConfig {
  /** The file's contents. */
  readonly text: string;
}

/** The thread ends after this time without a question, in ms: its memory is worth more then. */
const IDLE_MS = 10_000;
const PROGRAM = new URL('./config-thread.js', import.meta.url);

interface Waiting {
  resolve(answer: ConfigAnswer): void;
  reject(error: Error): void;
}

/**
 * Reads, checks and writes configs in a thread of its own. The thread starts with the first
 * question. Whatever the size of a config, the main thread works on it for a few ms at a time. Each
 * method throws the BatonError that the same work would throw in the main thread.
 */
export class ConfigThread {
  private worker: Worker | undefined;
  private readonly waiting = new Map<number, Waiting>();
  private idle: NodeJS.Timeout | undefined;
  private nextId = 1;
  private stopped = false;
  /** The shared form of lists of resources. Lists are never changed in place. */
  private readonly packed = new WeakMap<readonly unknown[], readonly ResourcePiece[]>();

  /** Tests may set the time after which the thread ends, and what it runs. */
  constructor(
    private readonly idleMs = IDLE_MS,
    private readonly program = PROGRAM,
  ) {}

  /** Whether there is a thread at this moment. */
  get running(): boolean {
    return this.worker !== undefined;
  }

  /** Loads a balancer's config file. */
  async load(file: string): Promise<LoadedConfig> {
    const answer = await this.ask({ kind: 'load', file });
    if (answer.kind !== 'loaded') throw unexpected(answer);
    const { text, directory } = answer;
    const pieces = answer.data.resources ?? [];
    const resources = await unpackInTurns(pieces);
    this.packed.set(resources, pieces);
    // The thread has checked that it has this form.
    const data = { ...answer.data.rest, resources } as unknown as BalancerData;
    return { config: await withResources(answer.config, data), data, directory, text };
  }

  /** Checks changed data. Relative paths start at the directory of `file`. */
  async check(data: BalancerData, file: string): Promise<CheckedConfig> {
    const answer = await this.ask({ kind: 'check', data: await this.pack(data), file });
    if (answer.kind !== 'checked') throw unexpected(answer);
    const { directory } = answer;
    return { config: await withResources(answer.config, data), data, directory };
  }

  /** YAML of `data` that keeps comments and order of `text`: renderConfig of src/config. */
  async render(text: string, data: BalancerData): Promise<string> {
    const answer = await this.ask({ kind: 'render', text, data: await this.pack(data) });
    if (answer.kind !== 'rendered') throw unexpected(answer);
    return answer.text;
  }

  /** Ends the thread. What is under way fails, and so does every later call. */
  async stop(): Promise<void> {
    this.stopped = true;
    await this.end();
  }

  private async pack(data: BalancerData): Promise<PackedData> {
    const { resources, ...rest } = data;
    if (!Array.isArray(resources)) return { rest: data, resources: undefined };
    let pieces = this.packed.get(resources);
    if (pieces === undefined) {
      pieces = await packInTurns(resources);
      this.packed.set(resources, pieces);
    }
    return { rest, resources: pieces };
  }

  private ask(question: ConfigQuestion): Promise<ConfigAnswer> {
    if (this.stopped) return Promise.reject(ended());
    const worker = this.worker ?? this.start();
    clearTimeout(this.idle);
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      worker.ref();
      worker.postMessage({ id, question });
    });
  }

  private start(): Worker {
    const worker = new Worker(this.program, { name: 'config' });
    let reason: Error = ended();
    worker.on('message', ({ id, answer }: { id: number; answer: ConfigAnswer }) => {
      const waiting = this.waiting.get(id);
      this.waiting.delete(id);
      this.rest(worker);
      if (answer.kind === 'failed') waiting?.reject(errorOfThread(answer.error));
      else waiting?.resolve(answer);
    });
    worker.on('error', (error) => {
      reason = new BatonError(
        'BATON_SYSTEM',
        `the thread that reads configs has failed: ${errorOfThread(error).message}`,
      );
    });
    worker.on('exit', () => {
      if (this.worker !== worker) return;
      this.worker = undefined;
      this.abandon(reason);
    });
    this.worker = worker;
    return worker;
  }

  /** A thread without a question does not keep the process running, and ends after a while. */
  private rest(worker: Worker): void {
    if (this.waiting.size > 0) return;
    worker.unref();
    this.idle = setTimeout(() => void this.end(), this.idleMs);
    this.idle.unref();
  }

  private async end(): Promise<void> {
    clearTimeout(this.idle);
    const { worker } = this;
    this.worker = undefined;
    this.abandon(ended());
    await worker?.terminate();
  }

  private abandon(reason: Error): void {
    for (const { reject } of this.waiting.values()) reject(reason);
    this.waiting.clear();
  }
}

async function withResources(config: BalancerConfig, data: BalancerData): Promise<BalancerConfig> {
  return { ...config, resources: await entriesInTurns(allResources(data), config.nodes) };
}

function ended(): BatonError {
  return new BatonError('BATON_SYSTEM', 'the thread that reads configs has ended');
}

function unexpected({ kind }: ConfigAnswer): BatonError {
  return new BatonError('BATON_SYSTEM', `the thread that reads configs gave the answer ${kind}`);
}
