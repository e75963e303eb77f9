/**
 * One family of errors for all mistakes that an operator can make.
 *
 * A packet never causes an exception: a malformed packet is a result and a counter. These errors
 * are for people. They say what is wrong, where, and what to do.
 */

/** Stable codes. They are documented, and scripts may rely on them. */
export const ERROR_CODES = [
  'BATON_CONFIG', // a config file that cannot be used
  'BATON_KEY', // a key file that cannot be used, or a key that the other side does not have
  'BATON_PRIVILEGE', // the process is not root, or lacks a capability
  'BATON_KERNEL', // the kernel lacks a function that Baton needs
  'BATON_INTERFACE', // a network interface that does not exist, or cannot be used
  'BATON_IN_USE', // an address, port or name that something else uses, or an object in use
  'BATON_CAPTURE', // a capture file that cannot be read or written
  'BATON_LOG', // an access log that cannot be written
  'BATON_CONTROL', // the control socket gives no answer, or not a valid one
  'BATON_ARGUMENT', // a command line that is not valid
  'BATON_REQUEST', // a request to the API that is not valid
  'BATON_TOKEN', // a token that is absent, unknown or not enough; a file of tokens with a mistake
  'BATON_CERTIFICATE', // a certificate, or its key, that cannot be used
  'BATON_UNKNOWN', // a name that does not exist
  'BATON_CONFLICT', // what does not fit with what is going on, such as a second reload during one
  'BATON_SYSTEM', // the system refused something for another reason
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

export class BatonError extends Error {
  override readonly name = 'BatonError';
  readonly code: ErrorCode;
  /** Where it is wrong: a file with line and column, an interface, an address. */
  readonly where: string | undefined;
  /** What the operator can do. */
  readonly hint: string | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: { where?: string | undefined; hint?: string | undefined; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.where = options.where;
    this.hint = options.hint;
  }

  /** The error in one line, for people. */
  toLine(): string {
    const where = this.where === undefined ? '' : `${this.where}: `;
    const hint = this.hint === undefined ? '' : ` (${this.hint})`;
    return `${where}${this.message}${hint}`;
  }
}

/** The message of any thrown value, for use inside another message. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
