/** Parses config values: durations, addresses, listeners. */
import {
  type Address6,
  type Endpoint,
  formatAddress,
  isAddress6,
  isLoopback,
  LOCAL_NAME,
  MOST_PORT,
  parseAddress,
  parseAddress4,
  requireAddress,
  sameNetwork,
} from '../wire/address.js';

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const LONGEST_MS = 24 * 3_600_000;

/**
 * Parses a duration such as "300ms", "1.5s", "15m" or "24h". Returns ms, rounded; undefined for any
 * other text, and outside 1 ms to 24 h.
 */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)$/.exec(text);
  if (match === null) return undefined;
  const ms = Math.round(Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? Number.NaN));
  return ms >= 1 && ms <= LONGEST_MS ? ms : undefined;
}

/** A duration in ms as the config writes it: "300ms", "90s", "15m", "24h". */
export function formatConfigDuration(ms: number): string {
  const units = Object.entries(UNIT_MS).reverse();
  const [unit, size] = units.find(([, size]) => ms >= size && ms % size === 0) ?? ['ms', 1];
  return `${ms / size}${unit}`;
}

/** Why a text is not what a node can have as its address. */
export function whyNotNode(text: string): string | undefined {
  return text === LOCAL_NAME ? undefined : whyNotUnicast(text);
}

/** Why a text is not the address of a machine on a link, of either family. */
export function whyNotUnicast(text: string): string | undefined {
  return whyNotHost(text) ?? (isLoopbackText(text) ? 'a loopback address' : undefined);
}

/** Whether a text is an address that no frame on a link ever has. */
export function isLoopbackText(text: string): boolean {
  const address = parseAddress(text);
  return address !== undefined && isLoopback(address);
}

/** Like `whyNotUnicast`, but accepts loopback addresses: captures of `lo` have no others. */
export function whyNotHost(text: string): string | undefined {
  const address = parseAddress(text);
  if (address === undefined) return 'not an IP address';
  if (isAddress6(address)) return whyNotHost6(address, text);
  const first = address >>> 24;
  if (first === 0) return 'an address that no machine can have';
  if (first >= 224 && first < 240) return 'a multicast address';
  if (first >= 240) return 'a reserved or broadcast address';
  return undefined;
}

/**
 * Kinds of addresses of RFC 4291 section 2.4 that are not addresses of one machine on a network.
 */
const NOT_UNICAST_6 = [
  { network: '::', prefix: 128, what: 'an address that no machine can have' },
  { network: '::ffff:0:0', prefix: 96, what: 'an IPv4 address in the form of IPv6' },
  { network: 'ff00::', prefix: 8, what: 'a multicast address' },
  { network: 'fe80::', prefix: 10, what: 'a link-local address, which is not unique' },
].map(({ network, ...rest }) => ({ network: requireAddress(network), ...rest }));

function whyNotHost6(address: Address6, text: string): string | undefined {
  const kind = NOT_UNICAST_6.find(({ network, prefix }) => sameNetwork(address, network, prefix));
  if (kind !== undefined) return kind.what;
  // Addresses are compared as texts, in the config and in calls of the API.
  const usual = formatAddress(address);
  return usual === text ? undefined : `not in the usual form ${usual} (RFC 5952)`;
}

/**
 * Parses "127.0.0.1:8080"; undefined for any other text. A loopback address is valid here, a
 * wildcard address is not.
 */
export function parseListener(text: string): Endpoint | undefined {
  const match = /^([\d.]+):([1-9]\d{0,4})$/.exec(text);
  if (match === null) return undefined;
  const address = parseAddress4(match[1] ?? '');
  const port = Number(match[2]);
  if (address === undefined || address >>> 24 === 0 || address >>> 24 >= 224 || port > MOST_PORT)
    return undefined;
  return { address, port };
}

/**
 * The word in `known` that `word` probably stands for, or undefined. Case is ignored. Words of
 * three letters and more may have one typing error, words of more than five letters two.
 */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  const wanted = word.toLowerCase();
  let best: string | undefined;
  let bestDistance = (wanted.length > 5 ? 2 : wanted.length > 2 ? 1 : 0) + 1;
  for (const candidate of known) {
    if (Math.abs(candidate.length - wanted.length) >= bestDistance) continue;
    const distance = editDistance(wanted, candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let older: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1];
      let cost = Math.min(
        previous[column]! + 1,
        current[column - 1]! + 1,
        previous[column - 1]! + (same ? 0 : 1),
      );
      const swapped =
        row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1];
      if (swapped) cost = Math.min(cost, older[column - 2]! + 1);
      current.push(cost);
    }
    older = previous;
    previous = current;
  }
  return previous[b.length]!;
}
