/**
 * Runs a capture through the engine, with the resource directory and the predictors of a balancer's
 * config, and records the course of each session. It uses no interface, key or clock. So the same
 * capture and config always give the same result.
 */

import { Counters } from '../base/counters.js';
import { escapeBytes } from '../base/text.js';
import type { BalancerConfig } from '../config/load.js';
import { serverAt } from '../config/virtual-server.js';
import { type CaptureCounts, CaptureDatapath } from '../datapath/capture/capture.js';
import type { ChecksumPolicy } from '../datapath/capture/checksums.js';
import { type NodeCounts, replayNodeMac } from '../datapath/capture/nodes.js';
import type { CaptureScan, RecordedSegment } from '../datapath/capture/scan.js';
import { Answer } from '../directory/answers.js';
import { Directory } from '../directory/directory.js';
import { directoryImage, scopeOf } from '../directory/directory-image.js';
import { Protocol, Verdict } from '../directory/dispatcher.js';
import { ownStates } from '../directory/node-states.js';
import { RequestAnswers, STATUS_OF_ANSWER } from '../directory/request-answers.js';
import { RequestDispatcher } from '../directory/request-dispatcher.js';
import { Engine } from '../engine/engine.js';
import { inSlots } from '../engine/farm.js';
import { HandoffCandidates } from '../engine/handoff/candidates.js';
import { NodeTable } from '../engine/node-table.js';
import type { CloseReason, Observer } from '../engine/options.js';
import {
  SESSION_STATE_NAMES,
  SessionState,
  type SessionTable,
} from '../engine/table/session-table.js';
import {
  type Address,
  type Address4,
  formatAddress,
  formatEndpoint,
  isAddress6,
  toAddress,
  toAddress6,
} from '../wire/address.js';
import { Aliases } from '../wire/alias.js';
import { ETHERNET_HEADER_BYTES } from '../wire/ethernet.js';
import { IPV4, IPV4_HEADER_BYTES } from '../wire/ipv4.js';
import type { PcapWriter } from '../wire/pcap-writer.js';
import { TCP } from '../wire/tcp.js';

/** The parts of a balancer's config that a replay uses. */
export type ReplayConfig = Pick<
  BalancerConfig,
  'address' | 'virtualServers' | 'nodes' | 'resources' | 'limits' | 'timeouts'
>;

/** A handoff of a session to a node. */
export interface ReplayHandoff {
  /** Name of the node. */
  node: string;
  /** How often the handoff was sent. */
  attempts: number;
  outcome: 'pending' | 'adopted' | 'refused' | 'silent';
}

export interface ReplaySession {
  /** address:port */
  client: string;
  /** Name of the virtual server. */
  virtualServer: string;
  /** In ms after the first frame of the capture, like all times of a result. */
  openedMs: number;
  establishedMs: number | null;
  /**
   * Method and target, or the first line of a refused head, escaped. Empty before the head has
   * arrived.
   */
  request: string;
  /** Whether the request is longer than the text, which then ends in "...". */
  requestCut: boolean;
  /**
   * HTTP status of the balancer's own answer, or 200 if a resource was found; null before, or if it
   * closed without an answer.
   */
  status: number | null;
  /** Host and path pattern of the resource. */
  resource: string | null;
  /** The node of the last handoff; null if there was none, or the balancer answers. */
  node: string | null;
  /** Why that node was chosen, or why the balancer answers. */
  why: string;
  handoffs: ReplayHandoff[];
  /**
   * State after the last recorded frame: half-open, collecting, handing, passing, answering,
   * closing or closed.
   */
  state: string;
  /** Recorded packets of the client that were forwarded to the node. */
  packets: number;
  /** Recorded segments of the client that were dropped because they are damaged or cut off. */
  unusable: number;
  closed: CloseReason | null;
  closedMs: number | null;
}

export interface ReplayResult {
  capture: Pick<CaptureScan, 'frames' | 'notIpv4' | 'fault'> &
    CaptureCounts & { durationMs: number };
  /** Clients whose wrong checksums were ignored: address, segments, and how many are wrong. */
  checksumsIgnored: { client: string; segments: number; wrong: number }[];
  /** Counts of the nodes' frames. `stray` frames are those that no node expected, so 0. */
  nodeSide: NodeCounts;
  nodes: { name: string; address: string; sessions: number }[];
  sessions: ReplaySession[];
  counters: Record<string, number>;
  scan: CaptureScan;
}

