/**
 * Sends bare ACKs of open sessions as fast as one CPU can, and counts those that come back. It uses
 * BPF_PROG_TEST_RUN with live frames, so a packet costs the generator little more than the driver's
 * send. Runs on the generator of a pair, and prints its counts.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { projectRoot } from '../../lab/farm/baton.js';
import { type BpfObject, native } from '../../src/host/native.js';
import { ipv4Number, requireAddress } from '../../src/wire/address.js';
import { fold, pseudoHeaderSum, sumBytes } from '../../src/wire/checksum.js';
import { EtherType, parseMac } from '../../src/wire/ethernet.js';
import { IPV4, IPV4_HEADER_BYTES, Protocol, writeIpv4 } from '../../src/wire/ipv4.js';
import { seqAdd } from '../../src/wire/seq.js';
import { TCP_HEADER_BYTES, TcpFlag, writeTcp } from '../../src/wire/tcp.js';
import { CLIENT_ISN, FIRST_CLIENT, FIRST_PORT, PORTS, REQUEST } from './crowd-task.js';

export interface FloodTask {
  seconds: number;
  sessions: number;
  balancerMac: string;
  virtualAddress: string;
  port: number;
  /** Absent if the forwarder ignores acknowledgement numbers. */
  acknowledgementsFile?: string;
  /**
   * Whether to keep no more frames in flight than the forwarder's ring holds. True for a forwarder
   * that forwards at once. A forwarder that collects frames first gets as many as can be sent.
   */
  paced: boolean;
}

export interface FloodCount {
  seconds: number;
  sent: number;
  returned: number;
  /** How often the sender waited for the forwarder per batch of 64 frames; 0 if not paced. */
  waited: number;
}

/** Path of the program. */
export const FLOOD = fileURLToPath(import.meta.url);

/** Default number of sessions that the packets belong to in turn. The goal uses it. */
export const FLOOD_SESSIONS = 10_000;
/** Further numbers of sessions: all of them, or most, fit into the nearest cache. */
export const FEW_SESSIONS: readonly number[] = [1, 1000];

const IP = 14;
const TRANSPORT = IP + IPV4_HEADER_BYTES;
/** The shortest Ethernet frame, without its check sequence. */
const FRAME_BYTES = 60;
const WINDOW = 64_240;
/** Size of struct flood_config of bpf/bench/flood.bpf.c. */
const CONFIG_BYTES = 40;
/** Most frames in flight: the 256 of a veth's ring, less the frames between two checks. */
const MOST_UNDER_WAY = 192;
/** Frames in one call: it takes some tens of ms. */
const BURST = 1 << 16;
/** Frames that the kernel sends at once in a test run. */
const BATCH = 64;
/** Time until rings and caches are in a steady state. */
const SETTLE_MS = 200;

function frameOf(
  task: FloodTask,
  mac: Uint8Array,
): { frame: Uint8Array; ipSum: number; tcpSum: number } {
  const frame = new Uint8Array(FRAME_BYTES);
  const view = new DataView(frame.buffer);
  const server = ipv4Number(requireAddress(task.virtualAddress));
  frame.set([...(parseMac(task.balancerMac) ?? []), ...mac]);
  view.setUint16(12, EtherType.ipv4);
  writeIpv4(view, IP, IPV4_HEADER_BYTES + TCP_HEADER_BYTES, Protocol.tcp, 0, server);
  view.setUint16(IP + IPV4.checksum, 0);
  const sequence = seqAdd(CLIENT_ISN, 1 + REQUEST.length);
  writeTcp(view, TRANSPORT, 0, task.port, sequence, 0, TCP_HEADER_BYTES, TcpFlag.ack, WINDOW);
  return {
    frame,
    ipSum: fold(sumBytes(view, IP, IPV4_HEADER_BYTES, 0)),
    tcpSum: fold(
      sumBytes(
        view,
        TRANSPORT,
        TCP_HEADER_BYTES,
        pseudoHeaderSum(0, server, Protocol.tcp, TCP_HEADER_BYTES),
      ),
    ),
  };
}

/** Fills the maps of flood.bpf.c. Returns the first frame. */
function setUp(
  object: BpfObject,
  task: FloodTask,
  interfaceIndex: number,
  mac: Uint8Array,
): Uint8Array {
  const { frame, ipSum, tcpSum } = frameOf(task, mac);
  const config = new ArrayBuffer(CONFIG_BYTES);
  new Uint32Array(config, 0, 3).set([interfaceIndex, task.sessions, FIRST_CLIENT]);
  new Uint16Array(config, 12, 2).set([FIRST_PORT, PORTS]);
  new Uint32Array(config, 16, 2).set([ipSum, tcpSum]);
  new Uint8Array(config, 24).set(frame.subarray(0, 12));
  new Uint32Array(config, 36)[0] = task.paced ? MOST_UNDER_WAY : 0;
  object.mapUpdate('config', new Uint8Array(4), new Uint8Array(config));
  if (task.acknowledgementsFile !== undefined) {
    const bytes = readFileSync(task.acknowledgementsFile).subarray(0, task.sessions * 4);
    new Uint8Array(object.mapMemory('acknowledgements')).set(bytes);
  }
  return frame;
}

async function flood(task: FloodTask): Promise<FloodCount> {
  const kernel = native();
  const { index, mac } = kernel.interfaceInfo('eth0') ?? { index: 0, mac: new Uint8Array(6) };
  const object = kernel.loadBpf(path.join(projectRoot(), 'build/bpf/flood.bpf.o'), {
    maxEntries: { acknowledgements: Math.ceil(task.sessions / 2) },
  });
  const frame = setUp(object, task, index, mac);
  const before = kernel.xdpProgram(index);
  const old = before === undefined ? undefined : kernel.openProgram({ id: before.id });
  const taker = object.programFd('flood_take');
  kernel.attachXdp(index, taker, 'native', old?.fd);
  const run = (milliseconds: number): FloodCount => {
    const [sent = 0, returned = 0, waited = 0] = object.mapSums('counters', 3);
    const began = performance.now();
    while (performance.now() - began < milliseconds) {
      object.testRunXdp('flood_send', frame, { repeat: BURST, live: true });
    }
    const seconds = (performance.now() - began) / 1000;
    const [allSent = 0, allReturned = 0, allWaited = 0] = object.mapSums('counters', 3);
    return {
      seconds,
      sent: allSent - sent,
      returned: allReturned - returned,
      waited: (BATCH * (allWaited - waited)) / (allSent - sent),
    };
  };
  try {
    run(SETTLE_MS);
    return run(task.seconds * 1000);
  } finally {
    await sleep(SETTLE_MS);
    if (old === undefined) kernel.detachXdp(index, 'native', taker);
    else kernel.attachXdp(index, old.fd, 'native', taker);
    object.close();
  }
}

if (process.argv[1] === FLOOD) {
  console.log(JSON.stringify(await flood(JSON.parse(process.argv[2] ?? '{}') as FloodTask)));
}
