/**
 * Makes many connections from a recorded one: copies of the client's frames of a capture, each with
 * another address and port and correct checksums.
 */
import { readFileSync } from 'node:fs';
import type { NodeTable } from '../../src/engine/node-table.js';
import type { SessionTable } from '../../src/engine/table/session-table.js';
import { openCapture } from '../../src/wire/capture-file.js';
import { finish, sumBytes } from '../../src/wire/checksum.js';
import { EtherType } from '../../src/wire/ethernet.js';
import { IPV4, IPV4_HEADER_BYTES, Protocol, writeIpv4 } from '../../src/wire/ipv4.js';
import { emitIxcp, IXCP_HEADER_BYTES, IxcpType } from '../../src/wire/ixcp.js';
import { seqAdd } from '../../src/wire/seq.js';
import type { SipHash } from '../../src/wire/siphash.js';
import { finishTcpChecksum, TCP, TcpFlag } from '../../src/wire/tcp.js';

const IP = 14;
const TRANSPORT = IP + IPV4_HEADER_BYTES;
/**
 * Distance between frames in memory: the largest frame of the template, and room for any header.
 */
const STRIDE = 2048;
const FIRST_CLIENT = 0x0a000001;
const FIRST_PORT = 1024;
const PORTS = 60_000;
const BALANCER = 0x0a630002;
/** CWR and ECE: a SYN may carry them. */
const ECN_FLAGS = 0xc0;

/** The client's frames of a recorded connection. */
export interface Template {
  server: number;
  port: number;
  serverIsn: number;
  syn: Uint8Array;
  ack: Uint8Array;
  request: Uint8Array;
}

/** Reads the first connection of a capture. Throws if the connection is incomplete. */
export function readTemplate(file: string): Template {
  const reader = openCapture(new Uint8Array(readFileSync(file)));
  if (reader === undefined) throw new Error(`${file}: this is no capture`);
  const frames: Uint8Array[] = [];
  let serverIsn: number | undefined;
  let server = 0;
  let port = 0;
  while (reader.next()) {
    const frame = reader.bytes.slice(reader.offset, reader.offset + reader.capturedLength);
    const view = new DataView(frame.buffer);
    if (view.getUint16(12) !== EtherType.ipv4 || view.getUint8(IP + IPV4.protocol) !== Protocol.tcp)
      continue;
    const flags = view.getUint8(TRANSPORT + TCP.offsetAndFlags + 1) & ~ECN_FLAGS;
    if (frames.length === 0 && flags === TcpFlag.syn) {
      server = view.getUint32(IP + IPV4.destination);
      port = view.getUint16(TRANSPORT + TCP.destinationPort);
      frames.push(frame);
    } else if (flags === (TcpFlag.syn | TcpFlag.ack) && serverIsn === undefined) {
      serverIsn = view.getUint32(TRANSPORT + TCP.sequence);
    } else if (frames.length > 0 && view.getUint32(IP + IPV4.destination) === server) {
      frames.push(frame);
    }
  }
  const [syn, ack, request] = frames;
  if (syn === undefined || ack === undefined || request === undefined || serverIsn === undefined) {
    throw new Error(`${file}: the capture has no complete connection`);
  }
  return { server, port, serverIsn, syn, ack, request };
}

/** The same connection with more field lines in its request, each with its CR LF. */
export function withFields(template: Template, fields: string): Template {
  const { request } = template;
  const more = Buffer.from(fields, 'latin1');
  // Before the empty line that ends the head, and the frame.
  const at = request.length - 2;
  const longer = Buffer.concat([request.subarray(0, at), more, request.subarray(at)]);
  const view = new DataView(longer.buffer, longer.byteOffset);
  const total = IP + IPV4.totalLength;
  view.setUint16(total, view.getUint16(total) + more.length);
  return { ...template, request: longer };
}

/** Place of the frames of one kind in memory: index i is at offset + i * STRIDE. */
export interface Frames {
  offset: number;
  length: number;
  count: number;
}

export function frameOffset(frames: Frames, index: number): number {
  return frames.offset + index * STRIDE;
}

/** Bytes of memory for `kinds` kinds of `count` frames. */
export function workloadBytes(count: number, kinds: number): number {
  return count * kinds * STRIDE;
}

export function clientAddress(index: number): number {
  return FIRST_CLIENT + Math.floor(index / PORTS);
}

function clientPort(index: number): number {
  return FIRST_PORT + (index % PORTS);
}

/** A client's port and the only virtual server, as in session keys. */
export function clientKey(index: number): number {
  return (clientPort(index) << 16) >>> 0;
}

/** Lays out copies of a frame from `offset` on, one for each client. */
export function layOut(
  view: DataView,
  offset: number,
  frame: Uint8Array,
  clients: Uint32Array,
): Frames {
  const bytes = new Uint8Array(view.buffer);
  for (const [index, number] of clients.entries()) {
    const at = offset + index * STRIDE;
    bytes.set(frame, at);
    const client = clientAddress(number);
    view.setUint32(at + IP + IPV4.source, client);
    view.setUint16(at + TRANSPORT + TCP.sourcePort, clientPort(number));
    view.setUint16(at + IP + IPV4.checksum, 0);
    view.setUint16(at + IP + IPV4.checksum, finish(sumBytes(view, at + IP, IPV4_HEADER_BYTES, 0)));
    const server = view.getUint32(at + IP + IPV4.destination);
    const length = view.getUint16(at + IP + IPV4.totalLength) - IPV4_HEADER_BYTES;
    finishTcpChecksum(view, at + TRANSPORT, length, client, server);
  }
  return { offset, length: frame.length, count: clients.length };
}

/** Lays out a notice for each client's session, from the node of the session. */
export function layOutNotices(
  view: DataView,
  offset: number,
  type: number,
  template: Template,
  sessions: SessionTable,
  nodes: NodeTable,
  hash: SipHash,
  clients: Uint32Array,
): Frames {
  const length = TRANSPORT + IXCP_HEADER_BYTES;
  for (const [index, number] of clients.entries()) {
    const at = offset + index * STRIDE;
    const client = clientAddress(number);
    const slot = sessions.find(client, clientKey(number));
    if (slot < 0) throw new Error(`client ${number} has no session`);
    const node = nodes.address[sessions.node(slot)]!;
    view.setUint16(at + 12, EtherType.ipv4);
    writeIpv4(view, at + IP, IPV4_HEADER_BYTES + IXCP_HEADER_BYTES, Protocol.ixcp, node, BALANCER);
    const repr = {
      type,
      session: sessions.nonce(slot),
      client,
      virtualAddress: template.server,
      clientPort: clientPort(number),
      virtualPort: template.port,
      acknowledgement: sessions.handedTo(slot),
      sequence: seqAdd(template.serverIsn, 1),
    };
    emitIxcp(view, at + TRANSPORT, node, BALANCER, repr, hash);
  }
  return { offset, length, count: clients.length };
}

export const NoticeType = IxcpType;
export const BALANCER_ADDRESS = BALANCER;
