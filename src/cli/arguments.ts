/** Parses arguments of the command line. */
import { InvalidArgumentError } from 'commander';
import { FEWEST_SNAP_BYTES, MOST_SNAP_BYTES } from '../api/documents.js';
import { parsePorts } from '../config/ports.js';
import { MOST_WEIGHT } from '../config/schema-objects.js';
import { type Address, MOST_PORT, parseAddress, UNSPECIFIED } from '../wire/address.js';

const MOST_ROWS_ASKED = 16_000_000;
const SHORTEST_INTERVAL_SECONDS = 0.1;
const LONGEST_INTERVAL_SECONDS = 86_400;
/** Most intervals or frames. */
const MOST_COUNT = 1_000_000_000;

export function parseLimit(text: string): number {
  return parseWhole(text, MOST_ROWS_ASKED);
}

export function parseCount(text: string): number {
  return parseWhole(text, MOST_COUNT);
}

export function parseSnaplen(text: string): number {
  return parseWhole(text, MOST_SNAP_BYTES, FEWEST_SNAP_BYTES);
}

export function parseClient(text: string): { address: Address; port: number | undefined } {
  const [, host = '', port] = /^([^:]*)(?::(\d{1,5}))?$/.exec(text) ?? [];
  const address = parseAddress(host);
  if (
    address === undefined ||
    address === UNSPECIFIED ||
    (port !== undefined && (+port < 1 || +port > MOST_PORT))
  ) {
    throw new InvalidArgumentError(
      'Expected an IPv4 address, or one with a port, such as 192.0.2.7:40000.',
    );
  }
  return { address, port: port === undefined ? undefined : +port };
}

export function parseWhole(text: string, most: number, fewest = 1): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < fewest || value > most) {
    throw new InvalidArgumentError(`Expected a whole number from ${fewest} to ${most}.`);
  }
  return value;
}

export function parseSeconds(text: string): number {
  const value = Number(text);
  if (
    !/^\d+(\.\d+)?$/.test(text) ||
    value < SHORTEST_INTERVAL_SECONDS ||
    value > LONGEST_INTERVAL_SECONDS
  ) {
    throw new InvalidArgumentError(
      `Expected a number of seconds from ${SHORTEST_INTERVAL_SECONDS} to ${LONGEST_INTERVAL_SECONDS}.`,
    );
  }
  return value;
}

export function parseWeight(text: string): number {
  return parseWhole(text, MOST_WEIGHT);
}

/**
 * "10.99.0.100:80", or with several ports "10.99.0.101:80,9000-9100" or "10.99.0.101:any". The
 * balancer checks the address.
 */
export function parseListener(
  text: string,
): { address: string } & ({ port: number } | { ports: string[] }) {
  const [, literal, name, list = ''] = /^(?:\[([^\]]+)\]|([^:]+)):([\w,-]+)$/.exec(text) ?? [];
  const address = literal ?? name ?? '';
  const ports = list.split(',');
  if (address === '' || ports.some((form) => parsePorts(form) === undefined)) {
    throw new InvalidArgumentError(
      'Expected an address and ports, such as 10.99.0.100:80, [fd99::100]:80, 10.99.0.101:80,9000-9100 or 10.99.0.101:any.',
    );
  }
  const single = /^\d+$/.test(list) ? Number(list) : undefined;
  return single === undefined ? { address, ports } : { address, port: single };
}

/** "n1,n2" */
export function parseNames(text: string): string[] {
  return text.split(',');
}

/** "/images/" for any host, or "www.example.org/images/". */
export function parseResource(text: string): { host?: string; path: string } {
  const slash = text.indexOf('/');
  if (slash < 0) {
    throw new InvalidArgumentError(
      'Expected a path such as /images/, or a host and a path such as www.example.org/images/.',
    );
  }
  const path = text.slice(slash);
  return slash === 0 ? { path } : { host: text.slice(0, slash), path };
}
