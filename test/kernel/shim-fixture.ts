/**
 * Shared by the tests of the BPF programs: addresses, configured objects, counters as differences.
 */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { addressNumber, macBytes, type PacketSpec, type TcpSpec } from '../../lab/packet.js';
import { SHIM_NAMES } from '../../src/base/kernel-counters.js';
import { hostU32 } from '../../src/host/bpf-object.js';
import { type BpfObject, native } from '../../src/host/native.js';
import { aliasKey } from '../../src/wire/alias.js';

export const KEY = Uint8Array.from({ length: 16 }, (_, index) => index * 7);
export const CLIENT = '10.78.0.1';
export const BALANCER = '10.78.0.2';
export const OWN = '10.78.0.3';
export const VIRTUAL = '10.78.0.100';
export const CLIENT_PORT = 40_000;
export const BALANCER_MAC = '02:00:00:00:00:02';
export const OWN_MAC = '02:00:00:00:00:03';
export const SESSION = 0x1234_5678;
/** Sequence number of the request, and of the first byte of the response. */
export const SEQ = 0xffff_fff0;
export const ACK = 0x0800_0001;
export const REQUEST = 'GET / HTTP/1.1\r\nHost: a\r\n\r\n';

/** BATON_MARK_* of bpf/lib/ixp.h. */
export const Mark = { retry: 0x4254_0002, local: 0x4254_0004, notice: 0x4254_0100 } as const;

/** Bytes of the last three fields of struct shim_config: layout, local and own6. */
const LAST_FIELDS = 24;
/** sizeof(struct shim_balancer). All 0: a balancer with an IPv4 address. */
const SHIM_BALANCER_BYTES = 20;

export const project = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

/** A request in IXP_ADOPT, with these changes. */
export function handoff(change: PacketSpec = {}): PacketSpec {
  return {
    ethernet: { source: BALANCER_MAC, destination: OWN_MAC, ...change.ethernet },
    ip: { source: CLIENT, destination: VIRTUAL, ...change.ip },
    ixp: { type: 1, session: SESSION, balancer: BALANCER, confirm: SEQ, ...change.ixp },
    tcp: {
      sourcePort: CLIENT_PORT,
      destinationPort: 80,
      seq: SEQ,
      ack: ACK,
      flags: 'PA',
      ...change.tcp,
    },
    payload: change.payload ?? REQUEST,
  };
}

/** The notice about the session of `handoff`, with these changes. */
export function notice(change: PacketSpec = {}): PacketSpec {
  return {
    ethernet: { source: OWN_MAC, destination: BALANCER_MAC, ...change.ethernet },
    ip: { source: OWN, destination: BALANCER, ...change.ip },
    ixcp: {
      session: SESSION,
      client: CLIENT,
      virtualAddress: VIRTUAL,
      clientPort: CLIENT_PORT,
      virtualPort: 80,
      ...change.ixcp,
    },
  };
}

export function addressBytes(address: string): Uint8Array {
  return u32(addressNumber(address));
}

/** Network byte order. */
function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

export function portBytes(port: number): Uint8Array {
  return Uint8Array.of(port >>> 8, port & 255);
}

