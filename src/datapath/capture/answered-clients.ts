/**
 * The clients that the balancer answers itself. The recorded client got another answer, from the
 * recorded server, and goes on as that one asked for. So the replay acknowledges the balancer's
 * answer in its place, and closes the connection. What was recorded later comes too late.
 */
import { ETHERNET, ETHERNET_HEADER_BYTES, EtherType } from '../../wire/ethernet.js';
import { IPV4, IPV4_HEADER_BYTES, Protocol, writeIpv4 } from '../../wire/ipv4.js';
import { seqAdd } from '../../wire/seq.js';
import {
  finishTcpChecksum,
  TCP,
  TCP_HEADER_BYTES,
  TcpFlag,
  tcpHeaderBytes,
  writeTcp,
} from '../../wire/tcp.js';

const IP = ETHERNET_HEADER_BYTES;
const PLAIN_TCP = IP + IPV4_HEADER_BYTES;
const FRAME_BYTES = PLAIN_TCP + TCP_HEADER_BYTES;
const MAC_BYTES = 6;
const WINDOW = 0xffff;

/** A client that has got an answer with FIN: addresses, ports and its next numbers. */
interface Answered {
  readonly at: number;
  readonly macs: Uint8Array;
  readonly client: number;
  readonly clientPort: number;
  readonly server: number;
  readonly serverPort: number;
  readonly sequence: number;
  readonly acknowledgement: number;
}

export class AnsweredClients {
  private readonly latencyMs: number;
  private readonly answered: Answered[] = [];
  private next = 0;

  /** @param latencyMs time from an answer to the arrival of the client's segment, ms */
  constructor(latencyMs: number) {
    this.latencyMs = latencyMs;
  }

  /** When the next client answers, in ms; or Infinity. */
  get due(): number {
    return this.answered[this.next]?.at ?? Number.POSITIVE_INFINITY;
  }

  /** Takes a frame of the engine to a client. Only one with FIN is the end of an answer. */
  take(view: DataView, bytes: Uint8Array, offset: number, now: number): void {
    const tcp = offset + PLAIN_TCP;
    if ((view.getUint8(tcp + TCP.flags) & TcpFlag.fin) === 0) return;
    const ip = offset + IP;
    const length = view.getUint16(ip + IPV4.totalLength) - IPV4_HEADER_BYTES;
    this.answered.push({
      at: now + this.latencyMs,
      macs: bytes.slice(offset, offset + ETHERNET.type),
      client: view.getUint32(ip + IPV4.destination),
      clientPort: view.getUint16(tcp + TCP.destinationPort),
      server: view.getUint32(ip + IPV4.source),
      serverPort: view.getUint16(tcp + TCP.sourcePort),
      sequence: view.getUint32(tcp + TCP.acknowledgement),
      acknowledgement: seqAdd(
        view.getUint32(tcp + TCP.sequence),
        length - tcpHeaderBytes(view, tcp) + 1,
      ),
    });
  }

  /** Writes the next client's segment as a frame at `offset`. Returns its length, 0 for none. */
  write(view: DataView, bytes: Uint8Array, offset: number): number {
    const one = this.answered[this.next];
    if (one === undefined) return 0;
    this.next += 1;
    bytes.set(one.macs.subarray(MAC_BYTES), offset + ETHERNET.destination);
    bytes.set(one.macs.subarray(0, MAC_BYTES), offset + ETHERNET.source);
    view.setUint16(offset + ETHERNET.type, EtherType.ipv4);
    const length = IPV4_HEADER_BYTES + TCP_HEADER_BYTES;
    writeIpv4(view, offset + IP, length, Protocol.tcp, one.client, one.server);
    const tcp = offset + PLAIN_TCP;
    writeTcp(
      view,
      tcp,
      one.clientPort,
      one.serverPort,
      one.sequence,
      one.acknowledgement,
      TCP_HEADER_BYTES,
      TcpFlag.ack | TcpFlag.fin,
      WINDOW,
    );
    finishTcpChecksum(view, tcp, TCP_HEADER_BYTES, one.client, one.server);
    return FRAME_BYTES;
  }
}
