/** TLS connections by `openssl s_client` from a host of a farm. */
import type { Host } from '../farm/host.js';
import { PATIENCE_MS } from '../patience.js';

export interface TlsAnswer {
  /** Common name in the server's certificate; undefined: none arrived. */
  server: string | undefined;
  /** Such as TLSv1.3; undefined: no handshake. */
  version: string | undefined;
  /** The protocol that the server chose (ALPN). */
  protocol: string | undefined;
  /** Number of the alert that ended the handshake, and openssl's words for it. */
  alert: number | undefined;
  text: string;
  /** What the server sent inside, and what openssl says about the connection. */
  output: string;
}

/**
 * Connects, sends `input` and reads until the server closes.
 * @param args such as `-servername NAME`, `-alpn h2`, `-tls1_2`
 */
export async function sClient(
  host: Host,
  address: string,
  args: readonly string[],
  input = '',
): Promise<TlsAnswer> {
  // With -ign_eof it stays until the server closes; without input it ends after the handshake.
  const ending = input === '' ? [] : ['-ign_eof'];
  const command = ['s_client', '-connect', `${address}:443`, ...ending, ...args];
  const { stdout, stderr } = await host.run('openssl', command, {
    input,
    allowFailure: true,
    timeoutMs: PATIENCE_MS,
  });
  const found = (pattern: RegExp, text: string): string | undefined => pattern.exec(text)?.[1];
  const alert = found(/SSL alert number (\d+)/, stderr);
  return {
    server: found(/^subject=.*?CN ?= ?([\w.-]+)/m, stdout),
    version: found(/^New, (TLSv[\d.]+),/m, stdout),
    protocol: found(/^ALPN protocol: (\S+)/m, stdout),
    alert: alert === undefined ? undefined : Number(alert),
    text: found(/:SSL routines:[^:]*:([^:\n]+):/, stderr) ?? '',
    output: stdout,
  };
}
