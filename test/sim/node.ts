/**
 * A model of a node: the kernel's TCP, a web server, and the shim in front of them (shim.ts). It is
 * as strict as a real node: it verifies lengths and checksums, and answers a plain segment without
 * a socket with RST.
 */
import { build, type PacketSpec } from '../../lab/packet.js';
import type { ParsedPacket } from '../support/packet-parse.js';
import type { Clock } from './clock.js';
import { parsed } from './parsed.js';
import type { Random } from './random.js';
import type { Kernel } from './scenario.js';
import { resetFor, type Segment } from './segment.js';
import { type Application, WebServer, type WebServerOptions } from './server.js';
import { Shim } from './shim.js';
import { Endpoint } from './tcp-endpoint.js';

export interface NodeWorld {
  readonly clock: Clock;
  readonly key: Uint8Array;
  readonly virtualAddress: string;
  readonly virtualPort: number;
  /** No segment in this world is forged. */
  readonly trusting: boolean;
  /** Nodes keep the sockets of sessions that move on. */
  readonly parks: boolean;
  clientMac(address: string): string;
  violation(message: string): void;
  /** The node has adopted a session: there is a new socket. */
  built(node: SimNode, packet: ParsedPacket): void;
  transmit(node: SimNode, frame: Uint8Array): void;
  /**
   * A frame of IXP of this type has arrived. Returns true when the node loses power at this moment;
   * it may also lose it soon.
   */
  dies(node: SimNode, type: number): boolean;
}

export interface Socket {
  endpoint: Endpoint;
  application: Application;
}

/** What a listener has chosen for its SYN/ACK. */
export interface ListenerNumbers {
  isn: number;
  scale: number;
  /** Added to the clock for TSval. */
  timestampOffset: number;
  /** TSval of the SYN/ACK. */
  tsval: number;
}

const WSCALE_OK = 1;
const SACK_OK = 2;
const TSTAMP_OK = 4;

export interface SimNodeOptions {
  index: number;
  name: string;
  mac: string;
  address: string;
  server: WebServerOptions;
  kernel: Kernel;
}

export class SimNode {
  private readonly sockets = new Map<string, Socket>();
  private readonly shim: Shim;
  /** Nothing comes in or goes out. */
  down = false;
  /** The web server is not listening. */
  deaf = false;
  readonly counts = {
    adopted: 0,
    /** Handshakes that its listener has answered. */
    replayed: 0,
    refused: 0,
    left: 0,
    parked: 0,
    resumed: 0,
    held: 0,
    stayed: 0,
    died: 0,
    forged: 0,
    strayed: 0,
    resets: 0,
    /** Sockets that ended by an RST, or because nobody acknowledged. */
    broken: 0,
  };

  constructor(
    readonly options: SimNodeOptions,
    readonly world: NodeWorld,
    private readonly random: Random,
  ) {
    this.shim = new Shim(this, random.bits());
  }

  get openSockets(): number {
    return this.sockets.size;
  }

  /** The machine is switched off and forgets everything. */
  stop(): void {
    this.down = true;
    for (const tuple of [...this.sockets.keys()]) this.removeSocket(tuple);
    this.shim.forget();
  }

  /** Sends a report to the balancer, as the agent does every second. */
  report(balancer: string, balancerMac: string): void {
    if (!this.down) this.shim.report(balancer, balancerMac);
  }

  receive(frame: Uint8Array): void {
    if (this.down) return;
    const packet = parsed(frame, this.world.key);
    if (packet.problems.length > 0 || packet.ip === undefined) {
      this.counts.forged++;
      return;
    }
    if (packet.ixp !== undefined) this.shim.receive(packet);
    else if (packet.tcp !== undefined) this.shim.receivePlain(packet);
  }

  socketOf(tuple: string): Socket | undefined {
    return this.sockets.get(tuple);
  }

