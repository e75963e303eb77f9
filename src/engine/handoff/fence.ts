/**
 * Fences a client off from a node that can not be told that it has lost a session. Such a node may
 * be cut off from us and still reach the client.
 *
 *     balancer ---- ACK, our TSval far ahead -----------> client: drops segments with an older
 *              ---- probe: an ACK one byte before ------>         TSval from here on
 *              <--- ACK, echoes that TSval ------------- the fence is up
 *
 * The client drops what the old node still sends, because its TSval is far behind (PAWS, RFC 7323
 * section 5.3). The next node continues from the new clock. Only sessions with timestamps can be
 * fenced. The acknowledgement number of the client's proof also says that it has nothing of an
 * answer.
 */
import { seqAdd, seqDiff } from '../../wire/seq.js';
import type { ClientWriter } from '../client-writer.js';
import type { Core } from '../core.js';
import { SessionFlag } from '../table/session-table.js';

/**
 * How far our timestamp clock of the session jumps, in ms: for 18 hours the old node stays behind
 * it. A session can be fenced 16 times, as one clock must stay within 2^31 of all earlier ones.
 */
const JUMP_MS = 1 << 26;

export class Fence {
  private readonly core: Core;
  private readonly toClient: ClientWriter;

  constructor(core: Core, toClient: ClientWriter) {
    this.core = core;
    this.toClient = toClient;
  }

  /** Whether the client of the session can be fenced off from its node. */
  isPossible(slot: number): boolean {
    const { sessions } = this.core;
    return (
      sessions.has(slot, SessionFlag.timestampsOk) &&
      (sessions.macHigh[slot] !== 0 || sessions.macLow[slot] !== 0)
    );
  }

  /** The session's timestamp clock jumps. `send` must follow. */
  raise(slot: number): void {
    const { sessions } = this.core;
    sessions.setTsOffset(slot, seqAdd(sessions.tsOffset(slot), JUMP_MS));
  }

  /** Sends the new time to the client, and asks it to echo it. */
  send(slot: number): void {
    this.toClient.ack(slot);
    this.toClient.probe(slot);
  }

  /**
   * Whether the current segment, of the session's client, proves that the fence is up and that the
   * client has no byte of an answer.
   */
  isProven(slot: number): boolean {
    const { core } = this;
    const { segment, sessions } = core;
    if (segment.acknowledgement !== sessions.serverFirst(slot)) return false;
    if (!segment.parseOptions() || !segment.options.hasTimestamps) return false;
    return Math.abs(seqDiff(core.tsvalOf(slot), segment.options.tsecr)) < JUMP_MS / 2;
  }
}
