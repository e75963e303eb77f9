/** The ports of a virtual server: as the config names them, and as ranges. */
import { MOST_PORT } from '../wire/address.js';

/** Both ends belong to it. */
export interface PortRange {
  readonly from: number;
  readonly to: number;
}

/** The word for all ports. Port 0 is no port: no client can connect to it (RFC 6335 section 6). */
const ANY = 'any';
const ALL: PortRange = { from: 1, to: MOST_PORT };

/** The value of the key `ports`. */
export type PortForms = number | string | readonly (number | string)[];

/** The entries of a value of the key `ports`. A value alone is a list of one. */
export function portForms(value: PortForms): readonly (number | string)[] {
  return typeof value === 'object' ? value : [value];
}

/** Parses 80, "80", "9000-9100" or "any"; undefined for anything else. */
export function parsePorts(form: number | string): PortRange | undefined {
  if (form === ANY) return ALL;
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(String(form));
  if (match === null) return undefined;
  const from = Number(match[1]);
  const to = Number(match[2] ?? match[1]);
  return from >= 1 && from <= to && to <= MOST_PORT ? { from, to } : undefined;
}

/** The same ports in ascending order, and as few ranges as possible. */
export function inOrder(ranges: readonly PortRange[]): readonly PortRange[] {
  const joined: PortRange[] = [];
  for (const { from, to } of ranges.toSorted((a, b) => a.from - b.from)) {
    const last = joined.at(-1);
    if (last !== undefined && from <= last.to + 1)
      joined[joined.length - 1] = { from: last.from, to: Math.max(last.to, to) };
    else joined.push({ from, to });
  }
  return joined;
}

/** The lowest port that both have; undefined when they have none in common. */
export function commonPort(
  some: readonly PortRange[],
  others: readonly PortRange[],
): number | undefined {
  const common = some.flatMap(({ from, to }) =>
    others.flatMap((other) => {
      const start = Math.max(from, other.from);
      return start <= Math.min(to, other.to) ? [start] : [];
    }),
  );
  return common.length === 0 ? undefined : Math.min(...common);
}

/** "10.99.0.100:80", "10.99.0.101:80,8080,9000-9100" or "10.99.0.101:5353/udp". */
export function formatListener(
  address: string,
  ports: readonly PortRange[],
  transport: string,
): string {
  const host = address.includes(':') ? `[${address}]` : address;
  return `${host}:${formatPorts(ports)}${transport === 'tcp' ? '' : `/${transport}`}`;
}

/** "80", "80,8080,9000-9100" or "any". */
export function formatPorts(ranges: readonly PortRange[]): string {
  return ranges
    .map(({ from, to }) => {
      if (from === ALL.from && to === ALL.to) return ANY;
      return from === to ? String(from) : `${from}-${to}`;
    })
    .join(',');
}
