/**
 * Reads a ClientHello and finds the resource that its name and protocols ask for. Also says in text
 * what the client asks for, since the bytes of a ClientHello are nothing to show:
 *
 *     TLS www.example.org h2,http/1.1     the request, as tables and logs show it
 *     Host: www.example.org               the name alone, where a head has it
 */
import { Alert, type AlertCode } from '../request/tls/alert.js';
import { HelloReader, HelloStatus } from '../request/tls/hello.js';
import { type Directory, NO_PROTOCOL } from './directory.js';
import { alertVerdict, Verdict, type VerdictCode } from './dispatcher.js';

/** Bytes of the text for the protocols, of which a client may offer thousands. */
const MOST_PROTOCOL_BYTES = 128;
/** The longest name is there twice. */
const TEXT_BYTES = 1024;
const ELLIPSIS = '...';

const SPACE = 0x20;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;
const DELETE = 0x7f;
const HEX = '0123456789abcdef';

/**
 * The alert for a ClientHello without a resource.
 * @param missed what `Directory.findName` returned
 */
export function alertFor(
  missed: number,
  { hostLength, offersTls13 }: Pick<HelloReader, 'hostLength' | 'offersTls13'>,
): AlertCode {
  if (missed === NO_PROTOCOL) return Alert.noApplicationProtocol;
  if (hostLength > 0) return Alert.unrecognizedName;
  return offersTls13 ? Alert.missingExtension : Alert.handshakeFailure;
}

export class HelloLookup {
  /** After `incomplete`: `resume` for the next call. */
  resume = 0;
  /** After `found`: index of the resource. */
  resource = -1;
  /** After `found`: nothing that the client wants done goes with the ClientHello. */
  repeatable = false;
  /** After any other result than `incomplete`: printable ASCII, lines apart. */
  readonly text = new Uint8Array(TEXT_BYTES);
  /** The request is text[0, requestEnd), all of it text[0, textEnd). */
  requestEnd = 0;
  textEnd = 0;
  private readonly hello = new HelloReader();

  /** As Dispatcher.inspect, for a ClientHello. `scope` as in `Directory.find`. */
  inspect(
    directory: Directory,
    bytes: Uint8Array,
    start: number,
    end: number,
    resume: number,
    scope: number,
  ): VerdictCode {
    const { hello } = this;
    const status = hello.read(bytes, start, end, resume);
    if (status === HelloStatus.incomplete) {
      this.resume = hello.resume;
      return Verdict.incomplete;
    }
    this.resource = -1;
    this.describe();
    if (status === HelloStatus.refused) return alertVerdict(hello.alert);
    const { host, hostLength, protocols, protocolsStart, protocolsEnd } = hello;
    const found = directory.findName(
      host,
      hostLength,
      protocols,
      protocolsStart,
      protocolsEnd,
      scope,
    );
    if (found < 0) return alertVerdict(alertFor(found, hello));
    this.resource = found;
    // The server gets early data before the handshake is complete. It may be a request.
    this.repeatable = !hello.hasEarlyData;
    return Verdict.found;
  }

  private describe(): void {
    const { host, hostLength } = this.hello;
    this.textEnd = 0;
    this.addText('TLS');
    if (hostLength > 0) {
      this.addText(' ');
      this.addBytes(host, 0, hostLength);
    }
    this.addProtocols();
    this.requestEnd = this.textEnd;
    if (hostLength === 0) return;
    this.addText('\r\nHost: ');
    this.addBytes(host, 0, hostLength);
    this.addText('\r\n\r\n');
  }

  private addProtocols(): void {
    const { protocols, protocolsStart, protocolsEnd } = this.hello;
    const limit = this.textEnd + MOST_PROTOCOL_BYTES;
    let separator = ' ';
    for (let at = protocolsStart; at < protocolsEnd; ) {
      const from = at + 1;
      at = from + protocols[at]!;
      this.addText(separator);
      separator = ',';
      // Any byte may become four.
      if (this.textEnd + 4 * (at - from) > limit) {
        this.addText(ELLIPSIS);
        return;
      }
      this.addEscaped(protocols, from, at);
    }
  }

  /** A protocol's name, in which everything that could be taken for something else is \xNN. */
  private addEscaped(bytes: Uint8Array, start: number, end: number): void {
    for (let i = start; i < end; i++) {
      const byte = bytes[i]!;
      if (byte > SPACE && byte < DELETE && byte !== COMMA && byte !== BACKSLASH) {
        this.text[this.textEnd++] = byte;
      } else {
        this.addText('\\x');
        this.text[this.textEnd++] = HEX.charCodeAt(byte >>> 4);
        this.text[this.textEnd++] = HEX.charCodeAt(byte & 0xf);
      }
    }
  }

  private addBytes(bytes: Uint8Array, start: number, end: number): void {
    for (let i = start; i < end; i++) this.text[this.textEnd++] = bytes[i]!;
  }

  private addText(text: string): void {
    for (let i = 0; i < text.length; i++) this.text[this.textEnd++] = text.charCodeAt(i);
  }
}
