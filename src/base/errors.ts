/**
 * One family of errors for everything an operator can get wrong.
 *
 * What comes from the wire is never an exception: malformed packets are results and counters.
 * These errors are for people: they say what is wrong, where, and what to do about it.
 */

/** Stable codes: documented, and safe to match on in scripts. */
export type ErrorCode =
  | 'BATON_CONFIG' // a config file that can not be used
  | 'BATON_KEY' // a key file that can not be used, or a key that the other side does not share
  | 'BATON_PRIVILEGE' // not root, or a capability is missing
  | 'BATON_KERNEL' // the kernel lacks something that is needed
  | 'BATON_INTERFACE' // a network interface that is not there, or not usable
  | 'BATON_IN_USE' // an address, port or name that something else holds
  | 'BATON_CAPTURE' // a capture file that can not be read or written
  | 'BATON_CONTROL' // the control socket: nothing there, or no sense in the answer
  | 'BATON_ARGUMENT' // a command line that makes no sense
  | 'BATON_SYSTEM'; // the system refused something for a reason of its own

export class BatonError extends Error {
  override readonly name = 'BatonError';
  readonly code: ErrorCode;
  /** Where it is wrong: a file with line and column, an interface, an address. */
  readonly where: string | undefined;
  /** What to do about it. */
  readonly hint: string | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: { where?: string; hint?: string; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.where = options.where;
    this.hint = options.hint;
  }

  /** The one line that a person gets to read. */
  toLine(): string {
    const where = this.where === undefined ? '' : `${this.where}: `;
    const hint = this.hint === undefined ? '' : ` (${this.hint})`;
    return `${where}${this.message}${hint}`;
  }
}

/** The message of anything thrown, for use inside a message of ours. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
