/** Runs steps that must all run even when some fail, such as those that undo a start. */

/** Runs every step in order, and waits for each. Returns the errors of the steps that failed. */
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
