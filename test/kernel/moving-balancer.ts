/**
 * A balancer that moves kept-alive connections between nodes, as small as a test needs it: it
 * speaks IXP (docs/ixp.md) and nothing else of Baton. It runs in the balancer's namespace of a
 * farm:
 *
 *     node moving-balancer.js KEY_FILE NODES        NODES: ADDRESS/MAC,ADDRESS/MAC
 *
 * The target of a request names its node: /n1/... Requests of one client arrive in one segment
 * each, with a body of any length. What happens is printed, one event a line.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { addressNumber, build, type PacketSpec, type TcpOptionsSpec } from '../../lab/packet.js';
import { Port } from '../../src/datapath/datapath.js';
import { openPacketDatapath } from '../../src/datapath/packet.js';
import { native } from '../../src/host/native.js';
import { emitIxcp, IXCP, IxcpType } from '../../src/wire/ixcp.js';
import { IxpFlag, IxpType } from '../../src/wire/ixp.js';
import { seqDiff } from '../../src/wire/seq.js';
import { SipHash } from '../../src/wire/siphash.js';
import { type ParsedPacket, parse } from '../support/packet-parse.js';

const VIRTUAL = '10.99.0.100';
const OWN = '10.99.0.2';
const MSS = 1400;
const SHIFT = 7;
const AGAIN_MS = 200;

const [keyFile = '', nodeList = ''] = process.argv.slice(2);
const key = Uint8Array.from(Buffer.from(readFileSync(keyFile, 'utf8').trim(), 'hex'));
const hash = new SipHash(key);
const nodes = nodeList.split(',').map((node) => {
  const [address = '', mac = ''] = node.split('/');
  return { address, mac };
});
const info = native().interfaceInfo('eth0');
if (info === undefined) throw new Error('no interface eth0');
const ownMac = Buffer.from(info.mac)
  .toString('hex')
  .replace(/..(?!$)/g, '$&:');
const datapath = openPacketDatapath(native(), {
  interfaceIndex: info.index,
  mtu: info.mtu,
  filterProgramFd: -1,
});
const socket = native().openRawSocket(254);

/** A segment of the client that a request begins with. */
interface Request {
  seq: number;
  ack: number;
  payload: Uint8Array;
  options: TcpOptionsSpec;
  window: number;
  node: number;
  head: boolean;
}

interface Connection {
  port: number;
  client: string;
  clientMac: string;
  nonce: number;
  mss: number;
  shift: number;
  offered: TcpOptionsSpec;
  /** The number of the client's first byte, and where the request ends that it sends now. */
  first: number;
  bodyEnd: number;
  node: number;
  /** How many requests the node has got. */
  requests: number;
  state: 'open' | 'passing' | 'leaving' | 'adopting';
  held: Request | undefined;
  since: number;
}

const connections = new Map<number, Connection>();
let nonce = 1;

const clock = (): number => Math.floor(performance.now()) >>> 0;

function say(event: string, connection: Connection, more: object = {}): void {
  console.log(JSON.stringify({ event, node: connection.node, port: connection.port, ...more }));
}

function send(spec: PacketSpec): void {
  const frame = build({ ...spec, ethernet: { source: ownMac, ...spec.ethernet } }, key);
  transmit(frame);
}

function transmit(frame: Uint8Array): void {
  const offset = datapath.reserve(frame.length);
  datapath.memory.bytes.set(frame, offset);
  datapath.commit(offset, frame.length, Port.wire);
}

/** Sends a client's segment to its node, as it is. */
function forward(connection: Connection, packet: ParsedPacket): void {
  const frame = packet.frame.slice();
  const { mac } = nodes[connection.node]!;
  frame.set(Buffer.from(mac.replaceAll(':', ''), 'hex'), 0);
  frame.set(Buffer.from(ownMac.replaceAll(':', ''), 'hex'), 6);
  transmit(frame);
}

