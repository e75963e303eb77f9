/** Replays of recorded captures, for the tests of this directory. */

import { httpServer } from '../../../lab/virtual-server.js';
import type { ChecksumPolicy } from '../../../src/datapath/capture/checksums.js';
import { type ReplayConfig, type ReplayResult, ReplayRun } from '../../../src/replay/replay-run.js';
import { formatAddress, requireAddress, toAddress } from '../../../src/wire/address.js';
import { openCapture } from '../../../src/wire/capture-file.js';
import { IXP_HEADER_BYTES } from '../../../src/wire/ixp.js';
import { GrowingBytes, PcapWriter } from '../../../src/wire/pcap-writer.js';
import { capture } from '../../support/captures.js';

/** Offsets in a sent frame: its IPv4 header, and its TCP header without and with IXP. */
export const IP = 14;
export const TCP = 34;
export const WRAPPED_TCP = TCP + IXP_HEADER_BYTES;

/** The defaults of a config without `limits` and `timeouts`. */
export const DEFAULTS = {
  limits: {
    sessions: 1_000_000,
    halfOpen: 65_536,
    headBytes: 16_384,
    heads: 65_536,
    handoffTries: 2,
    synAckTries: 5,
  },
  timeouts: {
    synAck: 1_000,
    head: 10_000,
    handoff: 300,
    answer: 1_000,
    idle: 900_000,
    closing: 60_000,
    linger: 5_000,
  },
} as const;

/** Two nodes that hold everything and take turns. */
export function config(servers: readonly string[], more: Partial<ReplayConfig> = {}): ReplayConfig {
  return {
    address: requireAddress('10.99.0.2'),
    virtualServers: servers.map((server) => {
      const [address = '', port = ''] = server.split(':');
      return httpServer(server, requireAddress(address), Number(port));
    }),
    nodes: [
      { name: 'n1', address: requireAddress('10.99.0.3'), weight: 1 },
      { name: 'n2', address: requireAddress('10.99.0.4'), weight: 1 },
    ],
    resources: [{ host: undefined, path: '/', nodes: [0, 1] }],
    ...DEFAULTS,
    ...more,
  };
}

/** An Ethernet frame that the engine sent. */
export interface Sent {
  /** ms since 1970, of the output file. */
  at: number;
  bytes: Uint8Array;
  view: DataView;
  protocol: number;
  source: string;
  destination: string;
}

interface Replayed {
  result: ReplayResult;
  sent: Sent[];
}

export function replay(
  name: string,
  settings: ReplayConfig,
  checksums: ChecksumPolicy = 'detect',
): Replayed {
  const output = new GrowingBytes();
  const result = ReplayRun.open(capture(name), settings, checksums)!.run(
    new PcapWriter(output.append),
  );
  const sent: Sent[] = [];
  const reader = openCapture(output.contents())!;
  while (reader.next()) {
    const bytes = reader.bytes.slice(reader.offset, reader.offset + reader.capturedLength);
    const view = new DataView(bytes.buffer);
    sent.push({
      at: reader.timestamp,
      bytes,
      view,
      protocol: view.getUint8(IP + 9),
      source: formatAddress(toAddress(view.getUint32(IP + 12))),
      destination: formatAddress(toAddress(view.getUint32(IP + 16))),
    });
  }
  return { result, sent };
}

/** The counters that are not 0, without those that only measure the traffic. */
export function counted(result: ReplayResult): Record<string, number> {
  const volume = ['frames', 'sent', 'forwarded_bytes'];
  return Object.fromEntries(
    Object.entries(result.counters).filter(
      ([name, value]) => value !== 0 && !volume.includes(name),
    ),
  );
}
