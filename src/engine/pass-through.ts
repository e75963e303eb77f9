/**
 * Sessions that a node has. Client packets go on to the node with new MAC addresses, until both
 * sides have sent FIN, one side has sent RST, or the session is idle. With `datapath: xdp` the
 * kernel forwards most of these packets (bpf/xdp), and the engine gets the unusual ones.
 */
import { elapsed } from '../base/clock.js';
import { Counter } from '../base/counters.js';
import { TcpFlag } from '../wire/tcp.js';
import { resetEndsPassing } from './acceptance.js';
import { Carrier } from './carrier.js';
import { ASK_MS, type Core } from './core.js';
import type { NodeWriter } from './handoff/node-writer.js';
import { SessionFlag, SessionState } from './table/session-table.js';

// Plain constants: indices of the counters of the fast path.
const FORWARDED = Counter.forwarded;
const FORWARDED_BYTES = Counter.forwarded_bytes;

export class PassThrough {
  private readonly core: Core;
  private readonly toNode: NodeWriter;
  private readonly carrier: Carrier;

  constructor(core: Core, toNode: NodeWriter) {
    this.core = core;
    this.toNode = toNode;
    this.carrier = new Carrier(core);
  }

  /**
   * Forwards a segment to the session's node: only the MAC addresses change. An RST that may end
   * the session has its own way.
   */
  forward(slot: number): void {
    const core = this.core;
    const { sessions, segment } = core;
    // An RST must not keep alive the session that it ends.
    if ((segment.flags & TcpFlag.rst) === 0) sessions.setLastSeen(slot, core.clock);
    sessions.countPacket(slot);
    const finished = core.followClient(slot);
    this.send(slot);
    if (finished && sessions.state(slot) === SessionState.passing) core.waitForEnd(slot);
  }

  /** Forwards an RST to the node in any case, and ends the session if the RST counts here. */
  forwardReset(slot: number): void {
    const core = this.core;
    const { sessions, segment } = core;
    sessions.countPacket(slot);
    this.send(slot);
    const fin = sessions.has(slot, SessionFlag.clientFin);
    if (resetEndsPassing(segment.sequence, sessions.receiveNext(slot), fin))
      core.linger(slot, 'client-reset');
  }

  /** The timer of a session that passes: asks its node, or removes the session if it was idle. */
  expired(slot: number): void {
    this.removeIfSilent(slot, this.core.idleLimit(slot), this.core.isHalfClosed(slot));
  }

  /** The timer of a session that lingers. */
  lingered(slot: number): void {
    this.removeIfSilent(slot, this.core.options.timeouts.linger, false);
  }

  /**
   * Packets do not set the timer. They only write their time into the record, and the timer reads
   * it when it fires. A node that is asked answers with an ACK of the session's socket, or with RST
   * if it has no such socket any more.
   */
  private removeIfSilent(slot: number, wait: number, asks: boolean): void {
    const { core } = this;
    const silent = elapsed(core.clock, core.sessions.lastSeen(slot));
    if (silent >= wait) {
      core.remove(slot, 'idle');
      return;
    }
    let next = wait - silent;
    if (asks) {
      const due = silent >= ASK_MS;
      if (due) this.ask(slot);
      next = Math.min(next, due ? silent : ASK_MS - silent);
    }
    core.timers.set(slot, core.now + next);
  }

  /** While a session passes, `tries` counts the questions that its node has not answered. */
  private ask(slot: number): void {
    const { sessions } = this.core;
    sessions.setTries(slot, Math.min(0xff, sessions.tries(slot) + 1));
    this.toNode.ask(slot);
  }

  private send(slot: number): void {
    const core = this.core;
    const { sessions, segment, counters } = core;
    const node = sessions.node(slot);
    if (!core.reachable(node)) {
      counters.count(Counter.drop_unresolved);
      return;
    }
    if (!this.carrier.forwardSegment(slot)) return;
    counters.count(FORWARDED);
    counters.add(FORWARDED_BYTES, segment.length);
  }
}