export function join8(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

export const sessionKey = join8(
  addressBytes(CLIENT),
  addressBytes(VIRTUAL),
  portBytes(CLIENT_PORT),
  portBytes(80),
);

/** A segment of the node's socket to the client. */
export const toClient = (tcp: TcpSpec, payload = ''): PacketSpec => ({
  ethernet: { source: OWN_MAC, destination: '02:00:00:00:00:01' },
  ip: { source: VIRTUAL, destination: CLIENT },
  tcp: { sourcePort: 80, destinationPort: CLIENT_PORT, seq: ACK, ack: SEQ, ...tcp },
  payload,
});

export interface SessionSpec {
  nonce?: number;
  confirm?: number;
  asked?: number;
  answered?: number;
  sent?: boolean;
  /** With IXP_CLIENT_CONFIRMS: earlier sequence numbers cause no notice. */
  noticeFrom?: number;
  translation?: Translation;
}

/** struct translation of bpf/lib/config.h: the stream's numbers minus the socket's. */
export interface Translation {
  sent?: number;
  received?: number;
  clock?: number;
  /** Of TSval, in the stream. */
  floor?: number;
  /** Bits by which windows are shifted up; below 0: down. */
  windowOut?: number;
  windowIn?: number;
}

/** The fields from adopted_at to answers, of a session that was adopted before all others. */
const SESSION_MIDDLE_BYTES = 56;
/** The fields from replay on, of a session that was adopted and never parked. */
const SESSION_TAIL_BYTES = 44;
/** Offset of `translation` in struct session. */
const TRANSLATION_AT = 88;
const TRANSLATION_BYTES = 28;

function translationValue(translation: Translation | undefined): Uint8Array {
  const { sent, received, clock, floor, windowOut, windowIn } = translation ?? {};
  return join8(
    hostU32(sent ?? 0),
    hostU32(received ?? 0),
    hostU32(clock ?? 0),
    hostU32(floor ?? 0),
    Uint8Array.of((windowOut ?? 0) & 255, (windowIn ?? 0) & 255),
    Uint8Array.of(floor === undefined ? 0 : 1, translation === undefined ? 0 : 1),
    new Uint8Array(8),
  );
}

/** struct session of bpf/lib/config.h. */
export function sessionValue(spec: SessionSpec = {}): Uint8Array {
  return join8(
    u32(spec.nonce ?? SESSION),
    addressBytes(BALANCER),
    hostU32(spec.confirm ?? SEQ),
    hostU32(spec.asked ?? 1),
    hostU32(spec.answered ?? 0),
    macBytes(BALANCER_MAC),
    Uint8Array.of(spec.sent ? 1 : 0, spec.noticeFrom === undefined ? 0 : 1),
    hostU32(spec.noticeFrom ?? 0),
    new Uint8Array(SESSION_MIDDLE_BYTES),
    translationValue(spec.translation),
    new Uint8Array(SESSION_TAIL_BYTES),
  );
}

/** struct translation of an entry of `sessions`. */
export function sessionTranslation(value: Uint8Array | undefined): Uint8Array {
  return (value ?? new Uint8Array(0)).slice(TRANSLATION_AT, TRANSLATION_AT + TRANSLATION_BYTES);
}

/** By how much TSval is translated now. */
export function sessionClock(value: Uint8Array | undefined): number {
  const { buffer, byteOffset } = value ?? new Uint8Array(0);
  return new DataView(buffer, byteOffset).getUint32(TRANSLATION_AT + 8, true);
}

/** The fields that egress writes into an entry of `sessions`. */
export function sessionProgress(value: Uint8Array | undefined): {
  asked: number;
  answered: number;
  sent: boolean;
} {
  if (value === undefined) return { asked: -1, answered: -1, sent: false };
  const words = new Uint32Array(value.slice(12, 20).buffer);
  return { asked: words[0]!, answered: words[1]!, sent: value[26] === 1 };
}

/** The builds of the shim, for kernels of different age (bpf/Makefile). */
export const SHIM_BUILDS = ['shim', 'shim-replay', 'shim-old'] as const;
export type ShimBuild = (typeof SHIM_BUILDS)[number];

export class Shim {
  readonly object: BpfObject;

  constructor(build: ShimBuild = 'shim') {
    this.object = native().loadBpf(join(project, 'build', 'bpf', `${build}.bpf.o`), {
      maxEntries: { sessions: 1024 },
    });
    this.object.mapUpdate(
      'config',
      hostU32(0),
      join8(
        KEY,
        addressBytes(OWN),
        new Uint8Array(aliasKey(KEY).buffer),
        new Uint8Array(LAST_FIELDS),
      ),
    );
    this.object.mapUpdate('balancers', addressBytes(BALANCER), new Uint8Array(SHIM_BALANCER_BYTES));
  }

  /** Lets ingress look up the sessions of segments in plain form. */
  watch(): void {
    this.object.mapUpdate('watching', hostU32(0), hostU32(1));
  }

  service(number: number, address: string, port: number): void {
    const value = join8(addressBytes(address), portBytes(port), Uint8Array.of(0, 0));
    this.object.mapUpdate('services', hostU32(number), value);
  }

  /** Names of the counters that rise during `action`, each as many times as it rises. */
  counted(action: () => void): string[] {
    return counted(this.object, SHIM_NAMES, action);
  }
}

export function counted(object: BpfObject, names: readonly string[], action: () => void): string[] {
  const before = object.mapSums('counters', names.length).slice();
  action();
  const after = object.mapSums('counters', names.length);
  return names.flatMap((name, index) => Array<string>(after[index]! - before[index]!).fill(name));
}