  /** The socket is gone, and nobody hears of it. */
  removeSocket(tuple: string): void {
    const socket = this.sockets.get(tuple);
    if (socket === undefined) return;
    socket.endpoint.vanish();
    socket.application.stop();
    this.sockets.delete(tuple);
  }

  /** What the kernel's TCP does with a segment. */
  deliver(tuple: string, segment: Segment): void {
    const socket = this.sockets.get(tuple);
    if (socket !== undefined) {
      socket.endpoint.receive(segment);
      return;
    }
    this.counts.strayed++;
    const reset = resetFor(segment);
    if (reset !== undefined) this.send(tuple, reset);
  }

  /** A listener answers a SYN with numbers of its own. */
  listen(): ListenerNumbers {
    this.counts.replayed++;
    const timestampOffset = this.random.bits();
    return {
      isn: this.random.bits(),
      scale: this.random.between(0, 9),
      timestampOffset,
      tsval: (Math.floor(this.world.clock.now) + timestampOffset) >>> 0,
    };
  }

  /**
   * The kernel builds a socket with these options of the handshake, and gives it the segment.
   * @param own numbers of its listener, if it has answered a SYN
   */
  adopt(tuple: string, packet: ParsedPacket, segment: Segment, own?: ListenerNumbers): void {
    const ixp = packet.ixp!;
    const tcp = packet.tcp!;
    const { world } = this;
    this.counts.adopted++;
    world.built(this, packet);
    const scaled = (ixp.flags & WSCALE_OK) !== 0;
    const stamped = (ixp.flags & TSTAMP_OK) !== 0;
    const endpoint = new Endpoint({
      clock: world.clock,
      random: this.random,
      hooks: {
        transmit: (sent) => this.send(tuple, sent),
        receive: (bytes) => application.receive(bytes),
        remoteClosed: () => application.remoteClosed(),
        ended: (reason) => {
          if (reason !== 'closed') this.counts.broken++;
          application.stop();
          if (this.sockets.get(tuple)?.endpoint === endpoint) this.sockets.delete(tuple);
        },
        violation: (message) => world.violation(`${this.options.name}, ${tuple}: ${message}`),
      },
      isn: own?.isn ?? (tcp.ack - 1) >>> 0,
      mss: 1460,
      windowScale: scaled ? (own?.scale ?? ixp.scales & 15) : undefined,
      sack: (ixp.flags & SACK_OK) !== 0,
      timestamps: stamped,
      receiveBuffer: 64_000,
      // The socket's TSval continues from what the client has seen.
      timestampOffset: own?.timestampOffset ?? (ixp.tsecr - Math.floor(world.clock.now)) >>> 0,
      mangle: false,
      timeWaitMs: 10_000,
      maxRetries: 8,
      trusting: world.trusting,
    });
    const application = new WebServer(this.options.server, endpoint, tuple, this.random);
    this.sockets.set(tuple, { endpoint, application });
    endpoint.adopt((tcp.seq - 1) >>> 0, {
      mss: ixp.mss,
      scale: scaled ? ixp.scales >> 4 : undefined,
      sack: (ixp.flags & SACK_OK) !== 0,
      recent: stamped ? ixp.tsval : undefined,
    });
    endpoint.receive(segment);
    application.begin();
  }

  /** A segment on its way to the client. */
  toClient(tuple: string, segment: Segment): void {
    const [client = '', port = ''] = tuple.split(':');
    const { seq, ack, flags, window, options, payload } = segment;
    this.emit({
      ethernet: { source: this.options.mac, destination: this.world.clientMac(client) },
      ip: { source: this.world.virtualAddress, destination: client },
      tcp: {
        sourcePort: this.world.virtualPort,
        destinationPort: Number(port),
        seq,
        ack,
        flags,
        window,
        options,
      },
      payload,
    });
  }

  emit(spec: PacketSpec): void {
    this.world.transmit(this, build(spec, this.world.key));
  }

  private send(tuple: string, segment: Segment): void {
    if (!this.down) this.shim.send(tuple, segment);
  }
}
