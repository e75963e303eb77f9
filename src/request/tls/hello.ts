/**
 * Reads a ClientHello as it arrives: the name of the server, and the protocols that the client
 * speaks above TLS. Nothing is decrypted; the node that gets the connection goes on from the first
 * byte. The result is one reused object of spans: no strings, and no allocation per connection.
 *
 *     bytes so far ──records.ts──> the whole message ──> the fields of RFC 8446 section 4.1.2
 *                                                    ──> extensions: server_name (RFC 6066),
 *                                                        application_layer_protocol_negotiation
 *                                                        (RFC 7301), supported_versions, early_data
 *
 * Only what decides where the connection goes is read. Every length is checked, also of what is
 * passed over, so that the node finds the same fields. Values that a client makes up (GREASE,
 * RFC 8701) and extensions that are not known are passed over. With Encrypted Client Hello, the
 * name is that of the outer hello.
 */
import { Alert, type AlertCode } from './alert.js';
import { RECORDS_COMPLETE, RECORDS_INCOMPLETE, RecordReader } from './records.js';

/** Results of `read`. */
export const HelloStatus = { incomplete: 0, complete: 1, refused: 2 } as const;
export type HelloStatusCode = (typeof HelloStatus)[keyof typeof HelloStatus];

/** ExtensionType. */
const SERVER_NAME = 0;
const ALPN = 16;
const EARLY_DATA = 42;
const SUPPORTED_VERSIONS = 43;

const TLS_MAJOR = 3;
const SSL3 = 0x0300;
const TLS13 = 0x0304;
const VERSION_BYTES = 2;
const RANDOM_BYTES = 32;
const MOST_SESSION_ID_BYTES = 32;
const HOST_NAME = 0;
/** RFC 1035 section 3.1, with a trailing dot. */
const MOST_NAME_BYTES = 254;
const DOT = 0x2e;

/**
 * Bytes of a name, in lower case; 0: no host name has this byte. RFC 6066 section 3: the name is
 * "represented as a byte string using ASCII encoding without a trailing dot". Names with "_" are in
 * use.
 */
const NAME_LOWER = Uint8Array.from({ length: 256 }, (_, byte) => {
  const character = String.fromCharCode(byte);
  return /[a-z0-9._-]/i.test(character) ? character.toLowerCase().charCodeAt(0) : 0;
});

/** The result for one ClientHello; the next call of `read` overwrites it. */
export class HelloReader {
  /** After `incomplete`: `resume` for the next call. An unsigned 32-bit number. */
  resume = 0;
  /** After `refused`: the alert for the client. */
  alert: AlertCode = Alert.decodeError;

  /**
   * After `complete`: the name of the server in host[0, hostLength), in lower case, without
   * trailing dot. hostLength 0: the client names none.
   */
  readonly host = new Uint8Array(MOST_NAME_BYTES);
  hostLength = 0;
  /**
   * After `complete`: the client's protocols, in its order of preference, as ProtocolNameList has
   * them: protocols[protocolsStart, protocolsEnd) is a series of names, each with its length in one
   * byte before it. Empty: the client says nothing about protocols.
   */
  protocols: Uint8Array;
  protocolsStart = 0;
  protocolsEnd = 0;
  /** After `complete`: the client offers TLS 1.3. */
  offersTls13 = false;
  /** After `complete`: data for the server follows at once (RFC 8446 section 4.2.10). */
  hasEarlyData = false;

  private readonly records = new RecordReader();
  /** The message, and the position in it. */
  private bytes: Uint8Array;
  private at = 0;

  constructor() {
    this.bytes = this.records.memory;
    this.protocols = this.bytes;
  }

  /**
   * Reads the ClientHello in bytes[start, end), which begin at the connection's first byte. Bytes
   * behind it are ignored. `resume` is 0 at the first call, then `this.resume` of the last call for
   * the same connection. The bytes may have moved in memory between the calls.
   */
  read(bytes: Uint8Array, start: number, end: number, resume: number): HelloStatusCode {
    const { records } = this;
    const found = records.read(bytes, start, end, resume);
    if (found === RECORDS_INCOMPLETE) {
      this.resume = records.resume;
      return HelloStatus.incomplete;
    }
    if (found === RECORDS_COMPLETE) {
      this.clear();
      const fault = this.readMessage(records.memory, records.start, records.end);
      if (fault === 0) return HelloStatus.complete;
      this.alert = fault;
    } else this.alert = found;
    this.clear();
    return HelloStatus.refused;
  }

  private clear(): void {
    this.hostLength = 0;
    this.protocolsStart = this.protocolsEnd = 0;
    this.offersTls13 = false;
    this.hasEarlyData = false;
  }

