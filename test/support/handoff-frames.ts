/** The frames of a handoff of the usual client's first request. */
import type { PacketSpec, TcpOptionsSpec } from '../../lab/packet.js';
import { Answer } from '../../src/directory/answers.js';
import {
  answered,
  type Conversation,
  fromClient,
  get,
  ISN,
  IXP_TYPE,
  inIxp,
} from './conversation.js';

const { adopt, segment } = IXP_TYPE;

/**
 * A conversation up to the request for `path`. The frames to the first node are still to be
 * expected.
 */
export function asked(talk: Conversation, path: string, syn: TcpOptionsSpec = {}): string {
  talk.handshake(0, { options: syn });
  const request = get(path);
  talk.send(0, fromClient({ flags: 'PA', seq: 1001, ack: ISN + 1, window: 4321 }, request));
  return request;
}

/** The ADOPT of node `node`. */
export function handed(node: number, request: string): PacketSpec {
  return inIxp(
    node,
    { type: adopt, service: 0 },
    { flags: 'PA', seq: 1001, ack: ISN + 1 },
    request,
  );
}

/** The RST, exact at `seq`, that withdraws a handoff. */
export function withdrawn(node: number, seq: number): PacketSpec {
  return inIxp(node, { type: segment }, { flags: 'R', seq }, '');
}

/** The balancer's own answer that no node is available, or another one. */
export function unavailable(request: string, answer: number = Answer.unavailable): PacketSpec {
  return answered(answer, request.length);
}
