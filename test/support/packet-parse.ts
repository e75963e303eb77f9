/**
 * Reads frames for tests: every field of every header, and a list of faults. It is the counterpart
 * of lab/packet.ts, and like that independent of src/wire.
 */
import {
  addressText,
  ETHERNET,
  ETHERTYPE_IPV4,
  flagLetters,
  ICMP,
  IPV4,
  IXCP,
  IXP,
  ixcpTag,
  ixpTag,
  latin1,
  type PacketSpec,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  pseudoHeader,
  sum16,
  TCP,
  type TcpOptionsSpec,
} from '../../lab/packet.js';

type Filled<T> = { [K in keyof T]-?: Exclude<T[K], undefined> };

export interface ParsedPacket {
  frame: Uint8Array;
  ethernet: Filled<NonNullable<PacketSpec['ethernet']>>;
  ip?: Filled<NonNullable<PacketSpec['ip']>>;
  ixp?: Filled<NonNullable<PacketSpec['ixp']>>;
  ixcp?: Filled<NonNullable<PacketSpec['ixcp']>>;
  tcp?: Omit<Filled<NonNullable<PacketSpec['tcp']>>, 'options'> & { options: TcpOptionsSpec };
  icmp?: Filled<NonNullable<PacketSpec['icmp']>>;
  payload: Uint8Array;
  trailer: Uint8Array;
  /**
   * Faults: wrong checksums, lengths, tags and reserved bits, one sentence each.
   */
  problems: string[];
}

/** By byte. */
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

function macText(frame: Uint8Array, at: number): string {
  let text = HEX[frame[at]!]!;
  for (let i = at + 1; i < at + 6; i++) text += `:${HEX[frame[i]!]!}`;
  return text;
}

function parseOptions(bytes: Uint8Array, problems: string[]): TcpOptionsSpec {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const options: TcpOptionsSpec = {};
  let at = 0;
  while (at < bytes.length) {
    const kind = bytes[at]!;
    if (kind === 0) {
      for (let i = at; i < bytes.length; i++)
        if (bytes[i] !== 0) problems.push('TCP options go on after their end');
      break;
    }
    if (kind === 1) {
      at++;
      continue;
    }
    const length = at + 1 < bytes.length ? bytes[at + 1]! : 0;
    if (length < 2 || at + length > bytes.length) {
      problems.push(`TCP option ${kind} has a bad length`);
      break;
    }
    if (kind === 2 && length === 4) options.mss = view.getUint16(at + 2);
    else if (kind === 3 && length === 3) options.windowScale = bytes[at + 2]!;
    else if (kind === 4 && length === 2) options.sackPermitted = true;
    else if (kind === 8 && length === 10)
      options.timestamps = [view.getUint32(at + 2), view.getUint32(at + 6)];
    else if (kind === 5 && (length - 2) % 8 === 0) {
      const blocks: [number, number][] = [];
      for (let i = at + 2; i < at + length; i += 8)
        blocks.push([view.getUint32(i), view.getUint32(i + 4)]);
      options.sack = blocks;
    } else problems.push(`TCP option ${kind} with length ${length}`);
    at += length;
  }
  return options;
}