  /** RFC 8446 section 4.1.2. Returns what is wrong; 0: nothing. */
  private readMessage(bytes: Uint8Array, start: number, end: number): AlertCode | 0 {
    this.bytes = bytes;
    this.at = start;
    if (start + VERSION_BYTES + RANDOM_BYTES > end) return Alert.decodeError;
    const version = this.uint16();
    if (version >>> 8 < TLS_MAJOR || version === SSL3) return Alert.protocolVersion;
    this.at += RANDOM_BYTES;
    const sessionId = this.vector(1, end);
    if (sessionId < 0 || sessionId > MOST_SESSION_ID_BYTES) return Alert.decodeError;
    this.at += sessionId;
    const suites = this.vector(2, end);
    if (suites < 2 || suites % 2 !== 0) return Alert.decodeError;
    this.at += suites;
    const compressions = this.vector(1, end);
    if (compressions < 1) return Alert.decodeError;
    this.at += compressions;
    // A client of TLS 1.2 or older need not have extensions.
    if (this.at === end) return 0;
    const extensions = this.vector(2, end);
    if (extensions < 0 || this.at + extensions !== end) return Alert.decodeError;
    return this.readExtensions(end);
  }

  private readExtensions(end: number): AlertCode | 0 {
    let hasName = false;
    let hasProtocols = false;
    let hasVersions = false;
    while (this.at < end) {
      if (this.at + 2 > end) return Alert.decodeError;
      const type = this.uint16();
      const length = this.vector(2, end);
      if (length < 0) return Alert.decodeError;
      const next = this.at + length;
      let fault: AlertCode | 0 = 0;
      // RFC 8446 section 4.2: "There MUST NOT be more than one extension of the same type".
      switch (type) {
        case SERVER_NAME:
          fault = hasName ? Alert.illegalParameter : this.readName(next);
          hasName = true;
          break;
        case ALPN:
          fault = hasProtocols ? Alert.illegalParameter : this.readProtocols(next);
          hasProtocols = true;
          break;
        case SUPPORTED_VERSIONS:
          fault = hasVersions ? Alert.illegalParameter : this.readVersions(next);
          hasVersions = true;
          break;
        case EARLY_DATA:
          this.hasEarlyData = true;
      }
      if (fault !== 0) return fault;
      this.at = next;
    }
    return 0;
  }

  /** ServerNameList of RFC 6066 section 3: it "MUST NOT contain more than one name of" a type. */
  private readName(end: number): AlertCode | 0 {
    const list = this.vector(2, end);
    if (list < 1 || this.at + list !== end) return Alert.decodeError;
    let hasHost = false;
    while (this.at < end) {
      const type = this.bytes[this.at++]!;
      // Also the names of types to come begin with their length.
      const length = this.vector(2, end);
      if (length < 1) return Alert.decodeError;
      if (type === HOST_NAME) {
        if (hasHost || !this.takeHost(this.at, length)) return Alert.illegalParameter;
        hasHost = true;
      }
      this.at += length;
    }
    return 0;
  }

  private takeHost(from: number, length: number): boolean {
    if (length > MOST_NAME_BYTES) return false;
    for (let i = 0; i < length; i++) {
      const lower = NAME_LOWER[this.bytes[from + i]!]!;
      if (lower === 0) return false;
      this.host[i] = lower;
    }
    this.hostLength = this.host[length - 1] === DOT ? length - 1 : length;
    return this.hostLength > 0;
  }

  /** ProtocolNameList of RFC 7301 section 3.1. */
  private readProtocols(end: number): AlertCode | 0 {
    const list = this.vector(2, end);
    if (list < 2 || this.at + list !== end) return Alert.decodeError;
    const start = this.at;
    while (this.at < end) {
      const length = this.vector(1, end);
      if (length < 1) return Alert.decodeError;
      this.at += length;
    }
    this.protocols = this.bytes;
    this.protocolsStart = start;
    this.protocolsEnd = end;
    return 0;
  }

  /** SupportedVersions of RFC 8446 section 4.2.1. */
  private readVersions(end: number): AlertCode | 0 {
    const list = this.vector(1, end);
    if (list < 2 || list % 2 !== 0 || this.at + list !== end) return Alert.decodeError;
    while (this.at < end) {
      if (this.uint16() === TLS13) this.offersTls13 = true;
    }
    return 0;
  }

  /** Two bytes, which must be there. */
  private uint16(): number {
    const value = (this.bytes[this.at]! << 8) | this.bytes[this.at + 1]!;
    this.at += 2;
    return value;
  }

  /**
   * The length of a vector, which stands in `width` bytes before it. -1: the vector does not end
   * before `end`.
   */
  private vector(width: 1 | 2, end: number): number {
    if (this.at + width > end) return -1;
    const length = width === 1 ? this.bytes[this.at++]! : this.uint16();
    return this.at + length <= end ? length : -1;
  }
}
