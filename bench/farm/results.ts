/** What a run measures: bench/results/latest.json holds all of it, every sample. */
import { chownSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { projectRoot } from '../../lab/farm/baton.js';
import type { WorkerFigures } from '../replay/workers.js';
import type { Case } from './cases.js';
import type { ContenderId } from './contenders.js';

/** One contender in one round of a case. */
export interface Sample {
  requests: number;
  failed: number;
  perSecond: number;
  /** ms, as wrk tells them. */
  p50: number;
  p99: number;
  /** CPU time of the whole machine per request, in us. */
  cpu: number;
  /** Share of the CPUs' time that was stolen. */
  stolen: number;
  /** Bytes into the machine between client and node, per request; absent where there is none. */
  crossing?: number;
}

/** A turn of all contenders. */
export type Round = Partial<Record<ContenderId, Sample>>;

export interface CaseResult {
  case: Case;
  rounds: Round[];
  /** Rounds in which too much time was stolen. */
  discarded: Round[];
}

/** us from connect() to the first byte of the answer, by contender. */
export type FirstByteResult = Partial<Record<ContenderId, number[]>>;

/** One flood of small packets through a forwarder. */
export interface FloodSample {
  forwarder: ForwarderId;
  /** Sessions that the packets belong to in turn. */
  sessions: number;
  seconds: number;
  /** Packets that the generator put on the wire, and those that came back. */
  sent: number;
  returned: number;
  /**
   * How often the generator had to wait for the forwarder, for each 64 frames; 0 when it does not.
   */
  waited: number;
  stolen: number;
}

/** Bare programs that swap MAC addresses, and balancers. */
export type ForwarderId = 'swap' | 'redirect' | ContenderId;

/** The kernel's own account of a program under such a flood. */
export interface ProgramSample {
  forwarder: ForwarderId;
  program: string;
  sessions: number;
  nanoseconds: number;
  runs: number;
}

export interface SmallPacketResult {
  floods: FloodSample[];
  discarded: FloodSample[];
  programs: ProgramSample[];
}

/** Memory of a balancer with sessions, in bytes. */
export interface BatonMemory {
  datapath: string;
  sessions: number;
  /** Seconds that it took to open them. */
  seconds: number;
  /** Resident pages of the process, kernel maps that it has mapped left out. */
  process: number;
  /** Rings and frames that it shares with the kernel. */
  rings: number;
  /** BPF maps. */
  maps: number;
  /** The sum of the three before there was any session. */
  empty: number;
}

export interface ProxyMemory {
  connections: number;
  /** Resident pages of the process without, and with them, in bytes. */
  empty: number;
  process: number;
  /** Why not more. */
  limit: string;
}

export interface EngineFigures {
  handoffsPerSecond: number[];
  confirmedPerSecond: number[];
  packetsPerSecond: number[];
  heapGrowthBytes: number;
  heapPackets: number;
  tableBytesPerSession: number;
  enginePerSession: number;
  /** Several threads next to one. */
  workers: WorkerFigures;
}

/** Since 2 `haproxy` and `nginx` are stock. */
export const VERSION = 3;

export interface Results {
  /** Of this form. */
  version: typeof VERSION;
  startedAt: string;
  seconds: number;
  settings: Record<string, number>;
  machine: Record<string, string>;
  versions: Record<string, string>;
  contenders: { id: ContenderId; name: string; how: string; left?: string }[];
  /** Share of the CPUs' time that goes to all of them while nobody asks for anything. */
  idleShare: number;
  cases: CaseResult[];
  firstByte: FirstByteResult;
  smallPackets: SmallPacketResult;
  memory: { baton: BatonMemory[]; haproxy: ProxyMemory };
  engine: EngineFigures;
}

const FILE = 'bench/results/latest.json';

/** Writes a file of the source tree, which belongs to whom its directory belongs to. */
export function writeInTree(name: string, text: string): void {
  const file = path.join(projectRoot(), name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
  const { uid, gid } = statSync(path.dirname(path.dirname(file)));
  chownSync(path.dirname(file), uid, gid);
  chownSync(file, uid, gid);
}

export function saveResults(results: Results): void {
  writeInTree(FILE, `${JSON.stringify(results, rounded, 1)}\n`);
}

/** What the last run measured. Throws when there is none, or when it is of another form. */
export function loadResults(): Results {
  const results = JSON.parse(readFileSync(path.join(projectRoot(), FILE), 'utf8')) as Results;
  if (results.version !== VERSION) {
    throw new Error(`${FILE} has form ${results.version}, and what reads it form ${VERSION}`);
  }
  return results;
}

/** No figure here is known to more than six digits, and the file is read by people too. */
function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value)
    ? Number(value.toPrecision(6))
    : value;
}
