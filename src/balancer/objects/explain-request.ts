/**
 * What `baton explain` asks: a URL becomes a virtual server, and the bytes that a client sends
 * first.
 */
import type { ExplainQuery } from '../../api/documents.js';
import { BatonError } from '../../base/errors.js';
import { quoted } from '../../base/text.js';
import { formatPlace } from '../../config/virtual-server.js';
import { makeHello } from '../../request/tls/make-hello.js';
import {
  type Address,
  formatEndpoint,
  isAddress6,
  MOST_PORT,
  parseAddress,
} from '../../wire/address.js';
import type { ServerSlot } from './farm.js';

interface Scheme {
  protocol: ServerSlot['protocol'];
  transport: ServerSlot['transport'];
  port: number | undefined;
}

/** What each scheme is for, and its usual port; undefined: the URL must have one. */
const SCHEMES: Readonly<Record<string, Scheme>> = {
  http: { protocol: 'http', transport: 'tcp', port: 80 },
  https: { protocol: 'tls', transport: 'tcp', port: 443 },
  tcp: { protocol: 'tcp', transport: 'tcp', port: undefined },
  udp: { protocol: 'tcp', transport: 'udp', port: undefined },
};
/** What browsers offer. */
const USUAL_PROTOCOLS = ['h2', 'http/1.1'];
/** Virtual servers that an error lists. */
const MOST_LISTED = 8;

export interface ExplainClient {
  address: Address;
  /** Undefined: not given. */
  port: number | undefined;
}

export interface AskedRequest {
  server: ServerSlot;
  /**
   * What a client sends for the URL, as far as `server.protocol` says that it is read: a request
   * head, or a ClientHello. It may be one that the balancer refuses.
   */
  first: Uint8Array;
  port: number;
  client: ExplainClient | undefined;
}

/**
 * @param servers virtual servers that are not retired
 * @throws BatonError BATON_REQUEST for a query that is not valid, BATON_UNKNOWN when the URL leads
 *   to no virtual server, to several, or to one with another protocol
 */
export function askedRequest(query: ExplainQuery, servers: readonly ServerSlot[]): AskedRequest {
  const { url, host, from } = query;
  // A line break would begin another field.
  if (/[\r\n]/.test(url + (host ?? '')))
    throw new BatonError('BATON_REQUEST', 'a URL and a host have no line breaks', { where: 'url' });
  const asked = parseUrl(url);
  const server = findServer(asked, servers);
  const reads = server.mode === 'handoff';
  if (reads && server.protocol !== asked.protocol) throw otherProtocol(url, server);
  return {
    server,
    first: reads ? firstBytes(query, asked) : new Uint8Array(0),
    port: asked.port,
    client: from === undefined ? undefined : parseClient(from),
  };
}

interface AskedUrl extends Pick<Scheme, 'protocol' | 'transport'> {
  /** Host and port, as in the URL. */
  authority: string;
  /** Undefined: the URL has a name. */
  address: Address | undefined;
  host: string;
  port: number;
  /** Path and query. */
  target: string;
}

function firstBytes({ url, host, alpn }: ExplainQuery, asked: AskedUrl): Uint8Array {
  if (alpn !== undefined && asked.protocol !== 'tls') {
    throw new BatonError('BATON_REQUEST', `${quoted(url)} has no ALPN`, {
      where: 'alpn',
      hint: 'only https URLs have it',
    });
  }
  switch (asked.protocol) {
    case 'tls': {
      // RFC 6066 section 3: a client that only knows an address names no server.
      const name = host ?? (asked.address === undefined ? asked.host : undefined);
      return makeHello(name, parseProtocols(alpn));
    }
    case 'tcp':
      return new Uint8Array(0);
    default: {
      const fields = `Host: ${host ?? asked.authority}`;
      return Buffer.from(`GET ${asked.target} HTTP/1.1\r\n${fields}\r\n\r\n`, 'utf8');
    }
  }
}

/** Names of protocols with commas between them; empty: none. */
function parseProtocols(alpn: string | undefined): readonly string[] {
  if (alpn === undefined) return USUAL_PROTOCOLS;
  const names = alpn === '' ? [] : alpn.split(',').map((name) => name.trim());
  if (names.every((name) => /^[!-~]{1,255}$/.test(name))) return names;
  throw new BatonError('BATON_REQUEST', `${quoted(alpn)} is not a list of protocols`, {
    where: 'alpn',
    hint: 'such as h2,http/1.1',
  });
}

