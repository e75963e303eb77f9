/**
 * One end of a TCP connection, made by hand: every segment is sent because the test says so, and
 * nothing is answered by itself. Numbers are relative: 0 is the SYN of each side, 1 its first byte.
 */
import { build, flagBits, type TcpOptionsSpec, type TcpSpec } from '../../lab/packet.js';
import type { ParsedPacket } from '../support/packet-parse.js';

/** Where a conversation is played to, and where its own end is. */
export interface Target {
  mac: string;
  address: string;
  port: number;
  /** Flags of a segment of no connection that gets an RST at once. Default "A". */
  refused?: string;
}
export interface Origin {
  mac: string;
  address: string;
}

/** Sequence numbers wrap in the middle of each head. */
const ISN = 0xffff_ffd0;
const TSVAL = 5_000_000;
/** Of our SYN. Both servers cut their answers by it, since both links take more. */
const MSS = 1_360;
const WINDOW_SHIFT = 2;
/** The peer's number that we acknowledge when there is none. Relative 0 stands for it. */
const UNKNOWN_ISN = 0x2000_0000;

export interface Sending {
  /** Default "A". */
  flags?: string;
  /** Relative. Default: the next number. */
  seq?: number;
  /** Relative. Default: everything that has been heard. */
  ack?: number;
  data?: string;
  /** In bytes. Default: the window that was said last. */
  window?: number;
  /** Added to the timestamp; undefined: 0. */
  older?: number;
  /** No timestamp, although both sides have agreed on it. */
  bare?: boolean;
  /** Options in place of the timestamp. */
  options?: TcpOptionsSpec;
  /** Fields of the header as they stand. */
  header?: TcpSpec;
}

/** A segment from the peer, in relative numbers. */
export interface Heard {
  flags: number;
  /** Relative, and as it stands on the wire. */
  seq: number;
  absoluteSeq: number;
  ack: number;
  absoluteAck: number;
  payload: Uint8Array;
  /** In bytes. */
  window: number;
  sack: (readonly [number, number])[];
  /** The timestamp that it echoes, less the one that RFC 7323 wants; undefined: none. */
  echo: number | undefined;
  options: TcpOptionsSpec;
}

const SYN = flagBits('S');
const FIN = flagBits('F');

export class Talk {
  readonly port: number;
  readonly target: Target;
  readonly heard: Heard[] = [];
  /** What the client has to say, from its first byte. `next` walks over it. */
  script = '';
  /** The client's next number, and the highest that the peer has acknowledged. */
  next = 1;
  acked = 0;
  /** The peer's next number, as far as it has been heard, and what we have acknowledged of it. */
  seen = 0;
  told = 0;
  window = 65_535 << WINDOW_SHIFT;
  timestamps = false;
  /** TSval of the segment that was sent last, and the value that the peer is to echo. */
  tsval = TSVAL;
  recent = 0;
  /** Acknowledgement number and end of the segment that was sent last. */
  lastAck = 0;
  lastEnd = 0;
  /** All that the peer has said, in order. */
  text = '';
  /** The peer has sent FIN. */
  closed = false;
  /** The timestamp of the peer that was heard last. */
  echo = 0;
  private peerIsn = UNKNOWN_ISN;
  private peerShift = 0;
  private shift = 0;
  private readonly origin: Origin;
  private readonly out: (frame: Uint8Array) => void;

  constructor(origin: Origin, target: Target, port: number, out: (frame: Uint8Array) => void) {
    this.origin = origin;
    this.target = target;
    this.port = port;
    this.out = out;
  }

  /** Sends the SYN. `options` in place of the usual ones. */
  syn(more: Sending = {}): void {
    this.send({ flags: 'S', seq: 0, ...this.synOptions(), ...more });
    this.recent = this.tsval;
  }

  /** The usual options of a SYN. */
  synOptions(): Sending {
    const usual = { mss: MSS, sackPermitted: true, windowScale: WINDOW_SHIFT };
    return { options: { ...usual, timestamps: [this.nextTimestamp(), 0] } };
  }

  nextTimestamp(): number {
    return ++this.tsval;
  }

  /** Whether the peer has sent a whole HTTP answer. */
  get hasAnswer(): boolean {
    const end = this.text.indexOf('\r\n\r\n');
    const length = /\r\ncontent-length: (\d+)\r\n/i.exec(this.text)?.[1];
    return end > 0 && this.text.length >= end + 4 + Number(length);
  }

