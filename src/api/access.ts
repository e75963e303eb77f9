/** Who calls the API, and what the caller may do. */
import type { FastifyRequest } from 'fastify';
import type { PlainLog } from '../base/log.js';
import { TokenBucket } from '../base/token-bucket.js';
import { LOCAL_ACTOR } from './control.js';
import type { ApiCounters } from './counters.js';
import { RequestError } from './errors.js';
import type { Role } from './routes/route.js';
import type { Token, Tokens } from './tokens.js';

export interface Caller {
  /** `LOCAL_ACTOR`, or the name of a token. */
  readonly actor: string;
  /** Absent on the unix socket. */
  readonly token?: Token;
}

/** What a route demands of its caller. */
export interface Demand {
  readonly role: Role;
  readonly local: boolean;
}

/** Decides who calls. Throws RequestError for a call without rights. */
export interface Access {
  /** @param demand of the route; undefined when there is no such route */
  admit(request: FastifyRequest, demand: Demand | undefined): Caller;
}

/** Whoever can open the unix socket may do everything. */
export const LOCAL_ACCESS: Access = { admit: () => ({ actor: LOCAL_ACTOR }) };

/** Calls need a token. */
export class TokenAccess implements Access {
  tokens: Tokens;
  private readonly counters: ApiCounters;
  private readonly log: PlainLog;
  private readonly bucket = new TokenBucket(1, 1);
  /** Failed calls since the last line about them. */
  private unsaid = 0;

  constructor(tokens: Tokens, counters: ApiCounters, log: PlainLog) {
    this.tokens = tokens;
    this.counters = counters;
    this.log = log;
  }

  admit(request: FastifyRequest, demand: Demand | undefined): Caller {
    const [, text] = /^Bearer ([^\s]{1,1024})$/i.exec(request.headers.authorization ?? '') ?? [];
    const token = text === undefined ? undefined : this.tokens.find(text);
    if (token === undefined) {
      this.counters.add('api_no_token');
      this.note(request.socket.remoteAddress);
      const message = text === undefined ? 'the call has no token' : 'the token is not valid';
      throw new RequestError(401, 'BATON_TOKEN', message, {
        where: 'Authorization',
        hint: 'send `Authorization: Bearer TOKEN` with a token of the tokens file',
      });
    }
    if (demand === undefined) return { actor: token.name, token };
    if (demand.role === 'admin' && token.role !== 'admin') {
      this.counters.add('api_no_right');
      throw new RequestError(403, 'BATON_TOKEN', `token ${token.name} may only read`, {
        hint: 'this call needs a token with the role admin',
      });
    }
    if (demand.local) {
      throw new RequestError(403, 'BATON_TOKEN', 'this call is possible only on the unix socket');
    }
    return { actor: token.name, token };
  }

  /** One line a second at most: an attack must not fill the log. */
  private note(address: string | undefined): void {
    this.unsaid += 1;
    if (!this.bucket.take(performance.now())) return;
    const calls = this.unsaid === 1 ? 'a call' : `${this.unsaid} calls`;
    this.log.warn(`API: ${calls} without a valid token, the last from ${address ?? 'nowhere'}`);
    this.unsaid = 0;
  }
}
