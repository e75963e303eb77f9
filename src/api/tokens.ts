/**
 * The tokens that open the API over TLS. A file has one in each line: NAME ROLE TOKEN. Only hashes
 * of them stay in memory, and no message ever contains a token.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { BatonError } from '../base/errors.js';
import { printable, quoted } from '../base/text.js';
import { readSecretFile } from '../config/secret-file.js';
import { nearest } from '../config/values.js';
import { ROLES, type Role } from './routes/route.js';

/** Random bytes of a new token. */
const TOKEN_BYTES = 32;
const LEAST_CHARACTERS = 32;
const MOST_CHARACTERS = 256;
/** Each call compares its token with all of them. */
const MOST_TOKENS = 256;
const MOST_FILE_BYTES = 128 * 1024;

/** The characters of RFC 6750 section 2.1. */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
/** Documents say by these names who has set the state of a node. */
const RESERVED: readonly string[] = ['local', 'config', 'balancer'];

export interface Token {
  readonly name: string;
  readonly role: Role;
  /** SHA-256. */
  readonly hash: Buffer;
}

export class Tokens {
  private readonly tokens: readonly Token[];

  constructor(tokens: readonly Token[]) {
    this.tokens = tokens;
  }

  /** The token with this text. It takes the same time whichever token that is, if it is one. */
  find(text: string): Token | undefined {
    const hash = hashOf(text);
    let found: Token | undefined;
    for (const token of this.tokens) {
      if (timingSafeEqual(token.hash, hash)) found = token;
    }
    return found;
  }

  /** Whether the token is there in the same form. */
  has(token: Token): boolean {
    return this.tokens.some(
      ({ name, role, hash }) =>
        name === token.name && role === token.role && hash.equals(token.hash),
    );
  }
}

/**
 * Reads a file of tokens.
 * @throws BatonError BATON_TOKEN with file and line for what is wrong in it
 */
export function readTokens(file: string): Tokens {
  const what = 'tokens file';
  const bytes = readSecretFile(file, {
    code: 'BATON_TOKEN',
    what,
    expected: 'a line NAME ROLE TOKEN for each token',
    absent: '`baton token NAME ROLE` prints a line for it',
    most: MOST_FILE_BYTES,
  });
  const name = `${what} ${printable(file)}`;
  if (bytes.length === MOST_FILE_BYTES) {
    throw new BatonError('BATON_TOKEN', `is longer than ${MOST_FILE_BYTES} bytes`, { where: name });
  }
  const tokens: Token[] = [];
  for (const [index, line] of bytes.toString('utf8').split('\n').entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const token = parseLine(line, tokens, (message, hint) => {
      const where = `${name}: line ${index + 1}`;
      throw new BatonError('BATON_TOKEN', message, {
        where,
        ...(hint === undefined ? {} : { hint }),
      });
    });
    tokens.push(token);
  }
  if (tokens.length === 0 || tokens.length > MOST_TOKENS) {
    const found = tokens.length === 0 ? 'has no token' : `has ${tokens.length} tokens`;
    throw new BatonError('BATON_TOKEN', `${found}, expected 1 to ${MOST_TOKENS}`, {
      where: name,
      hint: '`baton token NAME ROLE` prints a line for it',
    });
  }
  return new Tokens(tokens);
}

/** @param others the tokens of the lines above */
function parseLine(
  line: string,
  others: readonly Token[],
  refuse: (message: string, hint?: string) => never,
): Token {
  const words = line.trim().split(/\s+/);
  const [name = '', role = '', text = ''] = words;
  if (words.length !== 3) refuse(`has ${words.length} words, expected NAME ROLE TOKEN`);
  const problem = nameProblem(name);
  if (problem !== undefined) return refuse(problem);
  if (!isRole(role)) return refuse(roleProblem(role));
  if (text.length < LEAST_CHARACTERS || text.length > MOST_CHARACTERS || !TOKEN.test(text)) {
    refuse(
      `the token of ${name} is not valid, expected ${LEAST_CHARACTERS} to ${MOST_CHARACTERS} of the characters A-Z a-z 0-9 . _ ~ + / - =`,
      `\`baton token ${name} ${role}\` prints a line with a new one`,
    );
  }
  const hash = hashOf(text);
  for (const other of others) {
    if (other.name === name) refuse(`the name ${name} occurs twice, expected another name`);
    if (other.hash.equals(hash)) refuse(`has the same token as ${other.name}, expected another`);
  }
  return { name, role, hash };
}

/**
 * A new line for a file of tokens, with a token of the system's random numbers.
 * @throws BatonError BATON_ARGUMENT when name or role are not valid
 */
export function newTokenLine(name: string, role: string): string {
  const problem = nameProblem(name) ?? (isRole(role) ? undefined : roleProblem(role));
  if (problem !== undefined) throw new BatonError('BATON_ARGUMENT', problem);
  return `${name} ${role} ${randomBytes(TOKEN_BYTES).toString('base64url')}`;
}

function nameProblem(name: string): string | undefined {
  if (!NAME.test(name)) {
    return `the name is ${quoted(name)}, expected 1 to 63 letters, digits, ".", "_" and "-"`;
  }
  return RESERVED.includes(name)
    ? `the name is ${quoted(name)}, which Baton uses itself, expected another name`
    : undefined;
}

function isRole(role: string): role is Role {
  return (ROLES as readonly string[]).includes(role);
}

function roleProblem(role: string): string {
  const meant = nearest(role, ROLES);
  const expected =
    meant === undefined ? `expected ${ROLES.join(' or ')}` : `did you mean ${meant}?`;
  return `the role is ${quoted(role)}, ${expected}`;
}

function hashOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
