/**
 * SYN cookies (RFC 4987 section 3.6): an initial sequence number that holds everything needed to
 * open a session, so that nothing need be kept until the client has answered. Every initial
 * sequence number is a cookie, even if its session is kept. So a later process can continue the
 * handshakes of an earlier one.
 *
 *     31             22 21          11 10           0
 *     +----------------+--------------+------------+   bits: index of the MSS (5), window shift
 *     | connection     | client's ISN | bits ^ hash|         or 15 for none (4), SACK (1),
 *     +----------------+--------------+------------+         timestamps (1)
 *
 * A keyed hash covers addresses, ports, and the period of 2^16 ms in which the SYN came. Its upper
 * half gives the first part, its lower half the mask of the last part. The second part is the
 * client's ISN, multiplied under both halves (`proof`). bpf/lib/cookie.h makes the same cookies
 * under the same secret, so it does not matter who answered a SYN. A cookie is accepted in its own
 * period and the next.
 */
import { SipHash } from '../wire/siphash.js';
import { SessionFlag } from './table/session-table.js';

/** A period is 2^16 ms. */
const PERIOD_SHIFT = 16;
const PERIOD_MASK = 0xffff_ffff >>> PERIOD_SHIFT;
/** Longest time in ms for which a cookie is accepted. */
export const COOKIE_LIFE_MS = 2 << PERIOD_SHIFT;

const BITS = 11;
const BITS_MASK = (1 << BITS) - 1;
const MSS_MASK = 0x1f;
const SCALE_SHIFT = 5;
const SCALE_MASK = 0xf;
const NO_SCALE = 15;
const SACK = 1 << 9;
const TIMESTAMPS = 1 << 10;

const PROOF_MASK = (1 << (2 * BITS)) - 1;
/** The uppermost bits of a product depend on all others. */
const MIXED_SHIFT = 32 - 2 * BITS;

/**
 * Results of `check` for a number that is no cookie, and for a cookie of this connection with
 * another client ISN.
 */
export const NO_COOKIE = -1;
export const NOT_FIRST = -2;

const MESSAGE_BYTES = 16;

/** MSS values that a cookie can hold: those of common links and tunnels. */
const MSS_VALUES = Uint16Array.of(
  ...[536, 576, 640, 768, 896, 966, 1024, 1120, 1160, 1200, 1220, 1240, 1260, 1280, 1300, 1320],
  ...[
    1340, 1350, 1360, 1370, 1380, 1390, 1400, 1410, 1420, 1430, 1440, 1452, 1460, 4312, 8960,
    16_344,
  ],
);

/**
 * What a cookie keeps of a SYN's options: the largest MSS of the table that is not above the
 * client's (at least 536), and the options that both sides have.
 *
 * @param mss the client's
 * @param shift the client's window shift, 0 to 14; used with SessionFlag.windowScaleOk
 * @param flags SessionFlag: windowScaleOk, sackOk and timestampsOk
 */
export function cookieBits(mss: number, shift: number, flags: number): number {
  let index = MSS_VALUES.length - 1;
  while (index > 0 && MSS_VALUES[index]! > mss) index -= 1;
  return (
    index |
    (((flags & SessionFlag.windowScaleOk) !== 0 ? shift : NO_SCALE) << SCALE_SHIFT) |
    ((flags & SessionFlag.sackOk) !== 0 ? SACK : 0) |
    ((flags & SessionFlag.timestampsOk) !== 0 ? TIMESTAMPS : 0)
  );
}

/** The MSS in a cookie's bits. */
export function cookieMss(bits: number): number {
  return MSS_VALUES[bits & MSS_MASK]!;
}

/** The client's window shift in a cookie's bits, or -1. */
export function cookieShift(bits: number): number {
  const shift = (bits >>> SCALE_SHIFT) & SCALE_MASK;
  return shift === NO_SCALE ? -1 : shift;
}

/** The SessionFlag bits in a cookie's bits. */
export function cookieFlags(bits: number): number {
  return (
    (cookieShift(bits) >= 0 ? SessionFlag.windowScaleOk : 0) |
    ((bits & SACK) !== 0 ? SessionFlag.sackOk : 0) |
    ((bits & TIMESTAMPS) !== 0 ? SessionFlag.timestampsOk : 0)
  );
}

export class SynCookies {
  private readonly sipHash: SipHash;

  /** @param secret 16 bytes */
  constructor(secret: Uint8Array) {
    this.sipHash = new SipHash(secret);
  }

  /**
   * The initial sequence number for a SYN.
   *
   * @param ports client port in the upper half, the virtual server's in the lower
   * @param bits result of `cookieBits`
   * @param clock ms, an unsigned 32-bit number
   */
  make(
    client: number,
    virtualAddress: number,
    ports: number,
    clientIsn: number,
    bits: number,
    clock: number,
  ): number {
    this.hash(client, virtualAddress, ports, clock >>> PERIOD_SHIFT);
    return (this.proof(clientIsn) | (bits ^ (this.sipHash.low & BITS_MASK))) >>> 0;
  }

  /**
   * The bits of a cookie of this or the previous period. NO_COOKIE if the number is not a cookie;
   * NOT_FIRST if it is the cookie of a client whose ISN was not `clientIsn`.
   */
  check(
    client: number,
    virtualAddress: number,
    ports: number,
    clientIsn: number,
    cookie: number,
    clock: number,
  ): number {
    const { sipHash } = this;
    const period = clock >>> PERIOD_SHIFT;
    let found = NO_COOKIE;
    for (let ago = 0; ago < 2; ago++) {
      this.hash(client, virtualAddress, ports, (period - ago) & PERIOD_MASK);
      const difference = this.proof(clientIsn) ^ cookie;
      if (difference >>> BITS === 0) return (sipHash.low ^ cookie) & BITS_MASK;
      if (difference >>> (2 * BITS) === 0) found = NOT_FIRST;
    }
    return found;
  }

  /** The part above the masked bits, under the most recent hash. */
  private proof(clientIsn: number): number {
    const { high, low } = this.sipHash;
    const mixed = Math.imul(clientIsn ^ low, high | 1);
    return (high & ~PROOF_MASK) | ((mixed >>> MIXED_SHIFT) & PROOF_MASK & ~BITS_MASK);
  }

  private hash(client: number, virtualAddress: number, ports: number, period: number): void {
    const { message } = this.sipHash;
    message.setUint32(0, client);
    message.setUint32(4, virtualAddress);
    message.setUint32(8, ports);
    message.setUint32(12, period);
    this.sipHash.hash(MESSAGE_BYTES);
  }
}
