/** The signals by which somebody asks a program of ours to end. */

/** Each ends a program in an orderly way. */
export const END_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Calls `onSignal` at each of `signals`. Returns a function that stops that. */
export function onSignals(signals: readonly NodeJS.Signals[], onSignal: () => void): () => void {
  for (const name of signals) process.on(name, onSignal);
  return () => {
    for (const name of signals) process.off(name, onSignal);
  };
}

/**
 * Runs a program until it has ended by itself, or until a signal asks it to end. Further signals
 * change nothing: an orderly end takes its time.
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
