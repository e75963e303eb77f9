/**
 * The other end of a node's link, for tests of the shim on a real interface: both client and
 * balancer.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { build, type PacketSpec } from '../../lab/packet.js';
import { PATIENCE_MS } from '../../lab/patience.js';
import { Port } from '../../src/datapath/datapath.js';
import { openPacketDatapath } from '../../src/datapath/packet.js';
import { native } from '../../src/host/native.js';
import { describe, differences, type ParsedPacket, parse } from '../support/packet-parse.js';
import { KEY, OWN, VIRTUAL } from './shim-fixture.js';

/** Sends frames, and keeps received frames until a test expects them. */
export class Wire {
  private readonly datapath;
  private readonly heard: ParsedPacket[] = [];

  constructor(interfaceName: string) {
    const info = native().interfaceInfo(interfaceName);
    if (info === undefined) throw new Error(`no interface ${interfaceName}`);
    this.datapath = openPacketDatapath(native(), {
      interfaceIndex: info.index,
      mtu: info.mtu,
      filterProgramFd: -1,
    });
  }

  send(spec: PacketSpec): void {
    const frame = build(spec, KEY);
    const offset = this.datapath.reserve(frame.length);
    this.datapath.memory.bytes.set(frame, offset);
    this.datapath.commit(offset, frame.length, Port.wire);
    this.datapath.flush();
  }

  /**
   * Waits for the next frame that fits the description. Earlier frames that do not fit stay for
   * later.
   */
  async expect(what: string, spec: PacketSpec): Promise<ParsedPacket> {
    const end = performance.now() + PATIENCE_MS;
    for (;;) {
      this.listen();
      // Segments leave the veth with unfinished checksums. Notices must have no error.
      const at = this.heard.findIndex(
        (packet) => differences(spec, packet, spec.tcp !== undefined).length === 0,
      );
      if (at >= 0) return this.heard.splice(at, 1)[0]!;
      if (performance.now() > end) {
        throw new Error(
          `not heard: ${what}; instead: ${this.heard.map(describe).join(', ') || 'nothing'}`,
        );
      }
      await sleep(1);
    }
  }

  /** Descriptions of the unexpected frames for this client port, after a wait of a few ms. */
  async rest(port: number): Promise<string[]> {
    await sleep(20);
    this.listen();
    const concerned = ({ tcp, ixcp }: ParsedPacket) =>
      (tcp?.destinationPort ?? ixcp?.clientPort) === port;
    return this.heard.splice(0).filter(concerned).map(describe);
  }

  close(): void {
    this.datapath.close();
  }

  private listen(): void {
    const receive = (offset: number, length: number): void => {
      const packet = parse(this.datapath.memory.bytes.slice(offset, offset + length), KEY);
      if (packet.ip?.source === VIRTUAL || packet.ip?.source === OWN) this.heard.push(packet);
    };
    this.datapath.poll({ receive, tick: () => {} }, () => performance.now());
  }
}
