/** What TCP sockets of a host agreed on, as `ss` tells it. */
import type { Host } from '../farm/host.js';

export interface Agreed {
  timestamps: boolean;
  sack: boolean;
  /** Window shifts as the kernel prints them: of the other side, own; '' without window scaling. */
  scales: string;
  /** Bytes of text in a full segment, timestamps taken off. */
  mss: number;
}

/** The established connection that has this port on the client's side, or undefined. */
export async function socketOptions(
  host: Host,
  clientPort: number,
  side: 'client' | 'node',
): Promise<Agreed | undefined> {
  const port = `${side === 'client' ? 'sport' : 'dport'} = :${clientPort}`;
  const { stdout } = await host.run('ss', ['-tinoH', 'state', 'established', port]);
  const mss = /\bmss:(\d+)/.exec(stdout);
  if (mss === null) return undefined;
  return {
    timestamps: /\sts\s/.test(stdout),
    sack: /\ssack\s/.test(stdout),
    scales: /\bwscale:(\S+)/.exec(stdout)?.[1] ?? '',
    mss: Number(mss[1]),
  };
}
