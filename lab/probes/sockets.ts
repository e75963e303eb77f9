/** TCP options in use on a host's connections, as `ss` prints them. */
import type { Host } from '../farm/host.js';

export interface Agreed {
  timestamps: boolean;
  sack: boolean;
  /** Window shifts as the kernel prints them: the peer's, then own; '' without window scaling. */
  scales: string;
  /** Payload bytes of a full segment, after timestamps. */
  mss: number;
}

/**
 * Options of the established connection with this client port, or undefined.
 * @param side whether `host` is the client or the node of that connection
 */
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
