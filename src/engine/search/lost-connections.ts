/**
 * The connections that are being looked for, in a table of fixed size. An entry has what a question
 * and an RST need of the client's last segment. Entries that wait are in a queue, the one that was
 * asked first at its head: all wait equally long.
 */
import { ETHERNET } from '../../wire/ethernet.js';
import { IPV6 } from '../../wire/ipv6.js';
import { acknowledges } from '../acceptance.js';
import type { Core } from '../core.js';
import { ClientAddresses } from '../table/client-addresses.js';

/** Entries, a power of 2. A connection can only have the one that its hash names. */
export const MOST_LOST = 4_096;
/** In `asked`: the connection was found, and the queue still has its entry. */
export const DONE = 0xff;
const NONE = -1;

export class LostConnections {
  readonly client = new Uint32Array(MOST_LOST);
  readonly portServer = new Uint32Array(MOST_LOST);
  /** The full addresses of IPv6 clients. */
  readonly addresses = new ClientAddresses(MOST_LOST);
  /** How often the nodes were asked; 0: the entry is free; or DONE. */
  readonly asked = new Uint8Array(MOST_LOST);
  /** The number of the question. */
  readonly question = new Uint32Array(MOST_LOST);
  /** When the nodes were asked, ms on the engine's clock. */
  readonly askedAt = new Float64Array(MOST_LOST);
  /** Of the client's last segment. */
  readonly sequence = new Uint32Array(MOST_LOST);
  readonly acknowledgement = new Uint32Array(MOST_LOST);
  /** 1: the client uses timestamps, and `tsval` and `tsecr` are those of the segment. */
  readonly stamped = new Uint8Array(MOST_LOST);
  readonly tsval = new Uint32Array(MOST_LOST);
  readonly tsecr = new Uint32Array(MOST_LOST);
  readonly macHigh = new Uint16Array(MOST_LOST);
  readonly macLow = new Uint32Array(MOST_LOST);
  /** 1: the client gets an RST if no node has the connection. */
  readonly resets = new Uint8Array(MOST_LOST);
  /**
   * A node where the connection is parked, and the nonce and next number of the client there;
   * NONE: no such node has answered.
   */
  readonly parkedNode = new Int32Array(MOST_LOST);
  readonly parkedNonce = new Uint32Array(MOST_LOST);
  readonly parkedNext = new Uint32Array(MOST_LOST);
  private readonly queue = new Uint16Array(MOST_LOST);
  private first = 0;
  private queued = 0;

  constructor(private readonly core: Core) {}

  /** Whether no connection is being looked for. */
  get isEmpty(): boolean {
    return this.queued === 0;
  }

  /** The entry that waits longest. */
  get oldest(): number {
    return this.queue[this.first]!;
  }

  /** The only entry that a connection can have. */
  place(client: number, portServer: number): number {
    return this.core.sessions.hash(client, portServer) & (MOST_LOST - 1);
  }

  /** Whether the entry is that of the connection of the current segment. */
  isCurrent(entry: number, portServer: number): boolean {
    const { segment } = this.core;
    return (
      this.is(entry, segment.source, portServer) &&
      (!segment.isIpv6 || this.addresses.is(entry, segment.view, segment.ip + IPV6.source))
    );
  }

  /** Whether the entry is that of this connection. */
  is(entry: number, client: number, portServer: number): boolean {
    return (
      this.asked[entry] !== 0 &&
      this.asked[entry] !== DONE &&
      this.client[entry] === client &&
      this.portServer[entry] === portServer
    );
  }

  /** Fills in a free entry for the connection of the current segment. */
  open(entry: number, portServer: number): void {
    this.client[entry] = this.core.segment.source;
    this.portServer[entry] = portServer;
    this.parkedNode[entry] = NONE;
    if (!this.core.segment.isIpv6) return;
    this.addresses.makeRoom();
    this.addresses.set(entry, this.core.segment.view, this.core.segment.ip + IPV6.source);
  }

  /** Notes the current segment. Returns false if its options are malformed. */
  note(entry: number): boolean {
    const { segment } = this.core;
    if (!acknowledges(segment.flags) || !segment.parseOptions()) return false;
    const { options } = segment;
    this.sequence[entry] = segment.sequence;
    this.acknowledgement[entry] = segment.acknowledgement;
    this.stamped[entry] = options.hasTimestamps ? 1 : 0;
    this.tsval[entry] = options.tsval;
    this.tsecr[entry] = options.tsecr;
    const source = segment.offset + ETHERNET.source;
    this.macHigh[entry] = segment.view.getUint16(source);
    this.macLow[entry] = segment.view.getUint32(source + 2);
    return true;
  }

  /** Puts the entry at the end of the queue. */
  wait(entry: number): void {
    this.queue[(this.first + this.queued) & (MOST_LOST - 1)] = entry;
    this.queued++;
  }

  /** Takes the head of the queue. */
  next(): number {
    const entry = this.oldest;
    this.first = (this.first + 1) & (MOST_LOST - 1);
    this.queued--;
    return entry;
  }
}
