/**
 * Steps each of which has to be taken, whatever becomes of the others: those that undo what a start
 * has done.
 */

/** Takes every step, in order, and waits for each. Returns what those have thrown that failed. */
export async function runAll(steps: Iterable<() => unknown>): Promise<unknown[]> {
  const failures: unknown[] = [];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      failures.push(error);
    }
  }
  return failures;
}
