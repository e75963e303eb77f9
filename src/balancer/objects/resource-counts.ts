/**
 * The number of requests for each resource since the start. Engine threads count in the directory
 * that they use. With another directory the counts go on for the resources that stay.
 */

/** A resource as the config names it. */
interface Named {
  readonly host?: string;
  readonly path: string;
  readonly alpn?: readonly string[];
  readonly virtualServer?: string;
}

export class ResourceCounts {
  private resources: readonly Named[];
  /** Of the present directory, modulo 2^32. */
  private requests: Uint32Array;
  /** By resource: the part of `requests` that `totals` has already. */
  private seen: Uint32Array;
  private totals: Float64Array;

  /** @param requests of the directory of these resources */
  constructor(resources: readonly Named[], requests: Uint32Array) {
    this.resources = resources;
    this.requests = requests;
    this.seen = requests.slice();
    this.totals = Float64Array.from(requests);
  }

  /** To be called when all engine threads use another directory. */
  follow(resources: readonly Named[], requests: Uint32Array): void {
    this.look();
    const { totals: before } = this;
    if (resources !== this.resources) {
      const places = new Map(this.resources.map((resource, index) => [keyOf(resource), index]));
      this.totals = Float64Array.from(
        resources,
        (resource) => before[places.get(keyOf(resource)) ?? -1] ?? 0,
      );
    }
    this.resources = resources;
    this.requests = requests;
    this.seen = new Uint32Array(requests.length);
  }

  /** To be called at least once in 2^32 requests. */
  look(): void {
    for (let resource = 0; resource < this.seen.length; resource++) this.take(resource);
  }

  /** Requests for the resource at this place of the list. */
  of(resource: number): number {
    return this.take(resource);
  }

  private take(resource: number): number {
    const now = this.requests[resource] ?? 0;
    const more = (now - (this.seen[resource] ?? 0)) >>> 0;
    const total = (this.totals[resource] ?? 0) + more;
    this.seen[resource] = now;
    this.totals[resource] = total;
    return total;
  }
}

function keyOf({ host = '', path, alpn, virtualServer = '' }: Named): string {
  return `${virtualServer} ${host} ${path} ${alpn?.join(' ') ?? ''}`;
}