function wrapped(
  connection: Connection,
  ixp: NonNullable<PacketSpec['ixp']>,
  tcp: NonNullable<PacketSpec['tcp']>,
  payload: Uint8Array | string = '',
): void {
  const { offered, shift } = connection;
  send({
    ethernet: { destination: nodes[connection.node]!.mac },
    ip: { source: connection.client, destination: VIRTUAL },
    ixp: {
      session: connection.nonce,
      balancer: OWN,
      mss: connection.mss,
      scales: (shift << 4) | SHIFT,
      ...ixp,
      flags:
        (ixp.flags ?? 0) |
        (offered.windowScale === undefined ? 0 : IxpFlag.windowScaleOk) |
        (offered.sackPermitted ? IxpFlag.sackOk : 0) |
        (offered.timestamps === undefined ? 0 : IxpFlag.timestampsOk),
    },
    tcp: { sourcePort: connection.port, destinationPort: 80, ...tcp },
    payload,
  });
}

function adopt(connection: Connection, request: Request): void {
  const { seq, ack, payload, options, window } = request;
  const [tsval = 0, tsecr = 0] = options.timestamps ?? [];
  const later = seqDiff(tsecr, clock()) > 0 ? tsecr : clock();
  wrapped(
    connection,
    {
      type: IxpType.adopt,
      confirm: (seq + payload.length) >>> 0,
      flags: IxpFlag.follow | (request.head ? IxpFlag.head : 0),
      tsval,
      tsecr: (later + 1) >>> 0,
    },
    { seq, ack, flags: 'PA', window, options },
    payload,
  );
}

function leave(connection: Connection, { seq, ack }: Request): void {
  wrapped(
    connection,
    { type: IxpType.leave, confirm: seq, request: connection.requests },
    { seq, ack, flags: 'A' },
  );
}

/** Gives a request to the node that has the connection. */
function pass(connection: Connection, request: Request): void {
  connection.requests++;
  connection.state = 'passing';
  connection.held = undefined;
  const { seq, ack, payload, options, window } = request;
  if (request.head) {
    wrapped(
      connection,
      {
        type: IxpType.segment,
        confirm: (seq + payload.length) >>> 0,
        flags: IxpFlag.head,
        request: connection.requests,
      },
      { seq, ack, flags: 'PA', window, options },
      payload,
    );
    return;
  }
  plain(connection, request);
}

/** Sends bytes of a client to its node, in plain form. */
function plain(
  connection: Connection,
  { seq, ack, payload, options, window }: Omit<Request, 'node' | 'head'>,
): void {
  send({
    ethernet: { destination: nodes[connection.node]!.mac },
    ip: { source: connection.client, destination: VIRTUAL },
    tcp: {
      sourcePort: connection.port,
      destinationPort: 80,
      seq,
      ack,
      flags: 'PA',
      window,
      options,
    },
    payload,
  });
}

function moveTo(connection: Connection, request: Request): void {
  connection.node = request.node;
  connection.requests = 1;
  connection.state = 'adopting';
  connection.since = performance.now();
  adopt(connection, request);
}

function accept(packet: ParsedPacket): void {
  const tcp = packet.tcp!;
  const offered = tcp.options;
  let connection = connections.get(tcp.sourcePort);
  if (connection?.first !== (tcp.seq + 1) >>> 0) {
    connection = {
      port: tcp.sourcePort,
      client: packet.ip!.source,
      clientMac: packet.ethernet.source,
      nonce: nonce++,
      mss: offered.mss ?? 536,
      shift: offered.windowScale ?? 0,
      offered,
      first: (tcp.seq + 1) >>> 0,
      bodyEnd: (tcp.seq + 1) >>> 0,
      node: -1,
      requests: 0,
      state: 'open',
      held: undefined,
      since: 0,
    };
    connections.set(tcp.sourcePort, connection);
  }
  send({
    ethernet: { destination: connection.clientMac },
    ip: { source: VIRTUAL, destination: connection.client },
    tcp: {
      sourcePort: 80,
      destinationPort: connection.port,
      seq: 0xffff_0000 + connection.nonce,
      ack: connection.first,
      flags: 'SA',
      options: {
        mss: MSS,
        ...(offered.sackPermitted ? { sackPermitted: true } : {}),
        ...(offered.windowScale === undefined ? {} : { windowScale: SHIFT }),
        ...(offered.timestamps === undefined
          ? {}
          : { timestamps: [clock(), offered.timestamps[0]] as const }),
      },
    },
  });
}

