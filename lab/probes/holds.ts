/**
 * How long the balancer holds packets, seen on its cable: from a client's packet to what the
 * balancer makes of it. The answer to a SYN is a SYN/ACK. A request that completes a head leaves as
 * IXP. Everything else leaves with another MAC address. A packet that causes nothing, like the ACK
 * of a handshake, does not count.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { ETHERNET, parseMac } from '../../src/wire/ethernet.js';
import { IPV4, IPV4_HEADER_BYTES, Protocol } from '../../src/wire/ipv4.js';
import { IXP_HEADER_BYTES } from '../../src/wire/ixp.js';
import { PcapReader } from '../../src/wire/pcap.js';
import { seqAdd } from '../../src/wire/seq.js';
import { TCP, TcpFlag, tcpHeaderBytes } from '../../src/wire/tcp.js';
import { VIRTUAL_ADDRESS } from '../farm/addresses.js';
import type { Farm } from '../farm/farm.js';
import { Program } from '../farm/process.js';

/** Bytes of a frame that are kept: all headers, with IXP. */
const SNAP_BYTES = '160';
const FILTER = `(tcp and host ${VIRTUAL_ADDRESS}) or ip proto ${Protocol.ixp}`;

/** The times that the balancer held packets, in ms, while `during` runs. */
export async function measureHolds(farm: Farm, during: () => Promise<void>): Promise<number[]> {
  const file = path.join(farm.directory, 'holds.pcap');
  const program = Program.start(
    'holds',
    [
      ...['nsenter', `--net=/run/netns/${farm.tag}-switch`, 'tcpdump', '-ni', 'balancer', '-U'],
      ...['-B', '65536', '--time-stamp-precision=nano', '-s', SNAP_BYTES, '-w', file, FILTER],
    ],
    path.join(farm.directory, 'holds.log'),
  );
  await program.waitForLog(/listening on/);
  try {
    await during();
  } finally {
    program.signal('SIGINT');
    await program.exited;
  }
  if (!/^0 packets dropped by kernel/m.test(program.log(program.logStart)))
    throw new Error(`the capture is not complete: ${program.log(program.logStart)}`);
  return holdsOf(readFileSync(file), parseMac(farm.balancer.mac) ?? new Uint8Array(6));
}

/** @param mac the balancer's */
function holdsOf(capture: Uint8Array, mac: Uint8Array): number[] {
  const arrived = new Map<string, number>();
  const holds: number[] = [];
  const reader = new PcapReader(capture);
  while (reader.next()) {
    const { offset, capturedLength, timestamp } = reader;
    const frame = capture.subarray(offset, offset + capturedLength);
    const source = frame.subarray(ETHERNET.source, ETHERNET.source + mac.length);
    const sent = source.every((byte, at) => byte === mac[at]);
    const key = keyOf(frame, sent);
    const since = arrived.get(key);
    if (!sent) {
      // The first copy counts: the time of a lost or late packet does not begin again.
      if (since === undefined) arrived.set(key, timestamp);
    } else if (since !== undefined) {
      arrived.delete(key);
      holds.push(timestamp - since);
    }
  }
  if (reader.fault !== undefined) throw new Error(`holds.pcap: ${reader.fault.message}`);
  return holds;
}

/** Names a client's segment, and that of a client which an own segment of the balancer answers. */
function keyOf(frame: Uint8Array, sent: boolean): string {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const ip = ETHERNET.payload;
  let tcp = ip + IPV4_HEADER_BYTES;
  let bytes = view.getUint16(ip + IPV4.totalLength) - IPV4_HEADER_BYTES;
  if (view.getUint8(ip + IPV4.protocol) === Protocol.ixp) {
    tcp += IXP_HEADER_BYTES;
    bytes -= IXP_HEADER_BYTES;
  }
  const flags = view.getUint8(tcp + TCP.flags);
  const syn = (flags & TcpFlag.syn) !== 0;
  const answers = sent && syn;
  const port = view.getUint16(tcp + (answers ? TCP.destinationPort : TCP.sourcePort));
  const sequence = answers
    ? seqAdd(view.getUint32(tcp + TCP.acknowledgement), -1)
    : view.getUint32(tcp + TCP.sequence);
  const acknowledgement = syn ? 0 : view.getUint32(tcp + TCP.acknowledgement);
  const payload = syn ? 0 : bytes - tcpHeaderBytes(view, tcp);
  const fin = flags & TcpFlag.fin;
  return `${port} ${sequence} ${acknowledgement} ${payload} ${fin}`;
}
