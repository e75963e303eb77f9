/**
 * Sends noise, cut frames, forged notices, and segments of an off-path attacker: one that knows the
 * addresses and ports of a connection but sees none of its packets. None of these may do harm.
 */
import { build, IXCP } from '../../lab/packet.js';
import type { ClientConnection } from './client.js';
import type { Clock } from './clock.js';
import type { Random } from './random.js';

export interface AttackedWorld {
  readonly clock: Clock;
  readonly key: Uint8Array;
  readonly connections: readonly ClientConnection[];
  readonly virtualAddress: string;
  readonly virtualPort: number;
  readonly balancerAddress: string;
  readonly balancerMac: string;
  clientMac(address: string): string;
  toEngine(frame: Uint8Array, flags: number): void;
}

const EVERY_MS = 40;
const FOR_MS = 20_000;
const ROUTER = '02:00:00:66:66:66';
/** An address that no client has. */
const UNUSED_PORT = 39_999;
const STRANGER = '10.1.9.9';

export class Attacker {
  private readonly until: number;

  constructor(
    private readonly world: AttackedWorld,
    private readonly random: Random,
  ) {
    this.until = world.clock.now + FOR_MS;
  }

  start(): void {
    this.world.clock.after(this.random.fraction() * EVERY_MS, () => {
      if (this.world.clock.now > this.until) return;
      this.world.toEngine(this.frame(), this.random.chance(0.1) ? this.random.between(0, 15) : 0);
      this.start();
    });
  }

  private frame(): Uint8Array {
    const { random } = this;
    const victim =
      this.world.connections.length === 0 ? undefined : random.pick(this.world.connections);
    // A SYN that comes before the client's ACK replaces the client's. An attacker that knows the
    // ports can do that to any server.
    const established = this.world.connections
      .filter(({ address, port }) => address === victim?.address && port === victim.port)
      .every(({ answers, outcome }) => answers > 0 || outcome !== undefined);
    switch (random.between(0, 4)) {
      case 0:
        return Uint8Array.from({ length: random.between(0, 200) }, () => random.bits() & 255);
      case 1:
        return this.notice(
          victim,
          Uint8Array.from({ length: 16 }, () => random.bits() & 255),
          random.between(0, 8),
        );
      case 2:
        // The right key, but no session: a very old notice.
        return this.notice(victim, this.world.key, random.between(1, 4));
      case 3: {
        const whole = this.segment(victim, random.pick(['A', 'PA', 'FA']));
        return whole.subarray(0, random.between(0, whole.length - 1));
      }
      default:
        return this.segment(
          victim,
          random.pick([
            'R',
            'RA',
            established ? 'S' : 'R',
            'SA',
            'A',
            'A',
            'A',
            'FA',
            '',
            'SF',
            'SR',
            'FSRPAUEC',
          ]),
        );
    }
  }

  private notice(victim: ClientConnection | undefined, key: Uint8Array, type: number): Uint8Array {
    const { random, world } = this;
    return build(
      {
        ethernet: { source: ROUTER, destination: world.balancerMac },
        ip: { source: `10.9.0.${random.between(9, 14)}`, destination: world.balancerAddress },
        ixcp: {
          type,
          session: random.bits(),
          client: victim?.address ?? STRANGER,
          clientPort: victim?.port ?? 40_000,
          virtualAddress: world.virtualAddress,
          virtualPort: world.virtualPort,
          length: random.chance(0.1) ? random.bits() & 255 : IXCP.length,
          seq: random.bits(),
          ack: random.bits(),
        },
      },
      key,
    );
  }

  /**
   * A segment far outside the window of its connection. Both ends must ignore it.
   */
  private segment(victim: ClientConnection | undefined, flags: string): Uint8Array {
    const { random, world } = this;
    const isn = victim?.endpoint.options.isn ?? 0;
    return build({
      ethernet: {
        source: world.clientMac(victim?.address ?? STRANGER),
        destination: world.balancerMac,
      },
      ip: { source: victim?.address ?? STRANGER, destination: world.virtualAddress },
      tcp: {
        // An ACK may also come from a port that no connection has: no cookie is in it.
        sourcePort: flags === 'A' && random.chance(0.3) ? UNUSED_PORT : (victim?.port ?? 40_000),
        destinationPort: world.virtualPort,
        seq: (isn + random.between(100_000_000, 4_000_000_000)) >>> 0,
        ack: random.bits(),
        flags,
        options: random.chance(0.3)
          ? { raw: Uint8Array.from({ length: 8 }, () => random.bits() & 255) }
          : {},
      },
    });
  }
}
