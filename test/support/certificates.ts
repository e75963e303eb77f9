/** Certificates for tests, made by openssl. */
import { execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';

export interface CertificateFiles {
  /** PEM, signed by its own key. */
  certificate: string;
  key: string;
}

/**
 * Makes NAME.pem and NAME.key in `directory`, for a server at an address.
 * @param days how long it is valid
 */
export function makeCertificate(
  directory: string,
  name: string,
  { address = '127.0.0.1', days = 30 } = {},
): CertificateFiles {
  const certificate = join(directory, `${name}.pem`);
  const key = join(directory, `${name}.key`);
  const subject = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=IP:${address}`];
  const algorithm = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', ...algorithm, '-keyout', key, '-out', certificate],
      ...['-days', String(days), ...subject],
    ],
    { stdio: 'pipe' },
  );
  chmodSync(key, 0o600);
  return { certificate, key };
}
