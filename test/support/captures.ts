/** The capture files of test/fixtures, and small ones made by hand. */
import { readFileSync } from 'node:fs';

const DIRECTORY = new URL('../../../test/fixtures/captures/', import.meta.url);

export function capture(name: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(name, DIRECTORY)));
}

export const CAPTURES = [
  '100-continue.pcap',
  '206_example_a.pcap',
  'bro.org.pcap',
  'content-length-overflow.pcap',
  'entity_gap.pcap',
  'get.pcap',
  'get_nosyn.pcap',
  'http-lower-case-nonstandard-port.pcap',
  'http-post-large.pcap',
  'm57-long-49583-80.pcap',
  'methods.pcap',
  'multipart.pcap',
  'pipelined-requests.pcap',
  'smuggle-http-request.pcap',
  'vnd.ms-cab-compressed-multi-conn.pcap',
  'websocket.pcap',
  'zeek-image-1080-80-x.pcapng',
  'zero-length-bodies-with-drops.pcap',
] as const;

/** Builds a file from numbers, in either byte order. */
export class FileBuilder {
  private readonly parts: number[] = [];

  constructor(private readonly littleEndian: boolean) {}

  get length(): number {
    return this.parts.length;
  }

  u8(...values: number[]): this {
    this.parts.push(...values);
    return this;
  }

  u16(...values: number[]): this {
    for (const value of values) this.number(value, 2);
    return this;
  }

  u32(...values: number[]): this {
    for (const value of values) this.number(value, 4);
    return this;
  }

  bytes(values: Uint8Array | readonly number[]): this {
    this.parts.push(...values);
    return this;
  }

  /** Zeros up to a multiple of four bytes. */
  pad(): this {
    while (this.parts.length % 4 !== 0) this.parts.push(0);
    return this;
  }

  build(): Uint8Array {
    return Uint8Array.from(this.parts);
  }

  private number(value: number, size: number): void {
    const bytes = Array.from(
      { length: size },
      (_, index) => Math.floor(value / 2 ** (8 * index)) & 0xff,
    );
    this.parts.push(...(this.littleEndian ? bytes : bytes.reverse()));
  }
}

/** A pcapng block with this body. */
export function block(littleEndian: boolean, type: number, body: Uint8Array): Uint8Array {
  const padded = new FileBuilder(littleEndian).bytes(body).pad().build();
  return new FileBuilder(littleEndian)
    .u32(type, padded.length + 12)
    .bytes(padded)
    .u32(padded.length + 12)
    .build();
}