/** Reads `frame`. With `key`, tags are checked too. */
export function parse(frame: Uint8Array, key?: Uint8Array): ParsedPacket {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const problems: string[] = [];
  const none = new Uint8Array(0);
  const packet: ParsedPacket = {
    frame,
    ethernet: {
      destination: frame.length >= ETHERNET ? macText(frame, 0) : '',
      source: frame.length >= ETHERNET ? macText(frame, 6) : '',
      type: frame.length >= ETHERNET ? view.getUint16(12) : 0,
    },
    payload: none,
    trailer: none,
    problems,
  };
  if (frame.length < ETHERNET + IPV4) problems.push('shorter than Ethernet and IPv4');
  else if (packet.ethernet.type !== ETHERTYPE_IPV4) problems.push('not IPv4');
  if (problems.length > 0) return packet;

  const ip = ETHERNET;
  const words = frame[ip]! & 15;
  const totalLength = view.getUint16(ip + 2);
  const end = ip + totalLength;
  const afterIp = ip + words * 4;
  const fragment = view.getUint16(ip + 6);
  packet.ip = {
    version: frame[ip]! >> 4,
    words,
    tos: frame[ip + 1]!,
    totalLength,
    id: view.getUint16(ip + 4),
    dontFragment: (fragment & 0x4000) !== 0,
    moreFragments: (fragment & 0x2000) !== 0,
    fragmentOffset: fragment & 0x1fff,
    ttl: frame[ip + 8]!,
    protocol: frame[ip + 9]!,
    checksum: view.getUint16(ip + 10),
    source: addressText(view.getUint32(ip + 12)),
    destination: addressText(view.getUint32(ip + 16)),
    options: frame.subarray(ip + IPV4, Math.max(afterIp, ip + IPV4)),
  };
  if (packet.ip.version !== 4 || words < 5 || end > frame.length || afterIp > end) {
    problems.push('IPv4 lengths do not fit the frame');
    return packet;
  }
  if (fragment & 0x8000) problems.push('reserved IPv4 flag is set');
  if (sum16(frame, ip, afterIp) !== 0xffff) problems.push('wrong IPv4 checksum');
  packet.trailer = frame.subarray(end);
  packet.payload = frame.subarray(afterIp, end);
  if (packet.ip.fragmentOffset !== 0) return packet;

  let at = afterIp;
  if (packet.ip.protocol === IXP.protocol) {
    if (at + IXP.length + TCP > end) {
      problems.push('no room for IXP and TCP');
      return packet;
    }
    packet.ixp = {
      version: frame[at]!,
      type: frame[at + 1]!,
      length: frame[at + 2]!,
      service: frame[at + 3]!,
      session: view.getUint32(at + 4),
      balancer: addressText(view.getUint32(at + 8)),
      confirm: view.getUint32(at + 12),
      mss: view.getUint16(at + 16),
      flags: frame[at + 18]!,
      scales: frame[at + 19]!,
      tsval: view.getUint32(at + 20),
      request: view.getUint32(at + 20),
      tsecr: view.getUint32(at + 24),
      tag: view.getBigUint64(at + IXP.tagged),
    };
    if (key !== undefined && packet.ixp.tag !== ixpTag(key, frame, ip, at))
      problems.push('wrong IXP tag');
    at += IXP.length;
  } else if (packet.ip.protocol === IXCP.protocol) {
    if (at + IXCP.length > end) {
      problems.push('no room for IXCP');
      return packet;
    }
    packet.ixcp = {
      version: frame[at]!,
      type: frame[at + 1]!,
      length: frame[at + 2]!,
      reason: frame[at + 3]!,
      session: view.getUint32(at + 4),
      client: addressText(view.getUint32(at + 8)),
      virtualAddress: addressText(view.getUint32(at + 12)),
      hole: view.getUint16(at + 16),
      flags: view.getUint16(at + 18),
      clientPort: view.getUint16(at + 20),
      virtualPort: view.getUint16(at + 22),
      seq: view.getUint32(at + 24),
      ack: view.getUint32(at + 28),
      tag: view.getBigUint64(at + IXCP.tagged),
    };
    if (key !== undefined && packet.ixcp.tag !== ixcpTag(key, frame, ip, at))
      problems.push('wrong IXCP tag');
    packet.payload = frame.subarray(at + IXCP.length, end);
    return packet;
  } else if (packet.ip.protocol === PROTOCOL_ICMP) {
    if (at + ICMP > end) {
      problems.push('no room for ICMP');
      return packet;
    }
    packet.icmp = {
      type: frame[at]!,
      code: frame[at + 1]!,
      checksum: view.getUint16(at + 2),
      rest: view.getUint32(at + 4),
      quoted: frame.subarray(at + ICMP, end),
    };
    if (sum16(frame, at, end) !== 0xffff) problems.push('wrong ICMP checksum');
    packet.payload = none;
    return packet;
  } else if (packet.ip.protocol !== PROTOCOL_TCP) return packet;

  const tcpWords = at + TCP <= end ? frame[at + 12]! >> 4 : 0;
  if (tcpWords < 5 || at + tcpWords * 4 > end) {
    problems.push('TCP lengths do not fit the frame');
    return packet;
  }
  packet.tcp = {
    sourcePort: view.getUint16(at),
    destinationPort: view.getUint16(at + 2),
    seq: view.getUint32(at + 4),
    ack: view.getUint32(at + 8),
    words: tcpWords,
    flags: flagLetters(frame[at + 13]!),
    window: view.getUint16(at + 14),
    checksum: view.getUint16(at + 16),
    urgent: view.getUint16(at + 18),
    options: parseOptions(frame.subarray(at + TCP, at + tcpWords * 4), problems),
  };
  if ((frame[at + 12]! & 15) !== 0) problems.push('reserved TCP bits are set');
  if (sum16(frame, at, end, pseudoHeader(frame, ip, PROTOCOL_TCP, end - at)) !== 0xffff) {
    problems.push('wrong TCP checksum');
  }
  packet.payload = frame.subarray(at + tcpWords * 4, end);
  return packet;
}

