/** Errors on their way between threads, where they lose their class. */
import { BatonError, type ErrorCode, reasonOf } from './errors.js';

/** A BatonError as plain data, for a message to another thread. */
export interface PlainError {
  readonly name: string;
  readonly message: string;
  readonly code?: ErrorCode;
  readonly where?: string | undefined;
  readonly hint?: string | undefined;
}

export function toPlainError(error: unknown): PlainError {
  if (!(error instanceof BatonError)) return { name: 'Error', message: reasonOf(error) };
  const { name, message, code, where, hint } = error;
  return { name, message, code, where, hint };
}

/** An error of another thread, as one of this thread. A BatonError is one again. */
export function errorOfThread(error: unknown): Error {
  if (typeof error !== 'object' || error === null || !('message' in error)) {
    return new Error(reasonOf(error));
  }
  const { name, message, code, where, hint } = error as PlainError;
  if (name === 'BatonError' && code !== undefined)
    return new BatonError(code, message, { where, hint });
  return error instanceof Error ? error : new Error(message);
}
