/**
 * A node in the network namespace of a test: the shim on e0, and a web server on the virtual
 * address. On w0, the peer of e0, the test acts as client and balancer.
 */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import type { Test } from 'tap';
import type { PacketSpec } from '../../lab/packet.js';
import { native } from '../../src/host/native.js';
import type { ParsedPacket } from '../support/packet-parse.js';
import { run } from './namespace.js';
import {
  ACK,
  BALANCER_MAC,
  CLIENT,
  CLIENT_PORT,
  handoff,
  notice,
  OWN,
  OWN_MAC,
  REQUEST,
  SEQ,
  SESSION,
  Shim,
  type ShimBuild,
  VIRTUAL,
} from './shim-fixture.js';
import { Wire } from './shim-wire.js';

export const Ixcp = { adopted: 1, refused: 2, fin: 3, rst: 4, released: 8, synAck: 12 } as const;
export const REQUEST_END = (SEQ + REQUEST.length) >>> 0;

/** A session: the segments of client and node, the notices, and its socket. */
export interface Session {
  adopt(change?: PacketSpec): void;
  expectNotice(
    type: number,
    more?: NonNullable<PacketSpec['ixcp']>,
    session?: number,
  ): Promise<ParsedPacket>;
  sent(what: string, tcp: PacketSpec['tcp'], payload?: string): Promise<ParsedPacket>;
  rest(): Promise<string[]>;
  socket(): Promise<{ socket: Socket; request: string }>;
}

function attached(build: ShimBuild, interfaceIndex: number): Shim {
  const shim = new Shim(build);
  shim.object.attachTc('shim_egress', interfaceIndex, 'egress', 2, 1);
  shim.object.attachTc('shim_ingress', interfaceIndex, 'ingress', 2, 1);
  return shim;
}

export class ShimNode {
  shim: Shim;
  readonly wire: Wire;
  readonly server: Server;
  /** Index of the interface. */
  readonly e0: number;
  nextPort = CLIENT_PORT;

  private constructor(shim: Shim, wire: Wire, server: Server, e0: number) {
    this.shim = shim;
    this.wire = wire;
    this.server = server;
    this.e0 = e0;
  }

  static async start(t: Test): Promise<ShimNode> {
    run('ip', 'link', 'add', 'e0', 'address', OWN_MAC, 'type', 'veth', 'peer', 'name', 'w0');
    // Client and balancer have one MAC address here: the ring leaves out frames for other machines.
    run('ip', 'link', 'set', 'w0', 'address', BALANCER_MAC, 'arp', 'off', 'up');
    run('ip', 'link', 'set', 'e0', 'up');
    run('ip', 'address', 'add', `${OWN}/24`, 'dev', 'e0');
    run('ip', 'address', 'add', `${VIRTUAL}/32`, 'dev', 'lo');
    run('ip', 'neighbour', 'add', CLIENT, 'lladdr', BALANCER_MAC, 'dev', 'e0', 'nud', 'permanent');
    // Large segments from the start, whatever pace the kernel assumes for an unknown path.
    run('sysctl', '-qw', 'net.ipv4.tcp_syncookies=1', 'net.ipv4.tcp_min_tso_segs=32');

    const e0 = native().interfaceInfo('e0')?.index ?? 0;
    const shim = attached('shim', e0);
    const wire = new Wire('w0');

    const sockets: Socket[] = [];
    const server: Server = createServer({ allowHalfOpen: true }, (socket) => sockets.push(socket));
    server.listen(80, VIRTUAL);
    await once(server, 'listening');
    const node = new ShimNode(shim, wire, server, e0);
    t.teardown(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
      wire.close();
      node.shim.object.close();
    });
    return node;
  }

  /** Puts a build of the shim in the place of the one that is attached. It knows no session. */
  load(build: ShimBuild): void {
    const earlier = this.shim;
    this.shim = attached(build, this.e0);
    earlier.object.close();
  }

  newSession(nonce = SESSION, port = this.nextPort++): Session {
    const { wire, server } = this;
    return {
      adopt: (change = {}) =>
        wire.send(
          handoff({
            ...change,
            ixp: { session: nonce, ...change.ixp },
            tcp: { sourcePort: port, ...change.tcp },
          }),
        ),
      expectNotice: (type, more = {}, session = nonce) =>
        wire.expect(
          `notice ${type}`,
          notice({ ixcp: { clientPort: port, session, type, ...more } }),
        ),
      sent: (what, tcp, payload) =>
        wire.expect(what, {
          ip: { source: VIRTUAL, destination: CLIENT },
          tcp: { sourcePort: 80, destinationPort: port, ...tcp },
          ...(payload === undefined ? {} : { payload }),
        }),
      rest: () => wire.rest(port),
      socket: async () => {
        const [socket] = (await once(server, 'connection')) as [Socket];
        const [data] = (await once(socket, 'data')) as [Buffer];
        return { socket, request: data.toString() };
      },
    };
  }

  /** A segment of the client with this port, without IXP. */
  plain(port: number, tcp: NonNullable<PacketSpec['tcp']>): PacketSpec {
    const { ixp: _, ...rest } = handoff({ tcp: { sourcePort: port, ...tcp } });
    return { ...rest, ethernet: { source: BALANCER_MAC, destination: OWN_MAC }, payload: '' };
  }

  /** Closes both sides of a session, the node's first: its socket enters TIME_WAIT. */
  async endByFin(
    session: Session,
    socket: Socket,
    port: number,
    seq: number,
    ack: number,
  ): Promise<void> {
    socket.end();
    await session.expectNotice(Ixcp.fin);
    this.wire.send(this.plain(port, { seq, ack: ack + 1, flags: 'FA' }));
    await once(socket, 'close');
    const listed = run('ss', '-Htan', 'state', 'time-wait', `dport = ${port}`);
    if (!listed.includes(String(port))) throw new Error(`no socket of port ${port} in TIME_WAIT`);
  }

  /** Leaves a socket of this client port in TIME_WAIT. */
  async inTimeWait(nonce: number, port: number): Promise<void> {
    const session = this.newSession(nonce, port);
    const accepted = session.socket();
    session.adopt();
    const { socket } = await accepted;
    await session.expectNotice(Ixcp.adopted);
    await this.endByFin(session, socket, port, REQUEST_END, ACK);
    await session.rest();
  }
}