const WHY_ANSWERED = new Map<number, string>([
  [Answer.badRequest, 'not valid HTTP: 400'],
  [Answer.notFound, 'no node holds it: 404'],
  [Answer.timeout, 'head not complete in time: 408'],
  [Answer.headTooLarge, 'head too large: 431'],
  [Answer.unavailable, 'no node able to take it: 503'],
  [Answer.silentClose, 'the client sent nothing: closed without an answer'],
]);

/** The same when segments of the client were dropped: its data is not known. */
const WHY_UNUSABLE = new Map<number, string>([
  [Answer.timeout, 'head not complete because segments were dropped: 408'],
  [Answer.silentClose, 'all data of the client was dropped: closed without an answer'],
]);

/** The MTU of an Ethernet link, for captures of any link. */
const MTU = 1500;
const BALANCER_MAC = Uint8Array.of(0x02, 0, 0, 0, 0xff, 0xff);
/** There is no attacker in a replay, so the secrets may be known. */
const KEY = new Uint8Array(16);
const SECRET = new Uint8Array(32);
const ALIASES = new Aliases(KEY);
/** Documentation addresses (RFC 5737): the balancer's own when the config names none. */
const FIRST_OWN_ADDRESS = toAddress(0xc0_00_02_01);
/** 2001:db8::ffff, for documentation (RFC 3849). Nothing depends on it. */
const OWN_ADDRESS_6 = toAddress6([0x2001_0db8, 0, 0, 0xffff]);
/** Least capacity of the tables, even for a capture without a SYN. */
const LEAST_SESSIONS = 64;
const STATUS_FOUND = 200;
const REQUEST_SHOWN = 200;

/** A session that the replay follows. */
interface Track extends ReplaySession {
  slot: number;
}

export class ReplayRun {
  readonly datapath: CaptureDatapath;
  private readonly config: ReplayConfig;
  private readonly counters = new Counters();
  private readonly nodes: NodeTable;
  private readonly engine: Engine;
  private readonly sessions: SessionTable;
  private readonly tracks: Track[] = [];
  /** Sessions by slot, until the slot is used again; and by client and virtual server. */
  private readonly bySlot = new Map<number, Track>();
  private readonly byFlow = new Map<string, Track>();
  private readonly handed: number[];
  private unclosed = 0;

  /** Undefined when `file` (all its bytes) is neither pcap nor pcapng. */
  static open(
    file: Uint8Array,
    config: ReplayConfig,
    checksums: ChecksumPolicy = 'detect',
  ): ReplayRun | undefined {
    let forwarded: (offset: number) => void = () => {};
    let unusable: (segment: RecordedSegment) => void = () => {};
    const datapath = CaptureDatapath.open(file, {
      virtualServers: config.virtualServers.map(withNumber),
      nodes: config.nodes.map(withNumber),
      balancerMac: BALANCER_MAC,
      key: KEY,
      checksums,
      forwarded: (offset) => forwarded(offset),
      unusable: (segment) => unusable(segment),
    });
    if (datapath === undefined) return undefined;
    const run = new ReplayRun(config, datapath, checksums);
    forwarded = (offset) => run.noteForwarded(offset);
    unusable = (segment) => run.noteUnusable(segment);
    return run;
  }

