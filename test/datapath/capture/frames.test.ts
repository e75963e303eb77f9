/** Compares every frame that the engine sends in a replay with what the clients sent. */
import t from 'tap';
import { formatEndpoint, toAddress } from '../../../src/wire/address.js';
import { openCapture } from '../../../src/wire/capture-file.js';
import { finish, sumBytes } from '../../../src/wire/checksum.js';
import { verifyTcpChecksum } from '../../../src/wire/tcp.js';
import { CAPTURES, capture } from '../../support/captures.js';
import { CASES } from './cases.js';
import { config, IP, replay, type Sent, TCP, WRAPPED_TCP } from './replay.js';

t.test('every frame is complete, in order, and consists of bytes from the client', async (t) => {
  const servers = new Map(CASES.map(({ file, server }) => [file, [server]]));
  servers.set('http-post-large.pcap', ['127.0.0.1:80', '127.0.0.1:5000']);
  servers.set('methods.pcap', ['173.194.75.103:80']);
  servers.set('bro.org.pcap', ['192.150.187.43:80']);
  servers.set('get_nosyn.pcap', ['192.150.187.43:80']);
  servers.set('zeek-image-1080-80-x.pcapng', ['127.0.0.1:80']);
  t.equal(servers.size, CAPTURES.length, 'all captures');
  for (const [file, names] of servers) {
    const { sent } = replay(file, config(names));
    const { packets, streams } = recorded(file, names);
    let last = 0;
    for (const frame of sent) {
      if (frame.at < last) throw new Error(`${file}: time goes back`);
      last = frame.at;
      checkFrame(file, frame, names, packets, streams);
    }
    t.pass(`${file}: ${sent.length} frames`);
  }
});

/**
 * Packets of clients without their TCP checksum, and the bytes of each client's stream by sequence
 * number.
 */
function recorded(
  file: string,
  servers: readonly string[],
): { packets: Set<string>; streams: Map<string, number> } {
  const bytes = capture(file);
  const view = new DataView(bytes.buffer);
  const packets = new Set<string>();
  const streams = new Map<string, number>();
  const reader = openCapture(bytes)!;
  while (reader.next()) {
    const ip = reader.offset + IP;
    const tcp = reader.offset + TCP;
    const endpoint = (address: number, port: number): string =>
      formatEndpoint({ address: toAddress(view.getUint32(address)), port: view.getUint16(port) });
    if (!servers.includes(endpoint(ip + 16, tcp + 2))) continue;
    const end = ip + view.getUint16(ip + 2);
    packets.add(withoutChecksum(bytes.slice(ip, end)));
    const client = endpoint(ip + 12, tcp);
    let sequence = view.getUint32(tcp + 4);
    for (let at = tcp + (view.getUint8(tcp + 12) >>> 4) * 4; at < end; at++) {
      streams.set(`${client}/${sequence}`, bytes[at]!);
      sequence = (sequence + 1) >>> 0;
    }
  }
  return { packets, streams };
}

function withoutChecksum(packet: Uint8Array): string {
  packet[20 + 16] = 0;
  packet[20 + 17] = 0;
  return Buffer.from(packet).toString('latin1');
}

function checkFrame(
  file: string,
  { view, bytes, protocol, source }: Sent,
  servers: readonly string[],
  packets: ReadonlySet<string>,
  streams: ReadonlyMap<string, number>,
): void {
  const fail = (what: string): never => {
    throw new Error(`${file}: ${what}: ${Buffer.from(bytes).toString('hex')}`);
  };
  const total = view.getUint16(IP + 2);
  if (finish(sumBytes(view, IP, 20, 0)) !== 0) fail('IPv4 checksum');
  if (total + IP > bytes.length) fail('length');
  const tcp = protocol === 253 ? WRAPPED_TCP : TCP;
  const segmentBytes = IP + total - tcp;
  if (
    !verifyTcpChecksum(view, tcp, segmentBytes, view.getUint32(IP + 12), view.getUint32(IP + 16))
  ) {
    fail('TCP checksum');
  }
  if (protocol === 253) {
    if (total > 1500) fail('IXP beyond the MTU');
    const client = `${source}:${view.getUint16(tcp)}`;
    const first = view.getUint32(tcp + 4);
    const payload = tcp + (view.getUint8(tcp + 12) >>> 4) * 4;
    for (let at = payload; at < IP + total; at++) {
      if (streams.get(`${client}/${(first + at - payload) >>> 0}`) !== bytes[at])
        fail('not what the client sent');
    }
  } else if (!servers.includes(`${source}:${view.getUint16(tcp)}`)) {
    // A forwarded frame: only the MAC addresses may differ, and a checksum that was incomplete.
    if (!packets.has(withoutChecksum(bytes.slice(IP, IP + total)))) fail('changed on its way');
  }
}
