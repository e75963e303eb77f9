/** Pieces of a request head of the usual client, and what the engine sends for them. */
import type { TcpSpec } from '../../lab/packet.js';
import { fromClient, ISN, IXP_TYPE, inIxp, toClient } from './conversation.js';

/** Data at `at` bytes from the start of the client's stream, which began with `isn`. */
export function text(
  bytes: string,
  at: number,
  flags = 'PA',
  isn = 1000,
): ReturnType<typeof fromClient> {
  return fromClient({ flags, seq: (isn + 1 + at) >>> 0, ack: ISN + 1 }, bytes);
}

/** The ACK of so many bytes of a head. */
export function ack(to: number, more: TcpSpec = {}): ReturnType<typeof toClient> {
  return toClient({ flags: 'A', seq: ISN + 1, ack: (1001 + to) >>> 0, ...more });
}

/** The ADOPT of a whole head, to node 0. */
export function adopt(payload: string, isn = 1000): ReturnType<typeof inIxp> {
  const seq = (isn + 1) >>> 0;
  return inIxp(
    0,
    { type: IXP_TYPE.adopt, service: 0, confirm: (seq + payload.length) >>> 0 },
    { seq, ack: ISN + 1, flags: 'PA' },
    payload,
  );
}
