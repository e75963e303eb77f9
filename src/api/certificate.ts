/** The certificate of the API over TLS, and its private key. */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { BatonError, reasonOf } from '../base/errors.js';
import { whyUnreadable } from '../base/file-errors.js';
import { withRegularFile } from '../base/regular-file.js';
import { printable } from '../base/text.js';
import { readSecretFile } from '../config/secret-file.js';

/** The oldest version of TLS that is spoken. */
export const OLDEST_TLS = 'TLSv1.2';
const MOST_BYTES = 1024 * 1024;
/** A warning comes this long before a certificate ends, ms. */
const SOON_MS = 14 * 24 * 3_600_000;

export interface Certificate {
  /** PEM: the certificate and those that signed it. */
  readonly cert: Buffer;
  /** PEM. */
  readonly key: Buffer;
  /** For the operator, a line each. */
  readonly warnings: readonly string[];
}

/**
 * Reads both files, and checks that they belong together.
 * @throws BatonError BATON_CERTIFICATE
 */
export function readCertificate(files: { certificate: string; key: string }): Certificate {
  const where = `certificate ${printable(files.certificate)}`;
  const cert = readPublic(files.certificate, where);
  const key = readSecretFile(files.key, {
    code: 'BATON_CERTIFICATE',
    what: 'key of the certificate',
    expected: 'a private key as PEM',
    most: MOST_BYTES,
  });
  const first = parsed(where, 'is not a certificate as PEM', () => new X509Certificate(cert));
  const whereKey = `key of the certificate ${printable(files.key)}`;
  if (/^-----BEGIN ENCRYPTED|^Proc-Type: 4,ENCRYPTED/m.test(key.toString('latin1'))) {
    throw new BatonError('BATON_CERTIFICATE', 'is protected by a passphrase', {
      where: whereKey,
      hint: 'remove it: `openssl pkey -in FILE -out NEW`, and `chmod 600 NEW`',
    });
  }
  const secret = parsed<KeyObject>(whereKey, 'is not a private key as PEM', () =>
    createPrivateKey(key),
  );
  if (!first.checkPrivateKey(secret)) {
    throw new BatonError(
      'BATON_CERTIFICATE',
      `is not the key of the certificate ${printable(files.certificate)}`,
      {
        where: whereKey,
        hint: 'the first certificate in that file must be the one of this key, those that signed it follow',
      },
    );
  }
  parsed(where, 'cannot be used', () => createSecureContext({ cert, key, minVersion: OLDEST_TLS }));
  return { cert, key, warnings: validityWarnings(first, where) };
}

function parsed<Value>(where: string, message: string, parse: () => Value): Value {
  try {
    return parse();
  } catch (error) {
    throw new BatonError('BATON_CERTIFICATE', `${message}: ${printable(reasonOf(error))}`, {
      where,
      cause: error,
    });
  }
}

function readPublic(file: string, where: string): Buffer {
  try {
    return withRegularFile(file, (descriptor, { size }) => {
      if (size > MOST_BYTES) {
        throw new BatonError('BATON_CERTIFICATE', 'is larger than 1 MiB', { where });
      }
      return readFileSync(descriptor);
    });
  } catch (error) {
    if (error instanceof BatonError) throw error;
    throw new BatonError('BATON_CERTIFICATE', `cannot be read: ${whyUnreadable(error)}`, {
      where,
      cause: error,
    });
  }
}

function validityWarnings(certificate: X509Certificate, where: string): string[] {
  const now = Date.now();
  if (now < Date.parse(certificate.validFrom)) {
    return [`${where}: is valid only from ${certificate.validFrom} on`];
  }
  const end = Date.parse(certificate.validTo);
  if (now > end) return [`${where}: has ended on ${certificate.validTo}: clients refuse it`];
  return end - now < SOON_MS ? [`${where}: ends on ${certificate.validTo}`] : [];
}
