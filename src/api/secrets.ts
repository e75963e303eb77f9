/**
 * The files that the API over TLS needs: certificate with key, and tokens. Commands check them too,
 * so nothing of the server is imported here: loading it takes longer than most commands.
 */
import type { ApiConfig } from '../config/load.js';
import { type Certificate, readCertificate } from './certificate.js';
import { readTokens, type Tokens } from './tokens.js';

export interface Secrets {
  certificate: Certificate;
  tokens: Tokens;
}

/**
 * Reads the files.
 * @throws BatonError BATON_CERTIFICATE, BATON_TOKEN
 */
export function readSecrets(options: ApiConfig): Secrets {
  return { certificate: readCertificate(options), tokens: readTokens(options.tokens) };
}

/**
 * Reads certificate, key and tokens, and checks them. Throws as `readSecrets` does.
 * @returns warnings, a line each
 */
export function checkSecrets(options: ApiConfig): readonly string[] {
  return readSecrets(options).certificate.warnings;
}
