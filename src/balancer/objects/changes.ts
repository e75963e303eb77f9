/**
 * Changes while the balancer runs, one after the other. Each one makes a whole new config:
 *
 *     reload   the file, read and checked
 *     edit     the data of the config that runs, changed and checked in the same way
 *
 * The config is then compared with the one that runs, and applied completely or not at all
 * (farm-changer.ts). A second change during one is refused, so that two operators never mix theirs.
 */
import type { Change } from '../../api/control.js';
import type { ChangeReport, ConfigDocument, SaveDocument } from '../../api/documents.js';
import { BatonError, reasonOf } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { runAll } from '../../base/run-all.js';
import type { BalancerData } from '../../config/data.js';
import { diffConfig, type KeyChange } from '../../config/diff.js';
import {
  addNode,
  addResource,
  addVirtualServer,
  removeNode,
  removeResource,
  removeVirtualServer,
  setWeight,
} from '../../config/edit.js';
import type { BalancerConfig } from '../../config/load.js';
import { presentText, saveConfig } from '../../config/save.js';
import type { PreparedChange } from '../machine/change.js';
import type { CheckedConfig, ConfigThread } from './config-handle.js';
import type { FarmChanger } from './farm-changer.js';

/** Interval of the search for retired slots that have become free, ms. */
const COLLECT_MS = 1_000;

/** The changes that make a new config. */
export type ConfigChange = Exclude<Change, { kind: 'node-state' }>;

/** A part of the balancer with settings in the config, such as a listener. */
export interface Configurable {
  /**
   * Does everything that can fail.
   * @throws BatonError when this config cannot work; nothing has changed then
   */
  prepare(config: BalancerConfig): Promise<PreparedPart>;
}

export interface PreparedPart extends PreparedChange {
  /** For whoever asked for the change, a line each; the part has logged them. */
  readonly warnings?: readonly string[];
}

/** What runs. */
export interface Running {
  readonly config: BalancerConfig;
  readonly data: BalancerData;
  /** The config file as it was read or written last. */
  readonly text: string;
  /** The data that the file has. */
  readonly saved: BalancerData;
}

export interface ChangesOptions {
  /** As the file says. */
  readonly running: Omit<Running, 'saved'>;
  readonly configs: Pick<ConfigThread, 'load' | 'check' | 'render'>;
  readonly farm: FarmChanger;
  readonly parts: readonly Configurable[];
  readonly log: Log;
  /** Called with true before the work of a change begins, with false when it has ended. */
  onWork(working: boolean): void;
  /** Called when a change is in force. */
  onChange(report: ChangeReport, actor: string): void;
}

export class Changes {
  private readonly options: ChangesOptions;
  private current: Running;
  /** What keeps a change from beginning; undefined: nothing. */
  private busy: string | undefined = 'the start of the balancer';
  private collecting: Promise<unknown> = Promise.resolve();
  /** The change that is being brought to the farm. */
  private bringing: Promise<unknown> = Promise.resolve();
  private hasStopped = false;
  private isCollecting = false;
  /** Why the last collection has failed; '': it has not. */
  private whyNotFreed = '';
  private timer: NodeJS.Timeout | undefined;

  constructor(options: ChangesOptions) {
    this.options = options;
    const { running } = options;
    this.current = { ...running, saved: running.data };
  }

  get running(): Running {
    return this.current;
  }

  /** Takes changes from now on. Frees retired slots from time to time, until `stop`. */
  start(): void {
    this.busy = undefined;
    this.timer = setInterval(() => this.collect(), COLLECT_MS);
  }

  /**
   * Refuses every change from now on, also one whose config is still being read. Waits for one that
   * has reached the farm: engine threads and machine must not end in the middle of it.
   */
  async stop(): Promise<void> {
    this.hasStopped = true;
    clearInterval(this.timer);
    await Promise.allSettled([this.collecting, this.bringing]);
  }

  /**
   * Makes one change.
   * @param actor who asks for it
   * @throws BatonError for what is wrong with it; BATON_CONFLICT during another change
   */
  change(change: ConfigChange, actor: string): Promise<ChangeReport> {
    return this.alone(change.kind === 'reload' ? 'a reload' : 'a change', async () => {
      const { current } = this;
      const { configs } = this.options;
      if (change.kind === 'reload') {
        const loaded = await configs.load(change.file ?? current.config.file);
        const source = { text: loaded.text, saved: loaded.data };
        return this.apply(loaded, source, this.options.parts, actor);
      }
      const data = edited(current.data, change);
      // An edit changes no settings: files of the parts that are wrong meanwhile do not matter.
      return this.apply(await configs.check(data, current.config.file), current, [], actor);
    });
  }

  /** The config that runs, as YAML with the comments of the file. */
  async config(): Promise<ConfigDocument> {
    const { config, data, text, saved } = this.current;
    const isSaved = data === saved;
    return {
      text: isSaved ? text : await this.options.configs.render(text, data),
      file: config.file,
      saved: isSaved,
    };
  }

  /**
   * Writes the config that runs to its file.
   * @throws BatonError BATON_CONFLICT without `force` when the file was changed meanwhile;
   *   BATON_SYSTEM when it cannot be written
   */
  save({ force = false }: { force?: boolean }): Promise<SaveDocument> {
    return this.alone('a save', async () => {
      const { text, file } = await this.config();
      const present = await presentText(file);
      if (!force && present !== this.current.text) throw changedMeanwhile(file, present);
      if (present !== text) await saveConfig(file, text);
      this.current = { ...this.current, text, saved: this.current.data };
      return { file, written: present !== text };
    });
  }

