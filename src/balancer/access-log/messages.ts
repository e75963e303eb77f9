/** The messages between the main thread and the log thread. */
import type { AccessLogConfig } from '../../config/load.js';
import type { SlotNames } from './joiner.js';

/** The start data of the log thread. */
export interface LogStart {
  wish: AccessLogConfig;
  names: SlotNames;
  /** Memory of `ringMemory`, one for each engine thread. */
  rings: readonly SharedArrayBuffer[];
  /** Memory of `logCounters`, which the log thread writes. */
  counters: SharedArrayBuffer;
}

export type ToLog =
  /** Writes to another file from now on, if that can be opened, or in another format. */
  | { kind: 'change'; id: number; wish: AccessLogConfig }
  /** Opens the file by its name again. */
  | { kind: 'reopen' }
  | { kind: 'names'; id: number; names: SlotNames }
  /** Writes everything that has come so far, and ends. */
  | { kind: 'stop' };

/** What was wrong, as the fields of a BatonError. */
export interface LogFailure {
  message: string;
  where: string | undefined;
  hint: string | undefined;
}

/** The id of the answer to the start. */
export const START_ID = 0;

export type FromLog =
  /** The message with this id is in effect. */
  | { kind: 'done'; id: number }
  /** It is not, and nothing has changed. */
  | { kind: 'refused'; id: number; failure: LogFailure }
  /** For the log of the balancer. */
  | { kind: 'warning'; message: string }
  | { kind: 'info'; message: string };
