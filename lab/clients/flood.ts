/**
 * A flood of segments from clients that do not exist. The file is a program of its own, because it
 * must run in the namespace of a farm's host: its argument is a FloodOptions, and it prints a
 * Flooded when SIGTERM ends it.
 *
 * Ready frames fill the transmit slots of a packet ring. Before each is sent, it gets another
 * source address, port and sequence number, and its checksums are updated (RFC 1624).
 */
import { randomInt } from 'node:crypto';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { DESCRIPTOR_WORDS, native } from '../../src/host/native.js';
import type { Host } from '../farm/host.js';
import type { Program } from '../farm/process.js';
import { build } from '../packet.js';

export interface FloodOptions {
  /** MAC address of the balancer. */
  to: string;
  address: string;
  port: number;
  /** Flags of each segment. SYNs have the options of an ordinary client. */
  flags: 'S' | 'A';
  /** Segments a second; default: as many as possible. */
  rate?: number;
  /** It ends by itself after this time. */
  seconds: number;
}

export interface Flooded {
  sent: number;
  seconds: number;
  perSecond: number;
}

/** A running flood from a host. */
export class Flood {
  private readonly program: Program;

  private constructor(program: Program) {
    this.program = program;
  }

  /** Starts it, and waits until its first segments have been sent. */
  static async from(host: Host, options: FloodOptions): Promise<Flood> {
    const flood = new Flood(
      host.start('flood', [process.execPath, PROGRAM, JSON.stringify(options)]),
    );
    await flood.program.waitForLog(/flooding/);
    return flood;
  }

  async stop(): Promise<Flooded> {
    await this.program.stop();
    return (await this.program.document()) as Flooded;
  }
}

const SLOTS = 1024;
const SLOT_BYTES = 2048;
const BATCH = 64;
const INTERFACE = 'eth0';
/** PacketRing.stats: the number of values, and the index of the frames sent. */
const RING_TOTALS = 6;
const SENT = 2;

const SYN_OPTIONS = { mss: 1460, sackPermitted: true, timestamps: [1, 0], windowScale: 7 } as const;
const PROGRAM = fileURLToPath(import.meta.url);

const IP = { checksum: 24, source: 26 } as const;
const TCP = { sourcePort: 34, seq: 38, checksum: 50 } as const;

function template(flood: FloodOptions, mac: string): Uint8Array {
  return build({
    ethernet: { source: mac, destination: flood.to },
    ip: { source: '0.0.0.0', destination: flood.address, ttl: 64 },
    tcp: {
      sourcePort: 0,
      destinationPort: flood.port,
      seq: 0,
      ack: 0,
      flags: flood.flags,
      window: 64_240,
      options: flood.flags === 'S' ? SYN_OPTIONS : { timestamps: [1, 0] },
    },
  });
}

