/**
 * Shared by the tests of the packet ring: a switch with three ports, for the ring's interface e1
 * (in the test's own namespace), a client and a node, and frames to send.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PATIENCE_MS } from '../../lab/patience.js';
import type { FrameSink } from '../../src/datapath/datapath.js';
import { PacketDatapath, packetRingOptions } from '../../src/datapath/packet.js';
import type { RingDatapath } from '../../src/datapath/ring.js';
import { type BpfObject, native, type PacketRingOptions } from '../../src/host/native.js';
import { macOf, outputOf, Peer, run } from './namespace.js';

export const HERE_MAC = '02:00:00:00:00:01';
export const CLIENT_MAC = '02:00:00:00:00:02';
export const NODE_MAC = '02:00:00:00:00:03';
/** An address of the node that the client sends to e1. */
export const VIRTUAL = '10.77.0.100';
export const VIRTUAL_NUMBER = 0x0a4d0064;
export const MTU = 1500;

export const IPV4_DESTINATION = 14 + 16;
export const IPV4_PROTOCOL = 14 + 9;
export const UDP = 17;
export const UDP_PAYLOAD = 14 + 20 + 8;

/** Sends UDP datagrams of the given sizes to an address. */
const SEND_UDP = `
const [address, ...sizes] = process.argv.slice(1);
const socket = require('node:dgram').createSocket('udp4');
const next = () => sizes.length === 0 ? socket.close() : socket.send(Buffer.alloc(Number(sizes.shift()), 'b'), 9, address, next);
next();
`;

/**
 * Prints length and first byte of each datagram, until one begins with 255. Python can make the
 * receive buffer larger than Node.js can, so that datagrams wait there while the process has no
 * CPU.
 */
const LISTEN = `
import socket
SO_RCVBUFFORCE = 33
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
s.settimeout(${PATIENCE_MS / 1000})
s.bind(("10.77.0.3", 9))
print("listening")
heard = []
while True:
    datagram = s.recv(65536)
    heard.append("%d:%d" % (len(datagram), datagram[0]))
    if datagram[0] == 255: break
print(",".join(heard))
`;

/** A datagram that the node has received. */
export interface Heard {
  length: number;
  tag: number;
}

/** A UDP frame that arrived. */
export interface Seen {
  length: number;
  flags: number;
  payload: string;
}

export class RingFarm {
  private constructor(
    readonly client: Peer,
    readonly node: Peer,
    /** Index of the ring's interface. */
    readonly e1: number,
  ) {}

  static async make(): Promise<RingFarm> {
    // A bridge with multicast snooping reports a group of its own: an IPv4 frame that no test
    // expects.
    run('ip', 'link', 'add', 'br0', 'type', 'bridge', 'mcast_snooping', '0');
    run('ip', 'link', 'set', 'br0', 'up');
    run('ip', 'link', 'add', 'e1', 'address', HERE_MAC, 'type', 'veth', 'peer', 'name', 'p1');
    const client = await Peer.make('p2', '10.77.0.2/24', CLIENT_MAC);
    const node = await Peer.make('p3', '10.77.0.3/24', NODE_MAC);
    for (const port of ['p1', 'p2', 'p3']) {
      run('ip', 'link', 'set', port, 'master', 'br0', 'up');
    }
    run('ip', 'link', 'set', 'e1', 'up');
    const know = (peer: Peer, address: string, mac: string): string =>
      peer.run('ip', 'neighbour', 'add', address, 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent');
    know(client, VIRTUAL, HERE_MAC);
    know(client, '10.77.0.3', NODE_MAC);
    know(node, '10.77.0.2', CLIENT_MAC);
    node.run('sysctl', '-qw', 'net.ipv4.conf.all.arp_ignore=1');
    node.run('ip', 'address', 'add', `${VIRTUAL}/32`, 'dev', 'lo');
    return new RingFarm(client, node, native().interfaceInfo('e1')?.index ?? 0);
  }

  options(changes: Partial<PacketRingOptions> = {}): PacketRingOptions {
    return {
      ...packetRingOptions({ interfaceIndex: this.e1, mtu: MTU, filterProgramFd: -1 }),
      ...changes,
    };
  }

  open(changes: Partial<PacketRingOptions> = {}): PacketDatapath {
    return new PacketDatapath(native().openPacketRing(this.options(changes)));
  }

  /** Makes the client send datagrams of these sizes to the virtual address. */
  sendUdp(...sizes: number[]): Promise<string> {
    return outputOf(this.client.script(SEND_UDP, VIRTUAL, ...sizes.map(String)));
  }

  /** Listens at the node: the datagrams up to one that begins with 255. */
  async listen(): Promise<{ heard: Promise<Heard[]> }> {
    const listener = this.node.python(LISTEN);
    const output = outputOf(listener);
    await once(listener.stdout ?? listener, 'data');
    const heard = output.then((text) =>
      (text.trim().split('\n')[1] ?? '').split(',').map((one) => {
        const [length = 0, tag = 0] = one.split(':').map(Number);
        return { length, tag };
      }),
    );
    return { heard };
  }

  stop(): void {
    this.client.stop();
    this.node.stop();
  }
}

/** A clock for poll. */
export function now(): number {
  return performance.now();
}

/** A sink that records the UDP frames that arrive. */
export function collector(datapath: RingDatapath, seen: Seen[]): FrameSink {
  return {
    receive: (offset, length, flags) => {
      const { bytes } = datapath.memory;
      if (bytes[offset + IPV4_PROTOCOL] !== UDP) return;
      const payload = Buffer.from(bytes.subarray(offset + UDP_PAYLOAD, offset + length)).toString(
        'latin1',
      );
      seen.push({ length, flags, payload });
    },
    tick: () => {},
  };
}

/** Writes a frame of `length` bytes: a UDP datagram for the node with `fill` as payload. */
export function writeUdp(
  datapath: RingDatapath,
  offset: number,
  length: number,
  fill: number,
): void {
  const { bytes, view } = datapath.memory;
  bytes.fill(fill, offset, offset + length);
  bytes.set(macOf(NODE_MAC), offset);
  bytes.set(macOf(HERE_MAC), offset + 6);
  view.setUint16(offset + 12, 0x0800);
  bytes.set([0x45, 0, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0, 10, 77, 0, 2, 10, 77, 0, 3], offset + 14);
  view.setUint16(offset + 16, length - 14);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += view.getUint16(offset + at);
  view.setUint16(offset + 24, ~((sum & 0xffff) + (sum >> 16)));
  bytes.set([0, 9, 0, 9, 0, 0, 0, 0], offset + 34);
  view.setUint16(offset + 38, length - 34);
}

/** Compiles BPF programs from C and loads them. */
export function compileAndLoad(source: string): BpfObject {
  const directory = mkdtempSync(join(tmpdir(), 'baton-ring-'));
  try {
    const file = join(directory, 'programs.c');
    writeFileSync(file, source);
    compileBpf(file, join(directory, 'programs.o'));
    return native().loadBpf(join(directory, 'programs.o'));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

export function compileBpf(source: string, object: string): void {
  const include = `-I/usr/include/${run('uname', '-m').trim()}-linux-gnu`;
  run('clang', ...`-g -O2 -target bpf ${include} -c ${source} -o ${object}`.split(' '));
}
