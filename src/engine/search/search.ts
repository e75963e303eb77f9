/**
 * Looks for connections that the balancer does not know: an earlier process with the packet
 * datapath had them, or a table that was too small. Each node is asked whether it has the socket
 * (docs/ixp.md, "Unknown connections").
 *
 *     segment of no session ---> QUERY to each node ---> OWNED: the session is built again
 *                                      |
 *                                      +--- silence, twice: RST
 *
 * A session that was found stays with its node, also with `keepAlive: migrate`: nobody knows which
 * requests it has had, nor at which other nodes it is parked. Meanwhile segments of the client are
 * dropped, and it sends them again.
 */
import { Counter } from '../../base/counters.js';
import { TokenBucket } from '../../base/token-bucket.js';
import { IPV6_HEADER_BYTES } from '../../wire/ipv6.js';
import { IxcpFlag, IxcpReason } from '../../wire/ixcp.js';
import { seqAdd, seqAfter, seqDiff } from '../../wire/seq.js';
import type { Core } from '../core.js';
import { KeepAlive } from '../farm.js';
import type { Handshake } from '../handshake.js';
import type { ParkingNotice } from '../moving/parking.js';
import { SessionFlag, SessionState } from '../table/session-table.js';
import { DONE, LostConnections } from './lost-connections.js';
import { SearchWriter } from './search-writer.js';

/** Questions a second, each to one node: anyone can cause them. */
const QUESTIONS_PER_SECOND = 10_000;
/** How long a question waits for its answer, in ms. */
const WAIT_MS = 300;
/** How often all nodes are asked. A question or its answer may be lost. */
const ROUNDS = 2;
/**
 * How long after a start nodes are asked too that have not reported yet, in ms: an agent reports
 * each second.
 */
const UNHEARD_MS = 60_000;
/** How far the next number of a socket can be from the client's: as QUERY_WINDOW of the shim. */
const MOST_AHEAD = 1 << 24;

const NONE = -1;

export class Search {
  private readonly core: Core;
  private readonly handshake: Handshake;
  private readonly lost: LostConnections;
  private readonly writer: SearchWriter;
  private readonly questions = new TokenBucket(QUESTIONS_PER_SECOND, QUESTIONS_PER_SECOND);
  /** Number of the next question. */
  private question: number;
  private unheardUntil = Number.NEGATIVE_INFINITY;

  constructor(core: Core, handshake: Handshake) {
    this.core = core;
    this.handshake = handshake;
    this.lost = new LostConnections(core);
    this.writer = new SearchWriter(core, this.lost);
    this.question = core.options.seeds.nonce;
  }

  /** The process begins: nodes have not reported to it yet. */
  begin(): void {
    this.unheardUntil = this.core.now + UNHEARD_MS;
  }

  /**
   * The current segment is of no session of this virtual server, and has no SYN or RST. Its
   * checksums are right.
   *
   * @param resets whether the client gets an RST if no node has the connection
   * @returns whether the connection is being looked for. Otherwise no node can be asked, or the
   *   segment has no acknowledgement number by which a node would know it.
   */
  receive(server: number, resets: boolean): boolean {
    const { core, lost } = this;
    const { segment, counters } = core;
    const key = ((segment.sourcePort << 16) | server) >>> 0;
    const entry = lost.place(segment.source, key);
    if (lost.asked[entry] === 0) {
      if (!lost.note(entry) || !this.hasNodes()) return false;
      lost.open(entry, key);
      lost.resets[entry] = resets ? 1 : 0;
      this.begun(entry);
      return true;
    }
    if (!lost.isCurrent(entry, key)) {
      counters.count(Counter.drop_search_limit);
      return true;
    }
    lost.note(entry);
    counters.count(Counter.drop_searching);
    return true;
  }

  /** Asks again, or gives up. To be called once a batch. */
  tick(): void {
    const { core, lost } = this;
    while (!lost.isEmpty && core.now - lost.askedAt[lost.oldest]! >= WAIT_MS) {
      const entry = lost.next();
      if (lost.asked[entry] === DONE || !core.servers.isUsed(lost.portServer[entry]! & 0xffff))
        lost.asked[entry] = 0;
      else if (lost.asked[entry]! < ROUNDS) this.ask(entry);
      else if (lost.parkedNode[entry] !== NONE) this.findParked(entry);
      else this.giveUp(entry);
    }
  }