  /**
   * Applies a checked config.
   * @param parts that take their settings from it
   */
  private async apply(
    next: CheckedConfig,
    { text, saved }: Pick<Running, 'text' | 'saved'>,
    parts: readonly Configurable[],
    actor: string,
  ): Promise<ChangeReport> {
    const { farm, log, onChange } = this.options;
    const diff = diffConfig(this.current.config, next.config);
    if (diff.fixed.length > 0) throw needsReplace(next.config.file, diff.fixed);
    this.requireRunning();
    for (const warning of next.config.warnings) log.warn(warning);
    const bringing = this.bring(next, diff.same, parts);
    this.bringing = bringing;
    const warnings = [...next.config.warnings, ...(await bringing)];
    this.current = { config: next.config, data: next.data, text, saved };
    for (const line of diff.lines) log.info(`${line} (by ${actor})`);
    const report: ChangeReport = {
      changed: [...diff.lines],
      generation: farm.farm.generation,
      ...(warnings.length === 0 ? {} : { warnings }),
    };
    if (!diff.same) onChange(report, actor);
    return report;
  }

  /**
   * Brings the config to all parts and to the farm, or to none of them. The parts read their files
   * again, even if the config is the same.
   * @returns their warnings
   */
  private async bring(
    { config, directory }: CheckedConfig,
    same: boolean,
    parts: readonly Configurable[],
  ): Promise<string[]> {
    const prepared: PreparedPart[] = [];
    try {
      for (const part of parts) prepared.push(await part.prepare(config));
      if (!same) await this.options.farm.apply(config, directory);
    } catch (error) {
      await this.all('given up', prepared, 'abandon');
      throw error;
    }
    // The farm has changed, so this change is in force: what fails now is no reason to refuse it.
    await this.all('in force', prepared, 'commit');
    return prepared.flatMap(({ warnings = [] }) => warnings);
  }

  /** Takes the last step with each part. A part that fails keeps none of the others from it. */
  private async all(
    what: string,
    parts: readonly PreparedChange[],
    step: 'commit' | 'abandon',
  ): Promise<void> {
    for (const failure of await runAll(parts.map((part) => () => part[step]())))
      this.options.log.warn(`a setting of a change is not fully ${what}: ${reasonOf(failure)}`);
  }

  /** Runs `work` while no other change can begin. */
  private async alone<Result>(what: string, work: () => Promise<Result>): Promise<Result> {
    this.requireRunning();
    if (this.busy !== undefined) {
      throw new BatonError('BATON_CONFLICT', `${this.busy} is under way`, {
        hint: 'try again when it has ended',
      });
    }
    this.busy = what;
    this.options.onWork(true);
    try {
      await this.collecting;
      return await work();
    } finally {
      this.options.onWork(false);
      this.busy = undefined;
    }
  }

  private requireRunning(): void {
    if (!this.hasStopped) return;
    throw new BatonError('BATON_CONFLICT', 'the balancer is ending: nothing was changed');
  }

  private collect(): void {
    if (this.busy !== undefined || this.isCollecting) return;
    const { farm, log } = this.options;
    this.isCollecting = true;
    let why = '';
    this.collecting = farm
      .collect()
      .catch((error: unknown) => {
        why = reasonOf(error);
        // The next one comes in a second, and may fail for the same reason.
        if (why !== this.whyNotFreed) log.warn(`removed objects keep their slots: ${why}`);
      })
      .finally(() => {
        this.whyNotFreed = why;
        this.isCollecting = false;
      });
  }
}

function edited(data: BalancerData, change: Exclude<ConfigChange, { kind: 'reload' }>) {
  switch (change.kind) {
    case 'weight':
      return setWeight(data, change.node, change.weight);
    case 'add-node':
      return addNode(data, change.node);
    case 'add-virtual-server':
      return addVirtualServer(data, change.virtualServer);
    case 'add-resource':
      return addResource(data, change.resource);
    case 'remove-node':
      return removeNode(data, change.node);
    case 'remove-virtual-server':
      return removeVirtualServer(data, change.virtualServer);
    case 'remove-resource':
      return removeResource(data, change, change.node);
  }
}

function changedMeanwhile(file: string, present: string | undefined): BatonError {
  const what = present === undefined ? 'is gone or unreadable' : 'was changed';
  return new BatonError('BATON_CONFLICT', `${what} since the balancer has read it`, {
    where: file,
    hint: '`baton reload` takes its changes in; `baton config --save --force` overwrites them',
  });
}

function needsReplace(file: string, fixed: readonly KeyChange[]): BatonError {
  const lines = fixed.map(({ key, running, wanted }) => `${key} is ${running}, wanted ${wanted}`);
  return new BatonError(
    'BATON_CONFLICT',
    `these keys cannot change while the balancer runs: ${lines.join('; ')}`,
    {
      where: file,
      hint: `nothing was changed; \`baton balancer -c ${file} --replace\` starts with them, and with \`xdp\` it keeps the sessions that were handed over`,
    },
  );
}
