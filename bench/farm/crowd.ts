/**
 * A crowd of clients that each open a connection, send a request and stay, and the node that adopts
 * all of them. The program writes and reads frames and has no sockets, because a million sockets
 * would need memory of their own. The balancer sees the same frames as in service. Runs on the
 * generator of a pair until SIGTERM.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { FrameSink } from '../../src/datapath/datapath.js';
import { Port } from '../../src/datapath/datapath.js';
import { openPacketDatapath, type PacketDatapath } from '../../src/datapath/packet.js';
import { native } from '../../src/host/native.js';
import { Reporter } from '../../src/node/reporter.js';
import { ipv4Number, requireAddress } from '../../src/wire/address.js';
import { EtherType, parseMac } from '../../src/wire/ethernet.js';
import { IPV4, IPV4_HEADER_BYTES, Protocol, writeIpv4 } from '../../src/wire/ipv4.js';
import { emitIxcp, IXCP_HEADER_BYTES, IxcpFlag, IxcpType } from '../../src/wire/ixcp.js';
import { IXP, IXP_HEADER_BYTES, IxpType } from '../../src/wire/ixp.js';
import { seqAdd } from '../../src/wire/seq.js';
import { SipHash } from '../../src/wire/siphash.js';
import { finishTcpChecksum, TCP, TCP_HEADER_BYTES, TcpFlag, writeTcp } from '../../src/wire/tcp.js';
import {
  CLIENT_ISN,
  type CrowdTask,
  FIRST_CLIENT,
  FIRST_PORT,
  PORTS,
  REQUEST,
} from './crowd-task.js';

const IP = 14;
const TRANSPORT = IP + IPV4_HEADER_BYTES;
const SYN_BYTES = TCP_HEADER_BYTES + 4;
/** MSS 1460. */
const MSS_OPTION = 0x020405b4;
const WINDOW = 64_240;
/** Sessions that are being opened at one time. */
const MOST_OPENING = 1024;
/** After this time without progress, SYNs and requests are sent again. */
const REPEAT_MS = 1_500;

const Stage = { none: 0, syn: 1, request: 2, adopted: 3 } as const;

class Crowd implements FrameSink {
  opened = 0;
  /** The next byte of the server, by session. */
  readonly acknowledgements: Uint32Array;
  private readonly stages: Uint8Array;
  private begun = 0;
  private progressAt = 0;
  private readonly own: number;
  private readonly balancer: number;
  private readonly server: number;
  private readonly addresses: Uint8Array;
  private readonly request = new TextEncoder().encode(REQUEST);

  constructor(
    private readonly task: CrowdTask,
    private readonly datapath: PacketDatapath,
    private readonly hash: SipHash,
    mac: Uint8Array,
  ) {
    this.stages = new Uint8Array(task.sessions);
    this.acknowledgements = new Uint32Array(task.sessions);
    this.own = ipv4Number(requireAddress(task.own));
    this.balancer = ipv4Number(requireAddress(task.balancer));
    this.server = ipv4Number(requireAddress(task.virtualAddress));
    this.addresses = Uint8Array.of(...(parseMac(task.balancerMac) ?? []), ...mac);
  }

  receive(offset: number, length: number, _flags: number, now: number): void {
    const { view } = this.datapath.memory;
    if (length < TRANSPORT + TCP_HEADER_BYTES || view.getUint16(offset + 12) !== EtherType.ipv4)
      return;
    const protocol = view.getUint8(offset + IP + IPV4.protocol);
    if (protocol === Protocol.tcp) this.receiveSynAck(offset, now);
    else if (protocol === Protocol.ixp) this.receiveAdopt(offset, now);
  }

  tick(now: number): void {
    const { stages, task } = this;
    while (this.begun < task.sessions && this.begun - this.opened < MOST_OPENING) {
      if (!this.send(this.begun, TcpFlag.syn, 0)) break;
      stages[this.begun++] = Stage.syn;
      this.progressAt = now;
    }
    if (now - this.progressAt < REPEAT_MS) return;
    this.progressAt = now;
    for (let session = 0; session < this.begun; session++) {
      if (stages[session] === Stage.syn) this.send(session, TcpFlag.syn, 0);
      else if (stages[session] === Stage.request) this.ask(session);
    }
  }

  /** Handles a SYN/ACK of the balancer; it sends no other segments to these clients. */
  private receiveSynAck(offset: number, now: number): void {
    const { view } = this.datapath.memory;
    const tcp = offset + TRANSPORT;
    const flags = view.getUint8(tcp + TCP.flags);
    const session = this.sessionOf(
      view.getUint32(offset + IP + IPV4.destination),
      view.getUint16(tcp + 2),
    );
    if (session < 0 || (flags & (TcpFlag.syn | TcpFlag.ack)) !== (TcpFlag.syn | TcpFlag.ack))
      return;
    if (this.stages[session] !== Stage.syn) return;
    this.acknowledgements[session] = seqAdd(view.getUint32(tcp + TCP.sequence), 1);
    if (!this.ask(session)) return;
    this.stages[session] = Stage.request;
    this.progressAt = now;
  }

