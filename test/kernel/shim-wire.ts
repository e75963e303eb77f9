/**
 * The far end of a node's wire, for tests of the shim on a real interface: client and balancer in
 * one.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { build, type PacketSpec } from '../../lab/packet.js';
import { PATIENCE_MS } from '../../lab/patience.js';
import { Port } from '../../src/datapath/datapath.js';
import { openPacketDatapath } from '../../src/datapath/packet.js';
import { native } from '../../src/host/native.js';
import { describe, differences, type ParsedPacket, parse } from '../support/packet-parse.js';
import { KEY, OWN, VIRTUAL } from './shim-fixture.js';

/** Sends frames, and keeps what comes until somebody expects it. */
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
   * The next frame that fits the description; those before it that do not fit are left for later.
   */
  async expect(what: string, spec: PacketSpec): Promise<ParsedPacket> {
    const end = performance.now() + PATIENCE_MS;
    for (;;) {
      this.listen();
      // Segments leave the veth with unfinished checksums; notices must be faultless.
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

  /** What came for this client port within a few ms and nobody expected, in words. */
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
