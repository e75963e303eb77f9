/**
 * Finds the first handshake message in a stream of TLS records (RFC 8446 section 5.1) while it
 * arrives in pieces of any size. A client may spread a message over many records:
 *
 *     bytes    | 22 3 1 length | part of the message | 22 3 1 length | rest of the message | ...
 *     message                  | 1 length (24 bits)  ...             ...                   |
 *
 * The state between two calls is one unsigned 32-bit number, so that each record is examined once
 * while it is incomplete and once when it is complete:
 *
 *      31 30 29                15 14                 0
 *     +-----+--------------------+--------------------+
 *     |  0  | message            | record             |
 *     +-----+--------------------+--------------------+
 *       record   position of the first record that is not complete
 *       message  bytes of the message in the records before it
 *
 * What cannot become a ClientHello is refused at its first byte.
 */
import { Alert, type AlertCode } from './alert.js';

/** Most bytes of a ClientHello, without its header of four bytes. */
export const MOST_HELLO_BYTES = 16_384;
/**
 * Most bytes of the records that carry it: there is room for 200 headers. Every large room of the
 * engine's head store has more room than this.
 */
export const MOST_RECORD_BYTES = MOST_HELLO_BYTES + 1_024;

const RECORD_HEADER_BYTES = 5;
/** Of a handshake message: its type, and its length in 24 bits. */
export const MESSAGE_HEADER_BYTES = 4;
const MOST_FRAGMENT_BYTES = 1 << 14;

const HANDSHAKE_RECORD = 22;
const TLS_MAJOR = 3;
const CLIENT_HELLO = 1;
/** The first bit of a hello of SSL 2.0, which has no record: two bytes of length, then the type. */
const SSL2_BIT = 0x80;
const SSL2_TYPE_AT = 2;

const POSITION_BITS = 15;
const POSITION_MASK = (1 << POSITION_BITS) - 1;

/** Results of `read` other than an alert. Alerts are positive. */
export const RECORDS_COMPLETE = -1;
export const RECORDS_INCOMPLETE = -2;
export type RecordsResult = AlertCode | typeof RECORDS_COMPLETE | typeof RECORDS_INCOMPLETE;

export class RecordReader {
  /** After RECORDS_INCOMPLETE: `resume` for the next call. */
  resume = 0;
  /** After RECORDS_COMPLETE: the message, without its header, is memory[start, end). */
  memory: Uint8Array;
  start = 0;
  end = 0;
  /** Holds a message of several records. */
  private readonly joined = new Uint8Array(MESSAGE_HEADER_BYTES + MOST_HELLO_BYTES);

  constructor() {
    this.memory = this.joined;
  }

  /**
   * Reads the records in bytes[start, end), which begin at the connection's first byte and grow
   * between calls. Bytes behind the message are ignored. `resume` is 0 at the first call, then
   * `this.resume` of the last call for the same connection. The bytes may have moved in memory
   * between the calls.
   */
  read(bytes: Uint8Array, start: number, end: number, resume: number): RecordsResult {
    const limit = Math.min(end, start + MOST_RECORD_BYTES);
    let at = start + (resume & POSITION_MASK);
    let taken = resume >>> POSITION_BITS;
    for (;;) {
      const fault = recordFault(bytes, at, limit, at === start);
      if (fault !== 0) return fault;
      if (at + RECORD_HEADER_BYTES > limit) break;
      const fragment = at + RECORD_HEADER_BYTES;
      const length = (bytes[at + 3]! << 8) | bytes[at + 4]!;
      const present = Math.min(length, limit - fragment);
      const known = taken + present;
      if (taken < MESSAGE_HEADER_BYTES && known > taken) {
        this.join(bytes, start, Math.min(known, MESSAGE_HEADER_BYTES));
        const wrong = this.headerFault(Math.min(known, MESSAGE_HEADER_BYTES));
        if (wrong !== 0) return wrong;
      }
      if (known >= MESSAGE_HEADER_BYTES) {
        // The first record tells the length, and `joined` keeps nothing between two calls.
        if (taken >= MESSAGE_HEADER_BYTES) this.join(bytes, start, MESSAGE_HEADER_BYTES);
        const whole = MESSAGE_HEADER_BYTES + this.bodyBytes();
        if (known >= whole) {
          this.take(bytes, start, fragment, taken, whole);
          return RECORDS_COMPLETE;
        }
      }
      if (present < length) break;
      at = fragment + length;
      taken = known;
    }
    // A message in very many records would need a larger room than any head.
    if (limit - start === MOST_RECORD_BYTES) return Alert.illegalParameter;
    this.resume = (taken << POSITION_BITS) | (at - start);
    return RECORDS_INCOMPLETE;
  }

  /** Shows the complete message, in place if one record has all of it. */
  private take(
    bytes: Uint8Array,
    start: number,
    fragment: number,
    taken: number,
    whole: number,
  ): void {
    if (taken === 0) {
      this.memory = bytes;
      this.start = fragment + MESSAGE_HEADER_BYTES;
      this.end = fragment + whole;
      return;
    }
    this.join(bytes, start, whole);
    this.memory = this.joined;
    this.start = MESSAGE_HEADER_BYTES;
    this.end = whole;
  }

  /** Copies the first `count` bytes of the message. They have arrived, in records without fault. */
  private join(bytes: Uint8Array, start: number, count: number): void {
    let to = 0;
    for (let at = start; to < count; ) {
      const length = (bytes[at + 3]! << 8) | bytes[at + 4]!;
      const from = at + RECORD_HEADER_BYTES;
      const part = Math.min(length, count - to);
      for (let i = 0; i < part; i++) this.joined[to + i] = bytes[from + i]!;
      to += part;
      at = from + length;
    }
  }

  /** What is wrong with the first `count` bytes of the message, its header at most; 0: nothing. */
  private headerFault(count: number): AlertCode | 0 {
    if (this.joined[0] !== CLIENT_HELLO) return Alert.unexpectedMessage;
    const isLong = count === MESSAGE_HEADER_BYTES && this.bodyBytes() > MOST_HELLO_BYTES;
    return isLong ? Alert.illegalParameter : 0;
  }

  private bodyBytes(): number {
    const { joined } = this;
    return (joined[1]! << 16) | (joined[2]! << 8) | joined[3]!;
  }
}

/**
 * What is wrong with the record header at `at`, of which the bytes before `limit` have arrived; 0:
 * nothing so far.
 */
function recordFault(
  bytes: Uint8Array,
  at: number,
  limit: number,
  isFirst: boolean,
): AlertCode | 0 {
  if (at >= limit) return 0;
  const type = bytes[at]!;
  if (type !== HANDSHAKE_RECORD) {
    if (!isFirst || (type & SSL2_BIT) === 0) return Alert.unexpectedMessage;
    if (at + SSL2_TYPE_AT >= limit) return 0;
    return bytes[at + SSL2_TYPE_AT] === CLIENT_HELLO
      ? Alert.protocolVersion
      : Alert.unexpectedMessage;
  }
  if (at + 1 < limit && bytes[at + 1] !== TLS_MAJOR) return Alert.protocolVersion;
  if (at + RECORD_HEADER_BYTES > limit) return 0;
  const length = (bytes[at + 3]! << 8) | bytes[at + 4]!;
  // RFC 8446 section 5.1: "Implementations MUST NOT send zero-length fragments of Handshake types".
  if (length === 0) return Alert.unexpectedMessage;
  return length > MOST_FRAGMENT_BYTES ? Alert.recordOverflow : 0;
}