  /** Handles an ADOPT: the node confirms the session. */
  private receiveAdopt(offset: number, now: number): void {
    const { memory } = this.datapath;
    const view = memory.view;
    const ixp = offset + TRANSPORT;
    const tcp = ixp + IXP_HEADER_BYTES;
    const client = view.getUint32(offset + IP + IPV4.source);
    const clientPort = view.getUint16(tcp);
    const session = this.sessionOf(client, clientPort);
    if (session < 0 || view.getUint8(ixp + IXP.type) !== IxpType.adopt) return;
    const repr = {
      type: IxcpType.adopted,
      session: view.getUint32(ixp + IXP.session),
      client,
      virtualAddress: this.server,
      clientPort,
      virtualPort: this.task.port,
      sequence: view.getUint32(tcp + TCP.acknowledgement),
      acknowledgement: view.getUint32(ixp + IXP.confirm),
    };
    const length = TRANSPORT + IXCP_HEADER_BYTES;
    const at = this.datapath.reserve(length);
    if (at < 0) return; // the balancer sends the ADOPT again
    memory.bytes.set(this.addresses, at);
    view.setUint16(at + 12, EtherType.ipv4);
    writeIpv4(view, at + IP, length - IP, Protocol.ixcp, this.own, this.balancer);
    emitIxcp(view, at + TRANSPORT, this.own, this.balancer, repr, this.hash);
    this.datapath.commit(at, length, Port.wire);
    if (this.stages[session] === Stage.adopted) return;
    this.stages[session] = Stage.adopted;
    this.opened += 1;
    this.progressAt = now;
  }

  private ask(session: number): boolean {
    return this.send(session, TcpFlag.ack | TcpFlag.psh, this.request.length);
  }

  private sessionOf(client: number, port: number): number {
    const session = (client - FIRST_CLIENT) * PORTS + port - FIRST_PORT;
    return session >= 0 && session < this.begun && port >= FIRST_PORT ? session : -1;
  }

  /** Sends a SYN or a request of a client. Returns false if there is no room to send it. */
  private send(session: number, flags: number, payload: number): boolean {
    const { memory } = this.datapath;
    const view = memory.view;
    const syn = flags === TcpFlag.syn;
    const header = syn ? SYN_BYTES : TCP_HEADER_BYTES;
    const length = TRANSPORT + header + payload;
    const at = this.datapath.reserve(length);
    if (at < 0) return false;
    const client = FIRST_CLIENT + Math.floor(session / PORTS);
    const port = FIRST_PORT + (session % PORTS);
    const tcp = at + TRANSPORT;
    memory.bytes.set(this.addresses, at);
    view.setUint16(at + 12, EtherType.ipv4);
    writeIpv4(view, at + IP, length - IP, Protocol.tcp, client, this.server);
    const sequence = syn ? CLIENT_ISN : seqAdd(CLIENT_ISN, 1);
    const acknowledgement = syn ? 0 : (this.acknowledgements[session] ?? 0);
    writeTcp(view, tcp, port, this.task.port, sequence, acknowledgement, header, flags, WINDOW);
    if (syn) view.setUint32(tcp + TCP.options, MSS_OPTION);
    else memory.bytes.set(this.request, tcp + header);
    finishTcpChecksum(view, tcp, header + payload, client, this.server);
    this.datapath.commit(at, length, Port.wire);
    return true;
  }
}

async function main(task: CrowdTask): Promise<void> {
  const key = Buffer.from(readFileSync(task.keyFile, 'utf8').trim(), 'hex');
  const log = { info: () => {}, warn: (message: string) => console.log(message) };
  const reporter = new Reporter({
    own: { ipv4: ipv4Number(requireAddress(task.own)), ipv6: undefined },
    key,
    balancers: [requireAddress(task.balancer)],
    look: () => ({ flags: IxcpFlag.canAdopt, addresses: [requireAddress(task.virtualAddress)] }),
    log,
  });
  reporter.start();
  await reporter.firstAnswer;
  const { index, mac, mtu } = native().interfaceInfo('eth0') ?? {
    index: 0,
    mac: new Uint8Array(6),
    mtu: 0,
  };
  const datapath = openPacketDatapath(native(), {
    interfaceIndex: index,
    mtu,
    filterProgramFd: -1,
  });
  const crowd = new Crowd(task, datapath, new SipHash(key), mac);
  const began = performance.now();
  while (crowd.opened < task.sessions) {
    datapath.poll(crowd, () => performance.now());
    await new Promise((resolve) => setImmediate(resolve));
  }
  const seconds = (performance.now() - began) / 1000;
  datapath.close();
  writeFileSync(task.acknowledgementsFile, new Uint8Array(crowd.acknowledgements.buffer));
  // The reporter continues, so the node stays up.
  console.log(`opened in ${seconds.toFixed(3)} s`);
}

process.on('SIGTERM', () => process.exit(0));
await main(JSON.parse(process.argv[2] ?? '{}') as CrowdTask);
