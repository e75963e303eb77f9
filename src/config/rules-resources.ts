/**
 * The rules of resources: patterns are valid and differ, nodes exist, and a key has a virtual
 * server that it is for.
 */
import { BatonError } from '../base/errors.js';
import { quoted } from '../base/text.js';
import { hostProblem, pathProblem, patternKey } from '../directory/pattern.js';
import { rewriteProblem } from '../directory/rewrite.js';
import { checkHolders, type Entry, entries } from './rules-parts.js';
import { SERVER_DEFAULTS } from './schema-objects.js';
import type { KeyPath, Source } from './source.js';

/**
 * @param servers the entries of `virtualServers`
 * @param known names of the nodes, @param used gets those that hold a resource
 */
export function checkResources(
  source: Source,
  resources: unknown,
  servers: readonly Entry[],
  known: ReadonlySet<string>,
  used: Set<string>,
): void {
  const common = servers.filter(({ entry }) => entry.resources === undefined);
  checkList(source, resources, ['resources'], common, known, used);
  const protocols = protocolsOf(common);
  if (Array.isArray(resources) && resources.length > 0 && common.length < servers.length) {
    if (!protocols.has('http') && !protocols.has('tls')) {
      const what = 'are for no virtual server: each that reads requests has resources of its own';
      source.warn(['resources'], what);
    }
  }
  for (const server of servers) {
    const { entry, at } = server;
    if (entry.resources !== undefined)
      checkList(source, entry.resources, [...at, 'resources'], [server], known, used);
  }
}

/** By protocol that virtual servers with mode handoff have: the name of the first of them. */
function protocolsOf(servers: readonly Entry[]): Map<unknown, unknown> {
  const protocols = new Map<unknown, unknown>();
  for (const { entry } of servers) {
    const protocol = entry.protocol ?? SERVER_DEFAULTS.protocol;
    if (entry.mode !== 'forward' && !protocols.has(protocol)) protocols.set(protocol, entry.name);
  }
  return protocols;
}

/** Checks the list at `path`, which is for these virtual servers. */
function checkList(
  source: Source,
  resources: unknown,
  path: KeyPath,
  servers: readonly Entry[],
  known: ReadonlySet<string>,
  used: Set<string>,
): void {
  const protocols = protocolsOf(servers);
  const needing = ['http', 'tls'].find((protocol) => protocols.has(protocol));
  if (needing !== undefined && Array.isArray(resources) && resources.length === 0) {
    const name = quoted(String(protocols.get(needing)));
    source.wrong(
      path,
      `is empty, expected at least one: virtual server ${name} finds nodes by them`,
    );
  }
  const listed = entries(resources, path);
  if (
    protocols.has('tls') &&
    !listed.some(({ entry }) => entry.path === '/') &&
    listed.length > 0
  ) {
    const name = quoted(String(protocols.get('tls')));
    source.warn(
      path,
      `virtual server ${name} has protocol: tls, but no resource has the path "/", the only one that TLS connections reach: add one for each host`,
    );
  }
  const places = new Map<string, number>();
  const sticky = servers.find(({ entry }) => isSticky(entry))?.entry.name;
  for (const [index, { entry, at }] of listed.entries()) {
    if (entry.rewrite !== undefined && sticky !== undefined) {
      const name = quoted(String(sticky));
      source.warn(
        [...at, 'rewrite'],
        `applies only to the first request of each connection of virtual server ${name}: give it keepAlive: migrate`,
      );
    }
    checkPattern(source, entry, at, index, places);
    checkAlpn(source, entry, at, protocols);
    checkRewrite(source, entry, at, protocols);
    checkHolders(source, entry.nodes, [...at, 'nodes'], known, used);
  }
}

/** Whether later requests of a connection are not read. */
function isSticky({ mode, protocol, keepAlive }: Entry['entry']): boolean {
  const defaults = SERVER_DEFAULTS;
  if ((mode ?? defaults.mode) !== 'handoff' || (protocol ?? defaults.protocol) !== 'http')
    return false;
  return (keepAlive ?? defaults.keepAlive) === 'sticky';
}

/** @param protocols of the virtual servers with mode handoff */
function checkAlpn(
  source: Source,
  { alpn, path, rewrite }: Entry['entry'],
  at: KeyPath,
  protocols: ReadonlyMap<unknown, unknown>,
): void {
  if (alpn === undefined) return;
  const wrong = (text: string) => source.wrong([...at, 'alpn'], text, 'key');
  if (!protocols.has('tls'))
    wrong('is set, but no virtual server has protocol: tls: add one, or remove it');
  else if (rewrite !== undefined)
    wrong('is set beside rewrite, which changes only requests in clear: remove one of both');
  else if (path !== '/')
    wrong('is set, but TLS hides the path: expected the path "/", or remove it');
  if (!Array.isArray(alpn)) return;
  for (const [index, name] of alpn.entries()) {
    if (typeof name === 'string' && alpn.indexOf(name) < index) {
      const what = `is ${quoted(name)} again`;
      source.wrong([...at, 'alpn', index], `${what}, expected each protocol only once`);
    }
  }
}

/** @param protocols of the virtual servers with mode handoff */
function checkRewrite(
  source: Source,
  { rewrite, path }: Entry['entry'],
  at: KeyPath,
  protocols: ReadonlyMap<unknown, unknown>,
): void {
  if (rewrite === undefined) return;
  const where = [...at, 'rewrite'];
  if (!protocols.has('http')) {
    const what = 'is set, but no virtual server has protocol: http';
    source.wrong(where, `${what}: add one, or remove it`, 'key');
  }
  if (typeof rewrite !== 'string') return;
  const problem = rewriteProblem(rewrite, typeof path !== 'string' || path.endsWith('/'));
  if (problem !== undefined) source.wrong(where, `is ${quoted(rewrite)}: ${problem}`);
}

function checkPattern(
  source: Source,
  { host, path, alpn }: Entry['entry'],
  at: KeyPath,
  index: number,
  places: Map<string, number>,
): void {
  const hostIsWrong = typeof host === 'string' ? hostProblem(host) : undefined;
  const pathIsWrong = typeof path === 'string' ? pathProblem(path) : undefined;
  if (hostIsWrong !== undefined)
    source.wrong([...at, 'host'], `is ${quoted(String(host))}: ${hostIsWrong}`);
  if (pathIsWrong !== undefined)
    source.wrong([...at, 'path'], `is ${quoted(String(path))}: ${pathIsWrong}`);
  if (hostIsWrong !== undefined || pathIsWrong !== undefined || typeof path !== 'string') return;
  if (path.includes('*')) {
    source.warn(
      [...at, 'path'],
      'contains "*", which matches only itself; to match all paths below a path, end it with "/"',
    );
  }
  if (host !== undefined && typeof host !== 'string') return;
  const names: unknown[] = Array.isArray(alpn) ? alpn : [undefined];
  for (const name of names) {
    let key: string;
    try {
      key = patternKey({ host, path, alpn: typeof name === 'string' ? [name] : undefined });
    } catch (error) {
      if (!(error instanceof BatonError)) throw error;
      source.wrong(
        [...at, 'path'],
        `is ${quoted(path)}, which has no normal form, expected a valid path`,
      );
      return;
    }
    const earlier = places.get(key);
    if (earlier === undefined) places.set(key, index);
    else if (earlier !== index) {
      const what =
        name === undefined ? 'host and path' : `host, path and alpn ${quoted(String(name))}`;
      source.wrong(
        [...at, 'path'],
        `has the same ${what} as resources[${earlier}], expected each ${name === undefined ? 'pair ' : ''}only once`,
      );
      return;
    }
  }
}
