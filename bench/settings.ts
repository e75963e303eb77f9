/** The variables of the environment that all benchmarks have: how often, and how long. */

/**
 * Returns the value of a variable: a whole number from 1 on.
 *
 * @param text undefined: the variable is not set, so it has its `usual` value
 * @throws Error that says which variable is wrong, and what it may be
 */
export function wholeNumber(name: string, text: string | undefined, usual: number): number {
  if (text === undefined) return usual;
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < 1)
    throw new Error(`${name} is '${text}': give a whole number from 1 on, as in ${name}=${usual}`);
  return value;
}

/** The same for a variable of this process. With a wrong value it ends the process. */
export function setting(name: string, usual: number): number {
  try {
    return wholeNumber(name, process.env[name], usual);
  } catch (error) {
    process.stderr.write(`bench: ${(error as Error).message}\n`);
    process.exit(2);
  }
}

/** The datapaths to measure: BATON_DATAPATH, one or several with commas between them. */
export function datapaths(usual: string): string[] {
  return (process.env.BATON_DATAPATH ?? usual).split(',');
}
