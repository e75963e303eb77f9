/**
 * What is known of a counter beside its value: enough to understand it without reading the code.
 */

export interface CounterInfo {
  /** It only grows, from 0 at the start of the program that counts. */
  readonly kind: 'counter';
  /** What it counts, in the plural. */
  readonly unit: string;
  /**
   * What it means, a sentence that stands alone; then what follows from it, or what to do about it.
   */
  readonly help: string;
}

export function counter(unit: string, help: string): CounterInfo {
  return { kind: 'counter', unit, help };
}

/** The first sentence of the help: what the counter means. */
export function meaning({ help }: CounterInfo): string {
  const end = help.indexOf('. ');
  return end < 0 ? help : help.slice(0, end + 1);
}