  /** A verified OWNED of a node. Parameters are those of the session that it names. */
  owned(
    node: number,
    client: number,
    key: number,
    nonce: number,
    notice: Readonly<ParkingNotice>,
  ): void {
    const { core, lost } = this;
    const entry = lost.place(client, key);
    const ahead = seqDiff(notice.acknowledgement, lost.sequence[entry]!);
    if (
      !lost.is(entry, client, key) ||
      (lost.question[entry]! & 0xffff) !== notice.answers ||
      Math.abs(ahead) > MOST_AHEAD
    ) {
      core.counters.count(Counter.drop_ixcp_stale);
      return;
    }
    if (notice.reason !== IxcpReason.parked) {
      const closing = notice.reason === IxcpReason.closing;
      // The queue still has the entry.
      lost.asked[entry] = DONE;
      this.find(entry, node, nonce, notice.acknowledgement, closing);
      return;
    }
    // Another node may have the connection, and its client nothing of the answer there yet.
    lost.parkedNode[entry] = node;
    lost.parkedNonce[entry] = nonce;
    lost.parkedNext[entry] = notice.acknowledgement;
  }

  private begun(entry: number): void {
    const { counters } = this.core;
    if (!this.questions.take(this.core.now)) {
      counters.count(Counter.drop_search_limit);
      return;
    }
    counters.count(Counter.searched);
    counters.count(Counter.drop_searching);
    this.lost.question[entry] = this.question;
    this.question = seqAdd(this.question, 1);
    this.ask(entry);
  }

  private ask(entry: number): void {
    const { core, lost } = this;
    for (let node = 0; node < core.nodes.end; node++) {
      if (!this.mayHave(node) || !core.reachable(node)) continue;
      // The first token was taken for the connection.
      if (this.writer.ask(entry, node)) core.counters.count(Counter.search_questions);
      this.questions.take(core.now);
    }
    lost.asked[entry]! += 1;
    lost.askedAt[entry] = core.now;
    lost.wait(entry);
  }

  private hasNodes(): boolean {
    const { nodes } = this.core;
    for (let node = 0; node < nodes.end; node++) if (this.mayHave(node)) return true;
    return false;
  }

  /** Whether the shim of this node may answer a question. */
  private mayHave(node: number): boolean {
    const { nodes, states, now } = this.core;
    if (nodes.address[node] === 0) return false;
    if (states.reportedAt[node]! < 0) return now < this.unheardUntil;
    return states.can(node, IxcpFlag.canOwn);
  }

  private giveUp(entry: number): void {
    const { lost } = this;
    lost.asked[entry] = 0;
    this.core.counters.count(Counter.not_found);
    if (lost.resets[entry] === 1) this.writer.reset(entry);
  }

  private findParked(entry: number): void {
    const { lost } = this;
    lost.asked[entry] = 0;
    this.find(
      entry,
      lost.parkedNode[entry]!,
      lost.parkedNonce[entry]!,
      lost.parkedNext[entry]!,
      false,
    );
  }

  /**
   * Builds the session of the connection again.
   *
   * @param next the next number that the socket expects of the client
   * @param closing whether the socket has sent FIN
   */
  private find(entry: number, node: number, nonce: number, next: number, closing: boolean): void {
    const { core, lost } = this;
    const { sessions, servers, counters, observer, clock, now } = core;
    const client = lost.client[entry]!;
    const key = lost.portServer[entry]!;
    // The client has opened another connection meanwhile, or its virtual server is gone.
    if (sessions.find(client, key) >= 0 || !servers.isUsed(key & 0xffff)) return;
    const slot = this.handshake.insert(client, key);
    if (slot < 0) return;
    const sequence = lost.sequence[entry]!;
    const acknowledgement = lost.acknowledgement[entry]!;
    const received = seqAfter(next, sequence) ? next : sequence;
    if (servers.ipBytes[key & 0xffff] === IPV6_HEADER_BYTES)
      sessions.clients.copy(slot, lost.addresses.words, entry);
    sessions.macHigh[slot] = lost.macHigh[entry]!;
    sessions.macLow[slot] = lost.macLow[entry]!;
    sessions.setNonce(slot, nonce);
    // Both sides have sent something before: the real first numbers have no meaning any more.
    sessions.setClientIsn(slot, seqAdd(received, -2));
    sessions.setServerIsn(slot, seqAdd(acknowledgement, -2));
    sessions.setReceiveNext(slot, received);
    sessions.setHandedTo(slot, next);
    sessions.setClientAck(slot, acknowledgement);
    sessions.setTsval(slot, lost.tsval[entry]!);
    sessions.setTsOffset(slot, seqAdd(lost.tsecr[entry]!, -clock));
    sessions.setFlags(
      slot,
      SessionFlag.adopted |
        (lost.stamped[entry] === 1 ? SessionFlag.timestampsOk : 0) |
        (closing ? SessionFlag.nodeFin : 0),
    );
    sessions.setNode(slot, node);
    core.attach(slot);
    counters.count(Counter.found);
    if (servers.keepAlive[key & 0xffff] === KeepAlive.migrate) counters.count(Counter.pinned_found);
    observer.opened?.(slot, now);
    sessions.setState(slot, SessionState.passing);
    core.waitForEnd(slot);
  }
}
