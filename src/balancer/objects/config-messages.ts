/** The messages between the main thread and the config thread. */
import type { PlainError } from '../../base/thread-errors.js';
import type { BalancerConfig } from '../../config/load.js';
import type { ResourcePiece } from '../../config/resource-pieces.js';
import type { DirectoryImage } from '../../directory/directory-image.js';

/** The data of a config. Its resources are in shared memory: copying them would take long. */
export interface PackedData {
  /** All other keys. */
  readonly rest: Readonly<Record<string, unknown>>;
  /** Undefined: there is no list of resources. */
  readonly resources: readonly ResourcePiece[] | undefined;
}

export type ConfigQuestion =
  | { kind: 'load'; file: string }
  | { kind: 'check'; data: PackedData; file: string }
  | { kind: 'render'; text: string; data: PackedData };

/** The config has no resources: the main thread makes them from the data. */
interface Checked {
  config: BalancerConfig;
  directory: DirectoryImage;
}

export type ConfigAnswer =
  | ({ kind: 'loaded'; text: string; data: PackedData } & Checked)
  | ({ kind: 'checked' } & Checked)
  | { kind: 'rendered'; text: string }
  | { kind: 'failed'; error: PlainError };