function fromClient(packet: ParsedPacket): void {
  const tcp = packet.tcp!;
  if (tcp.flags.includes('S')) {
    accept(packet);
    return;
  }
  const connection = connections.get(tcp.sourcePort);
  if (connection === undefined) return;
  // Of a body only its end counts, in whatever order its segments come.
  const end = (tcp.seq + packet.payload.length) >>> 0;
  if (packet.payload.length === 0 || seqDiff(end, connection.bodyEnd) <= 0) {
    if (connection.state === 'passing') forward(connection, packet);
    return;
  }
  // A segment may have the end of a body, and the next head behind it.
  const { ack, window, options } = tcp;
  const bodyBytes = seqDiff(connection.bodyEnd, tcp.seq);
  if (bodyBytes < 0) return;
  if (bodyBytes > 0 && connection.state === 'passing') {
    const payload = packet.payload.slice(0, bodyBytes);
    plain(connection, { seq: tcp.seq, ack, payload, options, window });
  }
  const seq = connection.bodyEnd;
  const payload = packet.payload.slice(bodyBytes);
  const text = Buffer.from(payload).toString('latin1');
  const headEnd = text.indexOf('\r\n\r\n') + 4;
  const node = Number(/^\S+ \S*\/n(\d)\//.exec(text)?.[1] ?? 0) - 1;
  if (headEnd < 4 || nodes[node] === undefined) {
    say('unreadable', connection, { text });
    return;
  }
  const body = Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1] ?? 0);
  connection.bodyEnd = (seq + headEnd + body) >>> 0;
  const head = text.startsWith('HEAD ');
  const request: Request = { seq, ack, payload, options, window, node, head };
  if (connection.state === 'passing' && connection.node === node) {
    pass(connection, request);
    return;
  }
  connection.held = request;
  if (connection.state === 'open') moveTo(connection, request);
  else {
    connection.state = 'leaving';
    connection.since = performance.now();
    leave(connection, request);
  }
}

function fromNode(view: DataView): void {
  const connection = connections.get(view.getUint16(IXCP.clientPort));
  if (connection?.nonce !== view.getUint32(IXCP.session)) return;
  const type = view.getUint8(IXCP.type);
  const reason = view.getUint8(IXCP.reason);
  if (type === IxcpType.adopted && connection.state === 'adopting') {
    connection.state = 'passing';
    connection.held = undefined;
    say('adopted', connection);
  } else if (type === IxcpType.left && connection.state === 'leaving' && connection.held) {
    say('left', connection);
    moveTo(connection, connection.held);
  } else if (type === IxcpType.refused) {
    say('refused', connection, { reason, state: connection.state });
    if (connection.state === 'leaving' && connection.held) pass(connection, connection.held);
  } else if (type === IxcpType.fin) say('fin', connection);
  else if (type === IxcpType.rst) say('rst', connection);
}

socket.start((source, payload) => {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  if (view.getUint8(IXCP.type) !== IxcpType.report) {
    fromNode(view);
    return;
  }
  const answer = new Uint8Array(40);
  const repr = { type: IxcpType.welcome, session: view.getUint32(IXCP.session) };
  emitIxcp(new DataView(answer.buffer), 0, addressNumber(OWN), Number(source), repr, hash);
  socket.send(source, answer);
});

function again(): void {
  for (const connection of connections.values()) {
    const { held, state, since } = connection;
    if (held === undefined || performance.now() - since < AGAIN_MS) continue;
    connection.since = performance.now();
    say('again', connection, { state });
    if (state === 'leaving') leave(connection, held);
    else if (state === 'adopting') adopt(connection, held);
  }
}

console.log(`ready for ${nodes.length} nodes`);
for (;;) {
  const received: ParsedPacket[] = [];
  const receive = (offset: number, length: number): void => {
    const packet = parse(datapath.memory.bytes.slice(offset, offset + length));
    if (packet.ip?.destination === VIRTUAL && packet.tcp !== undefined && packet.ixp === undefined)
      received.push(packet);
  };
  datapath.poll({ receive, tick: () => {} }, () => performance.now());
  for (const packet of received) fromClient(packet);
  again();
  datapath.flush();
  await sleep(1);
}