/** A fragment stays with a client. */
function parseUrl(url: string): AskedUrl {
  const [, scheme = '', authority = '', rest = ''] =
    /^(?:([a-z][a-z0-9+.-]*):\/\/)?([^/?#]*)([^#]*)/i.exec(url) ?? [];
  const known = SCHEMES[scheme.toLowerCase()];
  if (known === undefined) {
    throw new BatonError('BATON_REQUEST', `${quoted(url)} is not an http, https, tcp or udp URL`, {
      where: 'url',
      hint: 'such as http://10.99.0.100/images/cat.jpg or https://www.example.org',
    });
  }
  if (authority === '')
    throw new BatonError('BATON_REQUEST', `${quoted(url)} names no host`, { where: 'url' });
  if (authority.includes('@')) {
    throw new BatonError('BATON_REQUEST', `${quoted(url)} has a user name`, {
      where: 'url',
      hint: 'leave out what is before the @: requests do not have it in their URL',
    });
  }
  const [, literal, name = '', digits] =
    /^(?:\[([^\]]*)\]|(.*?))(?::(\d{0,5}))?$/.exec(authority) ?? [];
  const host = literal ?? name;
  const port = digits === undefined || digits === '' ? known.port : Number(digits);
  const address = parseAddress(host);
  if (literal !== undefined && (address === undefined || !isAddress6(address))) {
    throw new BatonError('BATON_REQUEST', `${quoted(authority)} is not an IPv6 address`, {
      where: 'url',
    });
  }
  if (port === undefined || port === 0 || port > MOST_PORT || name.includes(':')) {
    throw new BatonError('BATON_REQUEST', `${quoted(authority)} has no valid port`, {
      where: 'url',
    });
  }
  const target = rest.startsWith('/') ? rest : `/${rest}`;
  const { protocol, transport } = known;
  return { protocol, transport, authority, address, host, port, target };
}

/** The virtual server of an address and port, or of a host name: the only one with the port. */
function findServer(asked: AskedUrl, servers: readonly ServerSlot[]): ServerSlot {
  const { address, port } = asked;
  const atPort = servers.filter(
    ({ transport, ports }) =>
      transport === asked.transport && ports.some(({ from, to }) => from <= port && port <= to),
  );
  const found = atPort.filter((server) => address === undefined || server.address === address);
  const [first] = found;
  if (first !== undefined && found.length === 1) return first;
  const what =
    first === undefined
      ? address === undefined
        ? `no virtual server has the port ${port}`
        : `no virtual server is at ${formatEndpoint({ address, port })}`
      : `several virtual servers have the port ${port}`;
  throw new BatonError('BATON_UNKNOWN', what, {
    where: 'url',
    hint: `${first === undefined ? '' : 'put the address into the URL, and the name into host; '}there ${list(first === undefined ? servers : found)}`,
  });
}

function otherProtocol(url: string, { name, protocol }: ServerSlot): BatonError {
  const scheme = Object.keys(SCHEMES).find((each) => SCHEMES[each]?.protocol === protocol);
  const what = `virtual server ${quoted(name)} has the protocol ${protocol}, which ${quoted(url)} does not ask for`;
  return new BatonError('BATON_UNKNOWN', what, {
    where: 'url',
    hint: `ask with a ${scheme}:// URL`,
  });
}

function list(servers: readonly ServerSlot[]): string {
  const shown = servers
    .slice(0, MOST_LISTED)
    .map((server) => `${server.name} (${formatPlace(server)})`);
  const more = servers.length - shown.length;
  return `${servers.length === 1 ? 'is' : 'are'} ${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

function parseClient(from: string): ExplainClient {
  // An IPv6 address with a port is in brackets.
  const [, literal, name, digits] = /^(?:\[([^\]]*)\]|([^:]*))(?::(\d{1,5}))?$/.exec(from) ?? [];
  const address = parseAddress(literal ?? name ?? from);
  const port = digits === undefined ? undefined : Number(digits);
  if (address === undefined || (port !== undefined && (port === 0 || port > MOST_PORT))) {
    throw new BatonError('BATON_REQUEST', `${quoted(from)} is not the address of a client`, {
      where: 'from',
      hint: 'such as 192.0.2.7, or 192.0.2.7:40000',
    });
  }
  return { address, port };
}
