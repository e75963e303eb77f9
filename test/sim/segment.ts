/** Segments of a simulated TCP, its options, and its hooks. */
import { flagBits, flagLetters, type TcpOptionsSpec } from '../../lab/packet.js';
import type { Clock } from './clock.js';
import type { Random } from './random.js';

export interface Segment {
  seq: number;
  ack: number;
  flags: string;
  window: number;
  options: TcpOptionsSpec;
  payload: Uint8Array;
  /** Made by the shim of the same machine: it has no timestamps, and the kernel takes it. */
  bare?: boolean;
}

export type EndReason = 'closed' | 'reset' | 'timeout';

export interface EndpointHooks {
  transmit(segment: Segment): void;
  established?(): void;
  receive(bytes: Uint8Array): void;
  remoteClosed(): void;
  ended(reason: EndReason): void;
  /** The peer broke a rule of TCP. */
  violation(message: string): void;
}

export interface EndpointOptions {
  clock: Clock;
  random: Random;
  hooks: EndpointHooks;
  isn: number;
  /** The largest segment that this side takes. */
  mss: number;
  windowScale: number | undefined;
  sack: boolean;
  timestamps: boolean;
  receiveBuffer: number;
  /** Added to the clock for TSval. */
  timestampOffset: number;
  /** Cuts its data at random places, and sends segments out of order and overlapping. */
  mangle: boolean;
  timeWaitMs: number;
  maxRetries: number;
  /** No segment in this world is forged: one that breaks a rule is a fault of the other end. */
  trusting: boolean;
}

// Flags of a segment, as bits.
export const FIN = flagBits('F');
export const SYN = flagBits('S');
export const RST = flagBits('R');
export const ACK = flagBits('A');

/**
 * The RST that a kernel sends for a segment without a connection (RFC 9293 section 3.5.2);
 * undefined when the segment is an RST.
 */
export function resetFor(segment: Segment): Segment | undefined {
  const flags = flagBits(segment.flags);
  if (flags & RST) return undefined;
  const length = segment.payload.length + (flags & SYN ? 1 : 0) + (flags & FIN ? 1 : 0);
  const base = { window: 0, options: {}, payload: new Uint8Array(0) };
  if (flags & ACK) return { ...base, seq: segment.ack, ack: 0, flags: flagLetters(RST) };
  return { ...base, seq: 0, ack: (segment.seq + length) >>> 0, flags: flagLetters(RST | ACK) };
}

/**
 * Options of this side's SYN. Without an MSS option the default is 536 (RFC 9293 section 3.7.1).
 */
export function synOptions(own: EndpointOptions, timestamp: number): TcpOptionsSpec {
  const options: TcpOptionsSpec = {};
  if (own.mss !== 536) options.mss = own.mss;
  if (own.sack) options.sackPermitted = true;
  if (own.timestamps) options.timestamps = [timestamp, 0];
  if (own.windowScale !== undefined) options.windowScale = own.windowScale;
  return options;
}
