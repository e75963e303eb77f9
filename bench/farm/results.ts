/** The results of a run. bench/results/latest.json holds every sample. */
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
  /** In ms, as wrk prints them. */
  p50: number;
  p99: number;
  /** CPU time of the whole machine per request, in us. */
  cpu: number;
  /** Share of the CPUs' time that was stolen. */
  stolen: number;
  /** Bytes received by the machine between client and node, per request. Absent without one. */
  crossing?: number;
}

/** One sample of each contender. */
export type Round = Partial<Record<ContenderId, Sample>>;

export interface CaseResult {
  case: Case;
  rounds: Round[];
  /** Rounds with too much stolen time. */
  discarded: Round[];
}

/** us from connect() to the first byte of the answer, by contender. */
export type FirstByteResult = Partial<Record<ContenderId, number[]>>;

/** One flood of small packets through a forwarder. */
export interface FloodSample {
  forwarder: ForwarderId;
  /** Number of sessions that the packets belong to in turn. */
  sessions: number;
  seconds: number;
  /** Packets that the generator put on the wire, and those that came back. */
  sent: number;
  returned: number;
  /** How often the generator waited for the forwarder per 64 frames; 0 if it does not wait. */
  waited: number;
  stolen: number;
}

/**
 * Forwarders: bare programs that swap MAC addresses, and balancers. `forward` and `buckets` are
 * balancers whose virtual server has mode forward (bench/forward).
 */
export type ForwarderId = 'swap' | 'redirect' | 'forward' | 'buckets' | ContenderId;

/** The kernel's measurement of a program under a flood. */
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
  /** Seconds in which they were opened. */
  seconds: number;
  /** Resident pages of the process, without mapped kernel maps. */
  process: number;
  /** Rings and frames shared with the kernel. */
  rings: number;
  /** BPF maps. */
  maps: number;
  /** The sum of the three before the first session. */
  empty: number;
}

export interface ProxyMemory {
  connections: number;
  /** Resident pages of the process without and with the connections, in bytes. */
  empty: number;
  process: number;
  /** Why it did not hold more. */
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
  /** Several threads compared with one. */
  workers: WorkerFigures;
}

/** Since version 2 `haproxy` and `nginx` are the stock ones. */
export const VERSION = 3;

export interface Results {
  /** Version of this form. */
  version: typeof VERSION;
  startedAt: string;
  seconds: number;
  settings: Record<string, number>;
  machine: Record<string, string>;
  versions: Record<string, string>;
  contenders: { id: ContenderId; name: string; how: string; left?: string }[];
  /** Share of the CPUs' time that all contenders use without requests. */
  idleShare: number;
  cases: CaseResult[];
  firstByte: FirstByteResult;
  smallPackets: SmallPacketResult;
  memory: { baton: BatonMemory[]; haproxy: ProxyMemory };
  engine: EngineFigures;
}

const FILE = 'bench/results/latest.json';

/** Writes a file of the source tree, with the owner of the tree. */
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

/** Returns the results of the last run. Throws if there are none, or of another version. */
export function loadResults(): Results {
  const results = JSON.parse(readFileSync(path.join(projectRoot(), FILE), 'utf8')) as Results;
  if (results.version !== VERSION) {
    throw new Error(`${FILE} has version ${results.version}, but this program reads ${VERSION}`);
  }
  return results;
}

/** Rounds to six digits: no figure is more exact, and people read the file too. */
function rounded(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value)
    ? Number(value.toPrecision(6))
    : value;
}
