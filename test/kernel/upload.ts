/**
 * A connection through the ring's interface: the client uploads to the virtual address, and the
 * node answers with a hash.
 */
import { createHash } from 'node:crypto';
import { type FrameSink, Port, type PortNumber } from '../../src/datapath/datapath.js';
import type { RingDatapath } from '../../src/datapath/ring.js';
import { macOf, outputOf } from './namespace.js';
import {
  HERE_MAC,
  IPV4_DESTINATION,
  NODE_MAC,
  type RingFarm,
  VIRTUAL,
  VIRTUAL_NUMBER,
} from './ring-farm.js';

/** Sends bytes to the virtual address and prints the answer. */
const UPLOAD = `
const [address, count] = process.argv.slice(1);
const socket = require('node:net').connect({ host: address, port: 80, allowHalfOpen: true });
const part = Buffer.alloc(1000003);
for (let i = 0; i < part.length; i++) part[i] = (i * 31) % 251;
let left = Number(count);
const more = () => {
  while (left > 0) {
    const now = part.subarray(0, Math.min(left, part.length));
    left -= now.length;
    if (!socket.write(now)) return socket.once('drain', more);
  }
  socket.end();
};
socket.once('connect', more).pipe(process.stdout);
`;
/** Accepts one connection, and answers with the hash of the received bytes. */
const DIGEST = `
const server = require('node:net').createServer({ allowHalfOpen: true }, (socket) => {
  const hash = require('node:crypto').createHash('sha256');
  socket.on('data', (part) => hash.update(part)).on('end', () => socket.end(hash.digest('hex')));
  server.close();
}).listen(80, () => console.log('listening'));
`;

/** The hash of an upload. */
export function uploadDigest(count: number): string {
  const part = Buffer.from(Array.from({ length: 1_000_003 }, (_, i) => (i * 31) % 251));
  const hash = createHash('sha256');
  for (let left = count; left > 0; left -= part.length) {
    hash.update(part.subarray(0, Math.min(left, part.length)));
  }
  return hash.digest('hex');
}

/** Uploads to the virtual address; returns the hash of the bytes that arrived. */
export async function upload(farm: RingFarm, count: number): Promise<string> {
  const server = farm.node.script(DIGEST);
  await new Promise((resolve) => server.stdout?.once('data', resolve));
  return outputOf(farm.client.script(UPLOAD, VIRTUAL, String(count)));
}

/**
 * Forwards frames for the virtual address to the node, as a balancer does, and records their
 * lengths and flags.
 */
export function forwarder(
  datapath: RingDatapath,
  note: (length: number, flags: number) => void = () => {},
  port: PortNumber = Port.wire,
): FrameSink {
  const { bytes, view } = datapath.memory;
  return {
    receive: (offset, length, flags) => {
      if (view.getUint32(offset + IPV4_DESTINATION) !== VIRTUAL_NUMBER) return;
      note(length, flags);
      bytes.set(macOf(NODE_MAC), offset);
      bytes.set(macOf(HERE_MAC), offset + 6);
      datapath.forward(offset, length, flags, port);
    },
    tick: () => {},
  };
}
