/**
 * All clients of a simulation, and their machines with kernels and network devices.
 */

import { addressNumber, addressText, build } from '../../lab/packet.js';
import { FrameFlags } from '../../src/datapath/datapath.js';
import { ClientConnection, type ClientWorld, type Plan } from './client.js';
import type { Clock } from './clock.js';
import { padded, unfinished } from './frames.js';
import type { LinkQuality } from './network.js';
import { parsed } from './parsed.js';
import type { Random } from './random.js';
import type { PlannedClient } from './scenario.js';
import { resetFor, type Segment } from './segment.js';

export interface PopulationWorld extends ClientWorld {
  readonly clock: Clock;
  readonly virtualAddress: string;
  readonly virtualPort: number;
  readonly balancerMac: string;
  /** No segment in this world is forged. */
  readonly trusting: boolean;
  note(from: string, frame: Uint8Array): void;
  carry(frame: Uint8Array, link: LinkQuality, arrive: (frame: Uint8Array) => void): void;
  toEngine(frame: Uint8Array, flags: number): void;
}

interface Host {
  mac: string;
  /** Its device leaves checksums to hardware. */
  offloads: boolean;
  pads: boolean;
}

const FIRST_ADDRESS = addressNumber('10.1.0.1');
const NO_HOST = '02:00:00:00:ff:ff';
const LOOK_EVERY_MS = 50;

export class Population {
  readonly connections: ClientConnection[] = [];
  private readonly hosts = new Map<string, Host>();
  private readonly byTuple = new Map<string, ClientConnection[]>();

  constructor(
    private readonly world: PopulationWorld,
    private readonly link: LinkQuality,
    private readonly random: Random,
  ) {}

  /** Starts every client at its time. */
  schedule(plans: readonly PlannedClient[]): void {
    const { random } = this;
    plans.forEach(({ plan, host, port, startAt, after }, index) => {
      const address = addressText(FIRST_ADDRESS + host);
      if (!this.hosts.has(address)) {
        const mac = `02:00:00:01:00:${host.toString(16).padStart(2, '0')}`;
        this.hosts.set(address, { mac, offloads: random.chance(0.2), pads: random.chance(0.5) });
      }
      const own = random.fork();
      const begin = (): void => this.begin(`c${index}`, address, port, plan, own);
      if (after === undefined) this.world.clock.after(startAt, begin);
      else this.whenOver(after, () => this.world.clock.after(startAt, begin));
    });
  }

  macOf(address: string): string {
    return this.hosts.get(address)?.mac ?? NO_HOST;
  }

  /** The connection of this client address and port with this initial sequence number. */
  connection(tuple: string, isn: number): ClientConnection | undefined {
    return this.byTuple.get(tuple)?.find((each) => each.endpoint.options.isn === isn);
  }

  /** Whether some connection of this address and port sends this request. */
  mayAsk(tuple: string, target: string, client: string): boolean {
    return this.byTuple.get(tuple)?.some((each) => each.asks(target, client)) ?? false;
  }

  /** A frame arrives at the machine with this address. */
  receive(address: string, frame: Uint8Array): void {
    const packet = parsed(frame);
    const { tcp, ip } = packet;
    if (packet.problems.length > 0 || tcp === undefined || ip?.source !== this.world.virtualAddress)
      return;
    const { seq, ack, flags, window, options } = tcp;
    const segment: Segment = { seq, ack, flags, window, options, payload: packet.payload.slice() };
    const connections = this.byTuple.get(`${address}:${tcp.destinationPort}`) ?? [];
    const live = connections.find((each) => each.endpoint.state !== 'closed');
    if (live !== undefined) {
      live.endpoint.receive(segment);
      return;
    }
    // A machine without power does not answer. Any other kernel answers with RST.
    if (connections.some((each) => each.endpoint.dead)) return;
    const reset = resetFor(segment);
    if (reset !== undefined) this.transmit(address, tcp.destinationPort, reset);
  }

  private transmit(address: string, port: number, segment: Segment): void {
    const host = this.hosts.get(address);
    if (host === undefined) return;
    const { world } = this;
    const { seq, ack, flags, window, options, payload } = segment;
    let frame = build({
      ethernet: { source: host.mac, destination: world.balancerMac },
      ip: { source: address, destination: world.virtualAddress, id: this.random.bits() & 0xffff },
      tcp: {
        sourcePort: port,
        destinationPort: world.virtualPort,
        seq,
        ack,
        flags,
        window,
        options,
      },
      payload,
    });
    world.note(address, frame);
    if (host.pads) frame = padded(frame, this.random);
    world.carry(frame, this.link, (arriving) => {
      if (host.offloads && arriving === frame) {
        world.toEngine(unfinished(arriving), FrameFlags.checksumPartial);
      } else world.toEngine(arriving, 0);
    });
  }

  /** Calls `act` when the connection of plan `index` no longer uses its port. */
  private whenOver(index: number, act: () => void): void {
    this.world.clock.after(LOOK_EVERY_MS, () => {
      const earlier = this.connections.find((each) => each.id === `c${index}`);
      if (
        earlier !== undefined &&
        earlier.endpoint.state === 'closed' &&
        earlier.outcome !== undefined
      )
        act();
      else this.whenOver(index, act);
    });
  }

  private begin(id: string, address: string, port: number, plan: Plan, random: Random): void {
    const { world } = this;
    const tuple = `${address}:${port}`;
    const windowScale = random.chance(0.7) ? random.between(0, 14) : undefined;
    const options = {
      clock: world.clock,
      random,
      isn: random.chance(0.2) ? 0xffff_ffff - random.between(0, 3000) : random.bits(),
      mss: random.pick([536, 1000, 1400, 1460]),
      windowScale,
      sack: random.chance(0.7),
      timestamps: random.chance(0.6),
      // A window that its own shift leaves something of.
      receiveBuffer: Math.max(random.pick([4_000, 20_000, 65_535]), 3_000 << (windowScale ?? 0)),
      timestampOffset: random.bits(),
      timeWaitMs: 500,
      maxRetries: 8,
      trusting: world.trusting,
    };
    const connection = new ClientConnection(
      id,
      address,
      port,
      plan,
      world,
      random,
      options,
      (one, segment) => this.transmit(one.address, one.port, segment),
    );
    this.connections.push(connection);
    const earlier = this.byTuple.get(tuple);
    if (earlier === undefined) this.byTuple.set(tuple, [connection]);
    else earlier.push(connection);
    connection.start();
  }
}
