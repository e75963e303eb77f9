/** A DNS server of a node: Debian's dnsmasq, which answers TXT queries with the node's name. */
import { existsSync } from 'node:fs';
import type { Host } from '../farm/host.js';
import type { Program } from '../farm/process.js';

const DNSMASQ = '/usr/sbin/dnsmasq';
const DIG = '/usr/bin/dig';
/** The name that the server knows. */
export const NODE_NAME = 'node.example.org';

/** Why a farm cannot have a DNS server and ask it; false when it can. */
export function whyNoDns(): string | false {
  const missing = [DNSMASQ, DIG].find((file) => !existsSync(file));
  return missing !== undefined && `needs ${missing}`;
}

/** Starts the server on this UDP port of every address, and waits until it answers. */
export async function startDns(host: Host, port: number): Promise<Program> {
  const program = host.start(`dns-${host.name}`, [
    DNSMASQ,
    ...['--keep-in-foreground', '--conf-file=/dev/null', '--no-resolv', '--no-hosts'],
    ...['--user=root', '--pid-file=', '--log-facility=-', `--port=${port}`],
    `--txt-record=${NODE_NAME},${host.name}`,
  ]);
  await program.waitForLog(/started/);
  return program;
}

/**
 * Asks for the name of the node.
 * @param fromPort the client's UDP port
 * @returns the answer, or what dig says when there is none
 */
export async function askNode(
  client: Host,
  address: string,
  port: number,
  fromPort: number,
): Promise<string> {
  const { stdout } = await client.run(
    DIG,
    [
      ...['+short', '+tries=1', '+time=2', '-b', `${client.address}#${fromPort}`],
      ...['-p', String(port), `@${address}`, NODE_NAME, 'TXT'],
    ],
    { allowFailure: true },
  );
  return stdout.trim().replaceAll('"', '');
}
