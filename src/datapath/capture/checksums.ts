/**
 * Which clients of a capture have checksums that mean nothing. A capture that was taken on the
 * sending machine has its frames before hardware finished them, and an edited one has those of
 * before the change: nearly all of what a client sent is wrong then, where damage on the way would
 * hit few.
 */

/**
 * `detect`: wrong checksums of a client are ignored when most of its segments have one. `verify`:
 * segments with wrong checksums are dropped, as a balancer would. `ignore`: all are taken.
 */
export type ChecksumPolicy = 'detect' | 'verify' | 'ignore';

export interface ClientChecksums {
  /** IPv4 address. */
  client: number;
  segments: number;
  /** Those of them whose IPv4 or TCP checksum is wrong. */
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

  /** Whether wrong checksums of this client say nothing. */
  ignores(client: number, policy: ChecksumPolicy): boolean {
    if (policy !== 'detect') return policy === 'ignore';
    const tally = this.clients.get(client);
    return tally !== undefined && 2 * tally.wrong > tally.segments;
  }

  /** The clients whose wrong checksums are ignored; only those that have any. */
  ignored(policy: ChecksumPolicy): ClientChecksums[] {
    return [...this.clients]
      .filter(([client, { wrong }]) => wrong > 0 && this.ignores(client, policy))
      .map(([client, { segments, wrong }]) => ({ client, segments, wrong }));
  }
}
