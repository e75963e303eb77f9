/**
 * Finds the clients of a capture whose checksums mean nothing. A capture that was taken on the
 * sending machine shows frames before hardware completed their checksums. An edited capture may
 * have kept the old checksums. In both cases nearly all segments of a client are wrong, whereas
 * damage on the way would hit few.
 */

/**
 * `detect`: a client's wrong checksums are ignored if most of its segments have one. `verify`:
 * segments with wrong checksums are dropped, as a balancer does. `ignore`: all segments are taken.
 */
export type ChecksumPolicy = 'detect' | 'verify' | 'ignore';

export interface ClientChecksums {
  /** IPv4 address. */
  client: number;
  segments: number;
  /** Segments whose IPv4 or TCP checksum is wrong. */
  wrong: number;
}

type Tally = Omit<ClientChecksums, 'client'>;

export class ChecksumTally {
  private readonly clients = new Map<number, Tally>();

  note(client: number, isRight: boolean): void {
    let tally = this.clients.get(client);
    if (tally === undefined) {
      tally = { segments: 0, wrong: 0 };
      this.clients.set(client, tally);
    }
    tally.segments += 1;
    if (!isRight) tally.wrong += 1;
  }

  /** Whether wrong checksums of this client are ignored. */
  ignores(client: number, policy: ChecksumPolicy): boolean {
    if (policy !== 'detect') return policy === 'ignore';
    const tally = this.clients.get(client);
    return tally !== undefined && 2 * tally.wrong > tally.segments;
  }

  /** The clients that have wrong checksums which are ignored. */
  ignored(policy: ChecksumPolicy): ClientChecksums[] {
    return [...this.clients]
      .filter(([client, { wrong }]) => wrong > 0 && this.ignores(client, policy))
      .map(([client, { segments, wrong }]) => ({ client, segments, wrong }));
  }
}
