/** Certificates, made by openssl. */
import { execFileSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { join } from 'node:path';

export interface CertificateFiles {
  /** PEM, signed by its own key. */
  certificate: string;
  key: string;
}

export interface CertificateOptions {
  /** Of the server; default 127.0.0.1. */
  address?: string;
  /** Host names of the server; `*.example.org` stands for all names one label longer. */
  hosts?: readonly string[];
  /** How long it is valid. */
  days?: number;
}

/** Makes NAME.pem and NAME.key in `directory`. */
export function makeCertificate(
  directory: string,
  name: string,
  { address = '127.0.0.1', hosts = [], days = 30 }: CertificateOptions = {},
): CertificateFiles {
  const certificate = join(directory, `${name}.pem`);
  const key = join(directory, `${name}.key`);
  const others = [`IP:${address}`, ...hosts.map((host) => `DNS:${host}`)].join();
  const subject = ['-subj', `/CN=${name}`, '-addext', `subjectAltName=${others}`];
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
