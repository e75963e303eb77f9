/** Signals that ask a program to end. */

/** A program that gets one of these undoes its changes and ends. */
export const END_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Calls `onSignal` for each of `signals`. Returns a function that removes the listeners. */
export function onSignals(signals: readonly NodeJS.Signals[], onSignal: () => void): () => void {
  for (const name of signals) process.on(name, onSignal);
  return () => {
    for (const name of signals) process.off(name, onSignal);
  };
}

/**
 * Runs a program until it ends, and aborts it when a signal asks it to end. Further signals change
 * nothing: the program takes the time that it needs to end.
 * @param program ends early when its AbortSignal is aborted
 */
export async function untilEndSignal<Result>(
  program: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const ending = new AbortController();
  const forget = onSignals(END_SIGNALS, () => ending.abort());
  try {
    return await program(ending.signal);
  } finally {
    forget();
  }
}