  private constructor(
    config: ReplayConfig,
    datapath: CaptureDatapath,
    private readonly checksums: ChecksumPolicy,
  ) {
    this.config = config;
    this.datapath = datapath;
    const { nodes, virtualServers, limits } = config;
    this.nodes = new NodeTable(
      inSlots(nodes),
      ownStates(nodes, virtualServers.length),
      undefined,
      (address) => ALIASES.of(address),
    );
    for (let node = 0; node < this.nodes.count; node++)
      this.nodes.setMac(node, replayNodeMac(node));
    this.handed = new Array<number>(this.nodes.count).fill(0);
    // There are no more sessions than SYNs. A config for a million sessions needs no more memory.
    const most = Math.max(datapath.scan.syns, LEAST_SESSIONS);
    const image = directoryImage(config.resources);
    const dispatcher = new RequestDispatcher({
      directory: new Directory(image),
      predictors: virtualServers.map(({ predictor }) => predictor),
      protocols: virtualServers.map(({ protocol }) => Protocol[protocol]),
      scopes: virtualServers.map((server) => scopeOf(image, server)),
      pools: virtualServers.map((server) => server.nodes ?? [...nodes.keys()]),
      candidates: new HandoffCandidates(this.nodes),
      headBytes: limits.headBytes,
    });
    this.engine = new Engine(
      {
        // The virtual clock of the capture begins with its first frame.
        now: 0,
        address: ownAddress(config),
        address6: OWN_ADDRESS_6,
        mac: BALANCER_MAC,
        mtu: MTU,
        key: KEY,
        secret: SECRET,
        seeds: { client: 0, port: 0, nonce: 0 },
        virtualServers: inSlots(virtualServers).map(serverAt),
        answers: new RequestAnswers(() => datapath.timeOfDay),
        limits: {
          ...limits,
          sessions: Math.min(limits.sessions, most),
          halfOpen: Math.min(limits.halfOpen, most),
          heads: Math.min(limits.heads, most),
        },
        timeouts: config.timeouts,
        observer: this.observer(),
        initialSequence: datapath.initialSequence,
      },
      this.nodes,
      dispatcher,
      datapath,
      this.counters,
    );
    this.sessions = this.engine.sessions;
  }

  /** Replays the capture. `writer` gets every frame that Baton would have sent. */
  run(writer?: PcapWriter): ReplayResult {
    const { datapath, config } = this;
    datapath.writer = writer;
    let durationMs = 0;
    const { idle, linger, closing, head } = config.timeouts;
    datapath.run(
      this.engine,
      idle + closing + head + linger,
      (now) => {
        durationMs = round(now);
        this.noteStates();
      },
      () => this.unclosed === 0,
    );
    const { frames, notIpv4, fault } = datapath.scan;
    return {
      capture: { frames, notIpv4, fault, durationMs, ...datapath.counts },
      checksumsIgnored: datapath.scan.checksums
        .ignored(this.checksums)
        .map(({ client, ...counts }) => ({ client: formatAddress(toAddress(client)), ...counts })),
      nodeSide: datapath.nodeCounts,
      nodes: config.nodes.map(({ name, address }, node) => ({
        name,
        address: formatAddress(address),
        sessions: this.handed[node] ?? 0,
      })),
      sessions: this.tracks.map(({ slot: _, ...session }) => session),
      counters: this.counters.toObject(),
      scan: datapath.scan,
    };
  }

  private observer(): Observer {
    return {
      opened: (slot, now) => this.opened(slot, now),
      established: (slot, now) => {
        const track = this.bySlot.get(slot);
        if (track !== undefined) track.establishedMs = round(now);
      },
      request: (slot, verdict, bytes, start, end) => {
        const track = this.bySlot.get(slot);
        if (track === undefined) return;
        track.request = escapeBytes(bytes, start, end, REQUEST_SHOWN);
        track.requestCut = end - start > REQUEST_SHOWN;
        track.status = verdict === Verdict.found ? STATUS_FOUND : verdict;
      },
      handoff: (slot, node) => this.handoff(slot, node),
      answered: (slot, answer) => this.answered(slot, answer),
      adopted: (slot, node) => {
        this.handed[node] = (this.handed[node] ?? 0) + 1;
        this.outcome(slot, 'adopted');
      },
      refused: (slot) => this.outcome(slot, 'refused'),
      silent: (slot) => this.outcome(slot, 'silent'),
      closed: (slot, reason, now) => {
        const track = this.bySlot.get(slot);
        if (track === undefined) return;
        this.unclosed -= 1;
        track.closed = reason;
        track.closedMs = round(now);
      },
    };
  }

