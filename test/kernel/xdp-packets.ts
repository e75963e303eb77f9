/**
 * Packets for the tests of the XDP program: addresses and numbers of the usual client, balancer and
 * node, segments and notices of theirs, and how a frame must look on its way to the node.
 */
import type { Test } from 'tap';
import { build, macBytes, type PacketSpec, type TcpSpec } from '../../lab/packet.js';
import { HeadStore } from '../../src/engine/head-store.js';
import { join8 } from './shim-fixture.js';

export const Verdict = { aborted: 0, drop: 1, pass: 2, tx: 3, redirect: 4 } as const;

export const KEY = Uint8Array.from({ length: 16 }, (_, index) => index * 11 + 1);
export const SECRET = Uint8Array.from({ length: 32 }, (_, index) => index * 5 + 3);
export const CLIENT = { address: '10.78.0.1', port: 40_000, mac: '02:00:00:00:00:01' } as const;
export const BALANCER = { address: '10.78.0.2', mac: '02:00:00:00:00:bb' } as const;
export const NODE = { address: '10.78.0.3', mac: '02:00:00:00:00:03', index: 1 } as const;
/** The second virtual server is at another port of the same address. */
export const VIRTUAL = '10.78.0.100';
export const PORTS = [80, 8443] as const;
/** Initial sequence numbers of the usual client's connection. */
export const CLIENT_ISN = 0xffff_ff00;
export const SERVER_ISN = 0x7fff_fffe;
export const MTU = 1500;
export const MSS = MTU - 76;
/** Largest request head. SYN/ACKs offer a window of HeadStore.largeBytes. */
export const HEAD_BYTES = 8192;
export const WINDOW = new HeadStore(1, HEAD_BYTES).largeBytes;
export const WINDOW_SHIFT = 7;
export const SEEDS = { client: 0x1357_9bdf, port: 0x2468_ace0, nonce: 500 } as const;
export const SYN_ALIVE_MS = 60_000;
/** Index of lo, on which frames of test runs arrive. */
export const LO = 1;
/** struct redirect_request of bpf/lib/config.h. */
export const REDIRECT_REQUEST_BYTES = 8;
export const REDIRECT_MAGIC = 0x42544f57;
export interface Outcome {
  verdict: number;
  frame: Uint8Array;
  /**
   * Names of the counters that rose, each as many times as it rose; without the counter of bytes.
   */
  counters: string[];
}

/** ms of CLOCK_MONOTONIC, as the program and the engine count them. */
export function clock(): number {
  return Number((process.hrtime.bigint() / 1_000_000n) & 0xffff_ffffn);
}

/** A segment of the usual client, with the changes in `rest`. */
export function segment(
  tcp: TcpSpec,
  payload?: Uint8Array | string,
  rest: PacketSpec = {},
): PacketSpec {
  return {
    ...rest,
    ethernet: { source: CLIENT.mac, destination: BALANCER.mac, ...rest.ethernet },
    ip: { source: CLIENT.address, destination: VIRTUAL, ...rest.ip },
    tcp: { sourcePort: CLIENT.port, destinationPort: PORTS[0], ...tcp },
    ...(payload === undefined ? {} : { payload }),
  };
}

/** A SYN of the usual client. */
export function syn(change: PacketSpec = {}): PacketSpec {
  return segment(
    { flags: 'S', seq: 0xffff_ffff, window: 64_240, ...change.tcp },
    change.payload,
    change,
  );
}

/**
 * A notice of the usual node about the usual client's session, by default ADOPTED.
 */
export function notice(change: PacketSpec = {}): PacketSpec {
  return {
    ...change,
    ethernet: { source: NODE.mac, destination: BALANCER.mac, ...change.ethernet },
    ip: { source: NODE.address, destination: BALANCER.address, ...change.ip },
    ixcp: {
      type: 1,
      client: CLIENT.address,
      clientPort: CLIENT.port,
      virtualAddress: VIRTUAL,
      virtualPort: PORTS[0],
      ...change.ixcp,
    },
  };
}

/**
 * Folded sum of the TCP pseudo-header: the checksum field of an unfinished frame.
 */
export function pseudoSum(frame: Uint8Array): number {
  const view = new DataView(frame.buffer, frame.byteOffset);
  let sum = 6 + view.getUint16(16) - 20;
  for (let at = 26; at < 34; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** The frame of a sender that leaves the checksum to hardware. */
export function unfinished(spec: PacketSpec): Uint8Array {
  const frame = build(spec);
  new DataView(frame.buffer).setUint16(50, pseudoSum(frame));
  return frame;
}

/**
 * Asserts that a frame goes to the usual node through the stack: with a struct redirect_request
 * before it, and new MAC addresses.
 */
export function byStack(
  test: Test,
  outcome: Outcome,
  frame: Uint8Array,
  counters: readonly string[],
  by = LO,
): void {
  const { verdict } = outcome;
  const request = new DataView(outcome.frame.buffer, outcome.frame.byteOffset);
  test.strictSame(
    { verdict, magic: request.getUint32(0, true), by: request.getUint32(4, true) },
    { verdict: Verdict.pass, magic: REDIRECT_MAGIC, by },
  );
  test.strictSame([...outcome.frame.subarray(REDIRECT_REQUEST_BYTES)], [...onward(frame)]);
  test.strictSame(outcome.counters.toSorted(), [...counters, 'forwarded_by_stack'].toSorted());
}

/** The frame with a VLAN tag. */
export function tagged(frame: Uint8Array, tci: number, type = 0x8100): Uint8Array {
  const tag = Uint8Array.of(type >>> 8, type & 255, tci >>> 8, tci & 255);
  return join8(frame.subarray(0, 12), tag, frame.subarray(12));
}

/** The frame with the MAC addresses that it has on its way to the node. */
export function onward(frame: Uint8Array): Uint8Array {
  const copy = frame.slice();
  copy.set(macBytes(NODE.mac), 0);
  copy.set(macBytes(BALANCER.mac), 6);
  return copy;
}