/** `checksum` after these words replaced zeros. */
function updated(checksum: number, words: number): number {
  let sum = (~checksum & 0xffff) + words;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

const halves = (word: number): number => (word >>> 16) + (word & 0xffff);

class Sender {
  private readonly ring;
  private readonly view: DataView;
  private readonly status: Uint32Array;
  private readonly descriptors = new Uint32Array(BATCH * DESCRIPTOR_WORDS);
  private readonly ipChecksum: number;
  private readonly tcpChecksum: number;
  private readonly length: number;
  private slot = 0;
  private random = randomInt(1, 0xffff_ffff);

  constructor(flood: FloodOptions) {
    const info = native().interfaceInfo(INTERFACE);
    if (info === undefined) throw new Error(`there is no ${INTERFACE}`);
    this.ring = native().openPacketRing({
      interfaceIndex: info.index,
      receiveBlocks: 1,
      receiveBlockBytes: 65_536,
      retireMs: 100,
      transmitSlots: SLOTS,
      transmitSlotBytes: SLOT_BYTES,
      filterProgramFd: -1,
    });
    this.view = new DataView(this.ring.memory);
    this.status = new Uint32Array(this.ring.memory);
    const mac = Array.from(info.mac, (byte) => byte.toString(16).padStart(2, '0')).join(':');
    const frame = template(flood, mac);
    const bytes = new Uint8Array(this.ring.memory);
    for (let slot = 0; slot < SLOTS; slot++) bytes.set(frame, this.slotOffset(slot));
    this.length = frame.length;
    this.ipChecksum = this.view.getUint16(this.slotOffset(0) + IP.checksum);
    this.tcpChecksum = this.view.getUint16(this.slotOffset(0) + TCP.checksum);
  }

  /** Sends up to `count` frames (at most BATCH). Returns how many there was room for. */
  send(count: number): number {
    const { ring, status, descriptors } = this;
    let slot = this.slot;
    let filled = 0;
    while (filled < count) {
      if (status[(ring.transmitStatus + slot * SLOT_BYTES) >>> 2] !== 0) break;
      const at = filled * DESCRIPTOR_WORDS;
      descriptors[at] = this.write(slot);
      descriptors[at + 1] = this.length;
      descriptors[at + 2] = 0;
      descriptors[at + 3] = slot;
      slot = slot + 1 === SLOTS ? 0 : slot + 1;
      filled++;
    }
    this.slot = ring.flush(descriptors, filled);
    return filled;
  }

  /** Returns how many frames were sent. */
  close(): number {
    const sent = this.ring.stats(new Float64Array(RING_TOTALS))[SENT] ?? 0;
    this.ring.close();
    return sent;
  }

  private slotOffset(slot: number): number {
    return this.ring.transmitOffset + slot * SLOT_BYTES;
  }

  /** Fills a slot and returns the offset of its frame. */
  private write(slot: number): number {
    const { view } = this;
    const offset = this.slotOffset(slot);
    // From 16.0.0.0 to 79.255.255.255: no address of a farm, and none that is reserved.
    const source = 0x1000_0000 + (this.next() & 0x3fff_ffff);
    const word = this.next();
    const port = 1024 + ((word >>> 16) % 64_000);
    const seq = this.next();
    const changed = halves(source);
    view.setUint32(offset + IP.source, source);
    view.setUint16(offset + IP.checksum, updated(this.ipChecksum, changed));
    view.setUint16(offset + TCP.sourcePort, port);
    view.setUint32(offset + TCP.seq, seq);
    view.setUint16(offset + TCP.checksum, updated(this.tcpChecksum, changed + port + halves(seq)));
    return offset;
  }

  /** xorshift32. */
  private next(): number {
    let x = this.random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.random = x;
    return x >>> 0;
  }
}

async function run(flood: FloodOptions): Promise<Flooded> {
  const sender = new Sender(flood);
  let ending = false;
  process.once('SIGTERM', () => {
    ending = true;
  });
  const began = performance.now();
  let sent = 0;
  let batches = 0;
  for (let now = began; !ending && now - began < flood.seconds * 1000; now = performance.now()) {
    const due = flood.rate === undefined ? BATCH : ((now - began) / 1000) * flood.rate - sent;
    const filled = due < 1 ? 0 : sender.send(Math.min(BATCH, Math.floor(due)));
    if (sent === 0 && filled > 0) process.stdout.write('flooding\n');
    sent += filled;
    // Waiting must not occupy a processor, and a signal must get a turn.
    if (filled < BATCH) await sleep(1);
    else if (++batches % 64 === 0) await turn();
  }
  const seconds = (performance.now() - began) / 1000;
  const total = sender.close();
  return { sent: total, seconds, perSecond: Math.round(total / seconds) };
}

if (process.argv[1] === PROGRAM) {
  const flooded = await run(JSON.parse(process.argv[2] ?? '') as FloodOptions);
  process.stdout.write(`${JSON.stringify(flooded)}\n`);
}
