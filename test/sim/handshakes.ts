/** What the checker keeps of the handshakes of a simulation. */
import type { TcpOptionsSpec } from '../../lab/packet.js';
import type { Renamed } from './content.js';

/** Options of a SYN, and the TSvals of its retransmissions. */
export interface Offer {
  options: TcpOptionsSpec;
  values: Set<number>;
}

export interface Handshake {
  clientIsn: number;
  serverIsn: number;
  /** Options that the SYN/ACK agreed to, and the client's MSS. */
  agreed: TcpOptionsSpec;
  offered: TcpOptionsSpec;
  /** Where an ADOPT may begin, in both directions: [the client's number, the node's]. */
  starts: [number, number][];
  /** From the first IXP frame of this connection. */
  nonce: number | undefined;
  /** From the first frame to a node: the first request, as nodes get it. */
  renamed: Renamed | undefined;
  /** Addresses of the nodes that an ADOPT was sent to. */
  asked: Set<string>;
  /** By address of a node: where the session can leave it, in both directions. */
  idle: Map<string, [number, number]>;
  /** What the engine itself has sent to the client. */
  answer: { from: number; bytes: number[]; fin: boolean };
}