  /** Sends a segment. Neither `next` nor the script changes. */
  send(sending: Sending): void {
    const { flags = 'A', seq = this.next, ack = this.seen, data, header } = sending;
    if (sending.window !== undefined) this.window = sending.window;
    const isSyn = flags.includes('S');
    const timed = this.timestamps && sending.bare !== true && sending.options === undefined;
    if (timed) this.tsval++;
    const options =
      sending.options ??
      (timed
        ? { timestamps: [(this.tsval + (sending.older ?? 0)) >>> 0, this.echo] as const }
        : undefined);
    // RFC 7323 section 4.3: a segment that begins at or before the last acknowledgement counts.
    if (timed && seq <= this.acked && (sending.older ?? 0) >= 0) this.recent = this.tsval;
    const acknowledges = flags.includes('A');
    if (acknowledges) this.told = Math.max(this.told, ack);
    this.lastAck = ack;
    this.lastEnd = seq + (data?.length ?? 0) + (/[SF]/.test(flags) ? 1 : 0);
    this.out(
      build({
        ethernet: { source: this.origin.mac, destination: this.target.mac },
        ip: { source: this.origin.address, destination: this.target.address },
        tcp: {
          sourcePort: this.port,
          destinationPort: this.target.port,
          seq: (ISN + seq) >>> 0,
          ack: acknowledges ? (this.peerIsn + ack) >>> 0 : 0,
          flags,
          window: isSyn ? Math.min(this.window, 0xffff) : this.window >>> this.shift,
          ...(options === undefined ? {} : { options }),
          ...header,
        },
        ...(data === undefined ? {} : { payload: data }),
      }),
    );
  }

  /** Sends the next bytes of the script, all that are left by default, in one segment. */
  say(bytes = this.script.length - (this.next - 1), more: Sending = {}): void {
    const data = this.at(this.next, bytes);
    this.send({ flags: 'PA', data, ...more });
    this.next += data.length;
  }

  /** Bytes of the script from relative number `seq` on. */
  at(seq: number, bytes: number): string {
    return this.script.slice(seq - 1, seq - 1 + bytes);
  }

  /** Sends FIN as the next number. */
  finish(more: Sending = {}): void {
    this.send({ flags: 'FA', ...more });
    this.next++;
  }

  /** Takes in a frame for this connection. */
  hear({ tcp, payload }: ParsedPacket): void {
    if (tcp === undefined) return;
    const flags = flagBits(tcp.flags);
    const { options } = tcp;
    if ((flags & SYN) !== 0) {
      this.peerIsn = tcp.seq;
      this.timestamps = options.timestamps !== undefined;
      this.shift = options.windowScale === undefined ? 0 : WINDOW_SHIFT;
      this.peerShift = options.windowScale ?? 0;
    }
    const seq = signed(tcp.seq - this.peerIsn);
    // In SYN-RECEIVED, Linux 6.18 refuses an echo of the ACKs that came after its SYN/ACK.
    const counts = payload.length > 0 || (flags & (SYN | FIN)) !== 0;
    if (counts && options.timestamps !== undefined) this.echo = options.timestamps[0];
    const relative = (number: number): number => signed(number - ISN);
    this.heard.push({
      flags,
      seq,
      absoluteSeq: tcp.seq,
      ack: relative(tcp.ack),
      absoluteAck: tcp.ack,
      payload,
      window: (flags & SYN) !== 0 ? tcp.window : tcp.window << this.peerShift,
      echo: options.timestamps === undefined ? undefined : options.timestamps[1] - this.recent,
      sack: (options.sack ?? []).map(([left, right]) => [relative(left), relative(right)]),
      options,
    });
    this.acked = Math.max(this.acked, relative(tcp.ack));
    const span = payload.length + ((flags & (SYN | FIN)) === 0 ? 0 : 1);
    const fresh = seq + span - this.seen;
    if (seq > this.seen || fresh <= 0) return;
    this.closed ||= (flags & FIN) !== 0;
    this.text += Buffer.from(payload.subarray(this.seen - seq)).toString('latin1');
    this.seen = seq + span;
  }
}

/** A difference of sequence numbers. */
export function signed(difference: number): number {
  return difference | 0;
}
