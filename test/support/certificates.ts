/** Certificates for tests, made by openssl. */
import { execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';

export interface CertificateFiles {
  /** PEM: signed by its own key, for `localhost` and 127.0.0.1. */
  certificate: string;
  key: string;
}

/** Makes NAME.pem and NAME.key in `directory`. */
export function makeCertificate(directory: string, name: string, days = 30): CertificateFiles {
  const certificate = join(directory, `${name}.pem`);
  const key = join(directory, `${name}.key`);
  const subject = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
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
