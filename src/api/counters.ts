/** What the API counts about its callers. Names and texts: src/base/api-counters.ts. */
import { API_COUNTERS, type ApiCounter } from '../base/api-counters.js';

export class ApiCounters {
  private readonly counts = new Map<ApiCounter, number>();

  add(name: ApiCounter): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
  }

  /** All of them by name, also those that are 0. */
  read(): Record<ApiCounter, number> {
    const names = Object.keys(API_COUNTERS) as ApiCounter[];
    return Object.fromEntries(names.map((name) => [name, this.counts.get(name) ?? 0])) as Record<
      ApiCounter,
      number
    >;
  }
}
