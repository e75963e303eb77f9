/** Makes the ClientHello of an imagined client, to ask what would happen to it. */
const RANDOM_BYTES = 32;
const TLS13_SUITE = Uint8Array.of(0x13, 0x01);
const SERVER_NAME = 0;
const ALPN = 16;
const SUPPORTED_VERSIONS = 43;

/**
 * A ClientHello of TLS 1.3 in one record, as far as the balancer reads it: it has no keys.
 *
 * @param host undefined: the client names no server. Each character is a byte
 * @param protocols names for ALPN; each has 1 to 255 characters. Empty: no ALPN
 */
export function makeHello(host: string | undefined, protocols: readonly string[]): Uint8Array {
  const names = protocols.map((name) => vector(1, latin1(name)));
  const extensions = [
    ...(host === undefined
      ? []
      : [extension(SERVER_NAME, vector(2, Uint8Array.of(0), vector(2, latin1(host))))]),
    ...(names.length === 0 ? [] : [extension(ALPN, vector(2, ...names))]),
    extension(SUPPORTED_VERSIONS, vector(1, Uint8Array.of(3, 4))),
  ];
  const body = [
    Uint8Array.of(3, 3),
    new Uint8Array(RANDOM_BYTES),
    vector(1),
    vector(2, TLS13_SUITE),
    vector(1, Uint8Array.of(0)),
    vector(2, ...extensions),
  ];
  return Buffer.concat([Uint8Array.of(22, 3, 1), vector(2, Uint8Array.of(1), vector(3, ...body))]);
}

const latin1 = (text: string): Uint8Array => Buffer.from(text, 'latin1');

function extension(type: number, content: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(type >>> 8, type & 0xff), vector(2, content)]);
}

/** The parts with their length before them, in `width` bytes. */
function vector(width: number, ...parts: Uint8Array[]): Uint8Array {
  const content = Buffer.concat(parts);
  const length = Buffer.alloc(width);
  length.writeUIntBE(content.length, 0, width);
  return Buffer.concat([length, content]);
}