  private opened(slot: number, now: number): void {
    const { sessions } = this;
    const client = sessions.client(slot);
    const port = sessions.portServer(slot) >>> 16;
    const server = this.config.virtualServers[sessions.portServer(slot) & 0xffff]!;
    const track: Track = {
      slot,
      client: formatEndpoint({ address: sessions.clientAddress(slot), port }),
      virtualServer: server.name,
      openedMs: round(now),
      establishedMs: null,
      request: '',
      requestCut: false,
      status: null,
      resource: null,
      node: null,
      why: '',
      handoffs: [],
      state: 'closed',
      packets: 0,
      unusable: 0,
      closed: null,
      closedMs: null,
    };
    this.unclosed += 1;
    this.tracks.push(track);
    this.bySlot.set(slot, track);
    this.byFlow.set(flow(client, port, ALIASES.of(server.address), server.port), track);
  }

  private handoff(slot: number, node: number): void {
    const track = this.bySlot.get(slot);
    if (track === undefined) return;
    const name = this.config.nodes[node]?.name ?? '';
    const last = track.handoffs.at(-1);
    if (last?.node === name && last.outcome === 'pending') {
      last.attempts += 1;
      return;
    }
    track.handoffs.push({ node: name, attempts: 1, outcome: 'pending' });
    track.node = name;
    const resource = this.config.resources[this.sessions.resource[slot]!]!;
    track.resource = `${resource.host ?? ''}${resource.path}`;
    const server = this.config.virtualServers[this.sessions.portServer(slot) & 0xffff]!;
    const holders = resource.nodes.length;
    track.why =
      holders === 1
        ? `only holder of ${track.resource}`
        : `${track.resource}: ${server.predictor} of ${holders}`;
  }

  private answered(slot: number, answer: number): void {
    const track = this.bySlot.get(slot);
    if (track === undefined) return;
    track.node = null;
    track.status = STATUS_OF_ANSWER.get(answer) ?? null;
    track.why =
      (track.unusable > 0 && WHY_UNUSABLE.get(answer)) || (WHY_ANSWERED.get(answer) ?? '');
  }

  private outcome(slot: number, outcome: ReplayHandoff['outcome']): void {
    const last = this.bySlot.get(slot)?.handoffs.at(-1);
    if (last !== undefined) last.outcome = outcome;
  }

  /** Records the states at the end of the capture. A session that has left the table is closed. */
  private noteStates(): void {
    const { sessions } = this;
    for (const [slot, track] of this.bySlot) {
      const isRemoved = track.closed !== null && sessions.state(slot) !== SessionState.lingering;
      const name = isRemoved ? '' : SESSION_STATE_NAMES[sessions.state(slot)];
      track.state = name || 'closed';
    }
  }

  private noteUnusable({
    source,
    sourcePort,
    destination,
    destinationPort,
  }: RecordedSegment): void {
    const track = this.byFlow.get(flow(source, sourcePort, destination, destinationPort));
    if (track !== undefined) track.unusable += 1;
  }

  private noteForwarded(offset: number): void {
    const { view } = this.datapath.memory;
    const ip = offset + ETHERNET_HEADER_BYTES;
    const tcp = ip + IPV4_HEADER_BYTES;
    const track = this.byFlow.get(
      flow(
        view.getUint32(ip + IPV4.source),
        view.getUint16(tcp + TCP.sourcePort),
        view.getUint32(ip + IPV4.destination),
        view.getUint16(tcp + TCP.destinationPort),
      ),
    );
    if (track !== undefined) track.packets += 1;
  }
}

function flow(client: number, clientPort: number, server: number, serverPort: number): string {
  return `${client}:${clientPort}>${server}:${serverPort}`;
}

/** With the number of the address, as the engine knows it. */
function withNumber<Entry extends { address: Address }>(
  entry: Entry,
): Omit<Entry, 'address'> & { address: number } {
  return { ...entry, address: ALIASES.of(entry.address) };
}

/** Rounds ms to microseconds: smaller parts are noise of the arithmetic. */
function round(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

/** The config's own address, or one that no node and no virtual server has. */
function ownAddress(config: ReplayConfig): Address4 {
  if (config.address !== undefined && !isAddress6(config.address)) return config.address;
  const taken = new Set<Address>(
    [...config.nodes, ...config.virtualServers].map(({ address }) => address),
  );
  let address = FIRST_OWN_ADDRESS;
  while (taken.has(address)) address = toAddress(address + 1);
  return address;
}