function show(value: unknown): string {
  if (value instanceof Uint8Array) {
    const text = Buffer.from(value).toString('latin1');
    return `${value.length} bytes ${JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text)}`;
  }
  if (typeof value === 'bigint') return `0x${value.toString(16)}`;
  if (typeof value === 'object' && value !== null) return JSON.stringify(value);
  return String(value);
}

function equal(expected: unknown, actual: unknown): boolean {
  if (expected instanceof Uint8Array) {
    return actual instanceof Uint8Array && Buffer.compare(expected, actual) === 0;
  }
  if (Array.isArray(expected)) return JSON.stringify(expected) === JSON.stringify(actual);
  return expected === actual;
}

function sortedFlags(letters: string): string {
  return Array.from(letters).sort().join('');
}

/**
 * How `actual` differs from `expected`, a line for each field; empty when it does not. A field that
 * the description omits may have any value. A header that it omits must be absent. The frame must
 * have no faults, unless `tolerant`.
 */
export function differences(
  expected: PacketSpec,
  actual: ParsedPacket,
  tolerant = false,
): string[] {
  const lines = tolerant ? [] : actual.problems.map((problem) => `the frame is faulty: ${problem}`);
  const compare = (name: string, want: object | undefined, have: object | undefined): void => {
    if (want === undefined) return;
    if (have === undefined) {
      lines.push(`there is no ${name}`);
      return;
    }
    const fields = have as Record<string, unknown>;
    for (const [field, value] of Object.entries(want)) {
      if (value === undefined) continue;
      if (name === 'tcp' && field === 'options') {
        compare('tcp options', value as object, fields.options as object);
      } else if (name === 'tcp' && field === 'flags') {
        if (sortedFlags(value as string) !== sortedFlags(fields.flags as string)) {
          lines.push(`tcp flags: expected ${show(value)}, got ${show(fields.flags)}`);
        }
      } else if (!equal(value, fields[field])) {
        lines.push(`${name} ${field}: expected ${show(value)}, got ${show(fields[field])}`);
      }
    }
  };
  compare('ethernet', expected.ethernet, actual.ethernet);
  compare('ip', expected.ip, actual.ip);
  for (const name of ['ixp', 'ixcp', 'tcp', 'icmp'] as const) {
    compare(name, expected[name], actual[name]);
    if (expected[name] === undefined && actual[name] !== undefined)
      lines.push(`${name} was not expected`);
  }
  if (expected.payload !== undefined && !equal(latin1(expected.payload), actual.payload)) {
    lines.push(`payload: expected ${show(latin1(expected.payload))}, got ${show(actual.payload)}`);
  }
  if (expected.trailer !== undefined && !equal(expected.trailer, actual.trailer))
    lines.push('the trailer differs');
  return lines;
}

/** One line about a frame, for messages. */
export function describe(packet: ParsedPacket): string {
  const { ip, tcp, ixp, ixcp, icmp } = packet;
  if (ip === undefined)
    return `frame of ${packet.frame.length} bytes (${packet.problems.join('; ')})`;
  const parts: string[] = [];
  if (ixp !== undefined) {
    parts.push(
      `IXP ${['?', 'ADOPT', 'SEGMENT'][ixp.type] ?? ixp.type} s=${ixp.session} service=${ixp.service}`,
    );
  }
  if (ixcp !== undefined) {
    const name =
      ['?', 'ADOPTED', 'REFUSED', 'FIN', 'RST', 'REPORT', 'WELCOME', 'BAD_KEY'][ixcp.type] ??
      ixcp.type;
    parts.push(
      `IXCP ${name} s=${ixcp.session} client=${ixcp.client}:${ixcp.clientPort} seq=${ixcp.seq} ack=${ixcp.ack}`,
    );
  }
  if (icmp !== undefined) parts.push(`ICMP ${icmp.type}/${icmp.code}`);
  const from = tcp === undefined ? ip.source : `${ip.source}:${tcp.sourcePort}`;
  const to = tcp === undefined ? ip.destination : `${ip.destination}:${tcp.destinationPort}`;
  if (tcp !== undefined) {
    parts.push(
      `[${tcp.flags}] seq=${tcp.seq} ack=${tcp.ack} win=${tcp.window} len=${packet.payload.length}`,
    );
    const options = JSON.stringify(tcp.options);
    if (options !== '{}') parts.push(options);
  }
  if (packet.problems.length > 0) parts.push(`FAULTY: ${packet.problems.join('; ')}`);
  return `${from} > ${to} (to ${packet.ethernet.destination}) ${parts.join(' ')}`;
}
