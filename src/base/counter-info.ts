/** The description of a counter: enough to understand its value without reading the code. */

export interface CounterInfo {
  /** A counter starts at 0 with the program that counts, and only grows. */
  readonly kind: 'counter';
  /** The things counted, in the plural. */
  readonly unit: string;
  /**
   * A noun phrase that stands alone and says what is counted; then the cause, or what to do. It is
   * the HELP text of the metric.
   */
  readonly help: string;
}

export function counter(unit: string, help: string): CounterInfo {
  return { kind: 'counter', unit, help };
}

/** The first sentence of the help: what is counted. */
export function meaning({ help }: CounterInfo): string {
  const end = help.indexOf('. ');
  return end < 0 ? help : help.slice(0, end + 1);
}
