/** The client of a conversation whose session may move to another node between two requests. */
import type { Test } from 'tap';
import { addressNumber, type PacketSpec } from '../../lab/packet.js';
import { inSlots, KeepAlive } from '../../src/engine/farm.js';
import { SessionFlag, SessionState } from '../../src/engine/table/session-table.js';
import { IxcpFlag } from '../../src/wire/ixcp.js';
import { IxpFlag } from '../../src/wire/ixp.js';
import {
  CLIENT,
  Conversation,
  type ConversationOptions,
  fromClient,
  ISN,
  IXP_TYPE,
  inIxp,
  NOTICE,
  notice,
  SERVER,
} from './conversation.js';
import { START } from './uptime.js';

const { adopt, leave, segment } = IXP_TYPE;
/** IxpFlag bits of the ADOPT of a GET request that is followed. */
export const FOLLOWED = IxpFlag.follow | IxpFlag.holdReset;
const ABILITIES = IxcpFlag.canAdopt | IxcpFlag.canRelease | IxcpFlag.canLeave;

/** Times are ms of the conversation. */
export class MovingClient {
  readonly talk: Conversation;
  /** The client's next number, and what it has acknowledged. */
  seq = 1001;
  ack = ISN + 1;

  constructor(
    readonly t: Test,
    options: ConversationOptions & { able?: number } = {},
  ) {
    const server = {
      address: addressNumber(SERVER.address),
      port: SERVER.port,
      keepAlive: KeepAlive.migrate,
    };
    this.talk = new Conversation(t, {
      ...options,
      engine: { virtualServers: inSlots([server]), ...options.engine },
    });
    for (let node = 0; node < this.talk.nodes.count; node++)
      this.talk.states.reported(node, 1, 1, options.able ?? ABILITIES, START);
    this.talk.handshake(0);
  }

  get slot(): number {
    return this.talk.engine.sessions.find(addressNumber(CLIENT.address), (CLIENT.port << 16) >>> 0);
  }

  /** Sends bytes at `time`; they are the client's from here on. */
  send(time: number, bytes: string, flags = 'PA'): PacketSpec {
    const packet = fromClient({ flags, seq: this.seq, ack: this.ack }, bytes);
    this.talk.send(time, packet);
    this.seq += bytes.length;
    return packet;
  }

  /** The first request goes to `node`, which answers 500 bytes. */
  first(node: number, request: string, flags = FOLLOWED): void {
    this.send(0, request);
    const tcp = { flags: 'PA', seq: 1001, ack: ISN + 1 };
    this.talk.expect(0, inIxp(node, { type: adopt, flags }, tcp, request));
    this.talk.send(5, notice(node, NOTICE.adopted, { ack: this.seq }));
    this.answered(10, node);
  }

  /** The client acknowledges 500 bytes more. */
  answered(time: number, node: number): void {
    this.ack += 500;
    const ack = fromClient({ flags: 'A', seq: this.seq, ack: this.ack });
    this.talk.send(time, ack);
    this.talk.expectForwarded(time, node, ack);
  }

  /** Something that goes to `node` as it is. */
  stays(time: number, node: number, bytes: string): PacketSpec {
    const packet = this.send(time, bytes);
    this.talk.expectForwarded(time, node, packet);
    return packet;
  }

  /** A request that makes the session leave `from`, its `count`-th request being the last one. */
  leaves(time: number, from: number, count: number, request: string): number {
    const first = this.seq;
    this.send(time, request);
    this.talk.expect(time, this.question(from, count, first));
    return first;
  }

  question(node: number, count: number, seq: number): PacketSpec {
    return inIxp(node, { type: leave, tsval: count }, { flags: 'A', seq, ack: this.ack }, '');
  }

  /** `from` lets the session go, and `to` gets the request that begins at `first`. */
  left(time: number, from: number, to: number, first: number, request: string): void {
    this.talk.send(time, notice(from, NOTICE.left, { seq: this.ack, ack: first }));
    const tcp = { seq: first, ack: this.ack };
    this.talk.expect(time, inIxp(to, { type: adopt, flags: FOLLOWED }, tcp, request));
    this.talk.send(time + 1, notice(to, NOTICE.adopted, { ack: this.seq }));
  }

  /** The engine asks whether the node has all bytes before `first`. */
  asksFor(time: number, node: number, first: number): void {
    const ixp = { type: segment, confirm: first };
    this.talk.expect(time, inIxp(node, ixp, { flags: 'A', seq: first - 1, ack: this.ack }, ''));
  }

  get watched(): boolean {
    return this.talk.engine.sessions.has(this.slot, SessionFlag.watched);
  }

  get passes(): boolean {
    return this.talk.engine.sessions.state(this.slot) === SessionState.passing;
  }
}
