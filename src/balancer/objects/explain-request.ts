/** What `baton explain` asks: a URL becomes a virtual server and the head that a client sends. */
import type { ExplainQuery } from '../../api/documents.js';
import { BatonError } from '../../base/errors.js';
import { quoted } from '../../base/text.js';
import { type Address, formatEndpoint, MOST_PORT, parseAddress } from '../../wire/address.js';
import type { ServerSlot } from './farm.js';

const HTTP_PORT = 80;
/** Virtual servers that an error lists. */
const MOST_LISTED = 8;

export interface ExplainClient {
  address: Address;
  /** Undefined: not given. */
  port: number | undefined;
}

export interface AskedRequest {
  server: ServerSlot;
  /** The request head that a client sends for the URL. It may be one that the balancer refuses. */
  head: Uint8Array;
  client: ExplainClient | undefined;
}

/**
 * @param servers virtual servers that are not retired
 * @throws BatonError BATON_REQUEST for a query that is not valid, BATON_UNKNOWN when the URL leads
 *   to no virtual server, or to several
 */
export function askedRequest(
  { url, host, from }: ExplainQuery,
  servers: readonly ServerSlot[],
): AskedRequest {
  // A line break would begin another field.
  if (/[\r\n]/.test(url + (host ?? '')))
    throw new BatonError('BATON_REQUEST', 'a URL and a host have no line breaks', { where: 'url' });
  const { authority, target } = parseUrl(url);
  const server = findServer(authority, servers);
  const head = `GET ${target} HTTP/1.1\r\nHost: ${host ?? authority}\r\n\r\n`;
  return {
    server,
    head: Buffer.from(head, 'utf8'),
    client: from === undefined ? undefined : parseClient(from),
  };
}

/**
 * The authority (host and port), and the target: path and query. A fragment stays with a client.
 */
function parseUrl(url: string): { authority: string; target: string } {
  const [, scheme = '', authority = '', rest = ''] =
    /^(?:([a-z][a-z0-9+.-]*):\/\/)?([^/?#]*)([^#]*)/i.exec(url) ?? [];
  if (scheme.toLowerCase() !== 'http') {
    throw new BatonError('BATON_REQUEST', `${quoted(url)} is not an http URL`, {
      where: 'url',
      hint: 'such as http://10.99.0.100/images/cat.jpg',
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
  return { authority, target: rest.startsWith('/') ? rest : `/${rest}` };
}

/** The virtual server of an address and port, or of a host name: the only one with the port. */
function findServer(authority: string, servers: readonly ServerSlot[]): ServerSlot {
  const [, host = '', digits] = /^(.*?)(?::(\d{0,5}))?$/.exec(authority) ?? [];
  const port = digits === undefined || digits === '' ? HTTP_PORT : Number(digits);
  if (host.startsWith('[')) {
    throw new BatonError('BATON_REQUEST', `${quoted(authority)} is an IPv6 address`, {
      where: 'url',
      hint: 'virtual servers have IPv4 addresses',
    });
  }
  if (port === 0 || port > MOST_PORT || host.includes(':')) {
    throw new BatonError('BATON_REQUEST', `${quoted(authority)} has no valid port`, {
      where: 'url',
    });
  }
  const address = parseAddress(host);
  const atPort = servers.filter((server) => server.port === port);
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

function list(servers: readonly ServerSlot[]): string {
  const shown = servers
    .slice(0, MOST_LISTED)
    .map((server) => `${server.name} (${formatEndpoint(server)})`);
  const more = servers.length - shown.length;
  return `${servers.length === 1 ? 'is' : 'are'} ${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

function parseClient(from: string): ExplainClient {
  const [, host = '', digits] = /^([^:]*)(?::(\d{1,5}))?$/.exec(from) ?? [];
  const address = parseAddress(host);
  const port = digits === undefined ? undefined : Number(digits);
  if (address === undefined || (port !== undefined && (port === 0 || port > MOST_PORT))) {
    throw new BatonError('BATON_REQUEST', `${quoted(from)} is not the address of a client`, {
      where: 'from',
      hint: 'such as 192.0.2.7, or 192.0.2.7:40000',
    });
  }
  return { address, port };
}
