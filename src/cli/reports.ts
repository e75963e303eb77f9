/** The text that `baton stats`, `baton sessions` and `baton check` print. */

import type { ResourceList, SessionList } from '../api/client.js';
import type { Loss, StatsDocument } from '../api/documents.js';
import { formatCount, formatDuration } from '../base/format.js';
import { STAGE_NAMES } from '../base/stages.js';
import { formatTable } from '../base/table.js';
import { printable } from '../base/text.js';
import { resourceName } from '../config/edit.js';
import type { BalancerConfig, Config, NodeConfig } from '../config/load.js';
import { formatListener } from '../config/ports.js';
import { formatPlace, serverSummary } from '../config/virtual-server.js';
import { formatAddress, formatEndpoint, formatNodeAddress } from '../wire/address.js';
import { nodeWhy } from './node-why.js';

/** @param most characters that fit on a line. Default: tables are as wide as their content. */
export function renderStats(stats: StatsDocument, most?: number): string {
  const { sessions, notOffered = [], losses = [] } = stats;
  const counted = Object.entries(stats.counters).filter(([, value]) => value !== 0);
  const silent = Object.keys(stats.counters).length - counted.length;
  const virtualServers = formatTable(
    [
      { title: 'VIRTUAL SERVER' },
      { title: 'ADDRESS' },
      { title: 'MODE' },
      { title: 'PREDICTOR' },
      { title: 'STATE' },
      { title: 'SESSIONS', align: 'right' },
    ],
    stats.virtualServers.map((server) => [
      server.name,
      formatListener(
        server.address,
        server.ports ?? [{ from: server.port, to: server.port }],
        server.transport ?? 'tcp',
      ),
      [server.mode ?? '', server.protocol ?? ''].join(' ').trim(),
      server.predictor,
      server.state ?? '',
      formatCount(server.active),
    ]),
  );
  const nodes = formatTable(
    [
      { title: 'NODE' },
      { title: 'ADDRESS' },
      { title: 'MAC' },
      { title: 'STATE' },
      { title: 'ACTIVE', align: 'right' },
      { title: 'HELD', align: 'right' },
      { title: 'ADOPTED', align: 'right' },
      { title: 'REPORT', align: 'right' },
      { title: 'WHY', shortens: true },
    ],
    stats.nodes.map((node) => [
      node.name,
      node.address,
      node.mac ?? '',
      node.state,
      formatCount(node.active),
      formatCount(node.held),
      formatCount(node.adopted),
      node.lastReportMs === null ? '' : formatDuration(node.lastReportMs),
      nodeWhy(node, stats.startedAt + stats.uptimeMs),
    ]),
    most,
  );
  const counters = formatTable(
    [{ title: 'COUNTER' }, { title: 'VALUE', align: 'right' }],
    counted.map(([name, value]) => [name, formatCount(value)]),
  );
  const left =
    silent === 0 ? '' : `\n(${silent} more ${silent === 1 ? 'counter is' : 'counters are'} 0)`;
  return [
    printable(
      `Baton ${stats.version} on ${stats.interface}, datapath ${stats.datapath}, up ${formatDuration(stats.uptimeMs)}`,
    ) + captureHint(stats.datapath),
    virtualServers,
    nodes,
    ...forwardedLines(stats),
    ...notOffered.map((line) => printable(`not offered to clients: ${line}`)),
    `sessions: ${formatCount(sessions.total - sessions.closing)} (half-open ${formatCount(sessions.halfOpen)}, collecting ${formatCount(sessions.collecting)}, handing ${formatCount(sessions.handing)}, passing ${formatCount(sessions.passing)}, answering ${formatCount(sessions.answering)}); ended, kept for late packets: ${formatCount(sessions.closing)}`,
    ...(losses.length === 0 ? [] : [losses.map(lossLine).join('\n')]),
    ...(stats.stages.length === 0 ? [] : [stats.stages.map(stageLine).join('\n')]),
    counters + left,
  ].join('\n\n');
}

/** What was forwarded for virtual servers with mode forward: a line each. */
function forwardedLines({ virtualServers }: StatsDocument): string[] {
  const lines = virtualServers.flatMap(({ name, forwarded }) => {
    if (forwarded === undefined) return [];
    const { packets, bytes, flows } = forwarded;
    return [
      `forwarded for ${name}: ${formatCount(packets)} packets, ${formatCount(bytes)} bytes, ${formatCount(flows)} flows`,
    ];
  });
  return lines.length === 0 ? [] : [lines.join('\n')];
}

/** A hint for an operator who would look for packets with tcpdump. */
function captureHint(datapath: string): string {
  if (!datapath.startsWith('xdp')) return '';
  return '\n(tcpdump on this machine does not see the packets of the XDP program: use `baton capture`)';
}

function lossLine({ counter, total, agoMs, what, remedy }: Loss): string {
  return printable(
    `warning: ${counter}: ${formatCount(total)} ${what}, the last ${formatDuration(agoMs)} ago: ${remedy}`,
  );
}

/** How a thread has spent its time since the start: shares of the stages, and time per frame. */
function stageLine({
  worker,
  nanoseconds,
  batches,
  frames,
}: StatsDocument['stages'][number]): string {
  const all = STAGE_NAMES.reduce((sum, name) => sum + nanoseconds[name], 0);
  const shares = STAGE_NAMES.map(
    (name) => `${name} ${((nanoseconds[name] / Math.max(1, all)) * 100).toFixed(1)} %`,
  ).join(', ');
  const busy = all - nanoseconds.waiting;
  const perFrame =
    frames === 0
      ? ''
      : `; ${formatCount(busy / frames)} ns/frame, ${(frames / batches).toFixed(1)} frames/batch`;
  return `time of engine thread ${worker}: ${shares}${perFrame}`;
}

/** @param most as in renderStats */
export function renderSessions(list: SessionList, most?: number): string {
  if (list.sessions.length === 0) return 'no sessions';
  const parks = list.sessions.some(({ parked }) => parked !== undefined);
  const table = formatTable(
    [
      { title: 'CLIENT' },
      { title: 'SERVER' },
      { title: 'STATE' },
      { title: 'NODE' },
      { title: 'AGE', align: 'right' },
      { title: 'IDLE', align: 'right' },
      { title: 'PACKETS', align: 'right' },
      { title: 'MOVES', align: 'right' },
      ...(parks ? [{ title: 'PARKED', shortens: true as const }] : []),
      { title: 'REQUEST', shortens: true },
    ],
    list.sessions.map((row) => [
      row.client,
      row.virtualServer,
      row.state,
      row.node,
      formatDuration(row.ageMs),
      formatDuration(row.idleMs),
      formatCount(row.packets),
      formatCount(row.moves),
      ...(parks ? [row.parked?.join(' ') ?? ''] : []),
      row.request,
    ]),
    most,
  );
  if (list.sessions.length >= list.total) return table;
  return `${table}\n(${formatCount(list.sessions.length)} of ${formatCount(list.total)} sessions; --limit N shows more)`;
}

/** @param most as in renderStats */
export function renderResources({ resources, total }: ResourceList, most?: number): string {
  const owned = resources.some(({ virtualServer }) => virtualServer !== undefined);
  const table = formatTable(
    [
      ...(owned ? [{ title: 'VIRTUAL SERVER' }] : []),
      { title: 'HOST' },
      { title: 'PATH' },
      { title: 'STATE' },
      { title: 'UP', align: 'right' },
      { title: 'REQUESTS', align: 'right' },
      { title: 'HOLDERS', shortens: true },
    ],
    resources.map(({ virtualServer = '-', host, path, state, up, requests, nodes }) => [
      ...(owned ? [virtualServer] : []),
      host ?? 'any',
      path,
      state,
      `${up} of ${nodes.length}`,
      formatCount(requests),
      nodes.join(', '),
    ]),
    most,
  );
  if (resources.length >= total) return table;
  return `${table}\n(${formatCount(resources.length)} of ${formatCount(total)} resources; --limit N shows more)`;
}

export function renderCheck(config: Config): string {
  const lines = config.kind === 'balancer' ? balancerLines(config) : nodeLines(config);
  const width = Math.max(...lines.map(([title]) => title.length));
  return [
    `${printable(config.file)}: the config of a ${config.kind}`,
    ...lines.map(([title, text]) => `  ${title.padEnd(width)}  ${printable(text)}`),
  ].join('\n');
}

/** Most entries of a list that are shown. */
const SHOWN = 8;

function some(title: string, texts: readonly string[]): [string, string][] {
  // A line "and 1 more" would take as much room as that entry.
  const shown = texts.length === SHOWN + 1 ? texts.length : SHOWN;
  const lines = texts
    .slice(0, shown)
    .map((text, index): [string, string] => [index === 0 ? title : '', text]);
  if (texts.length > shown) lines.push(['', `and ${formatCount(texts.length - shown)} more`]);
  return lines;
}

function common(config: Config): [string, string][] {
  return [
    ['interface', config.interface],
    [
      'own address',
      config.address === undefined
        ? 'the first address of the interface'
        : formatAddress(config.address),
    ],
    ['key file', config.keyFile],
  ];
}

function balancerLines(config: BalancerConfig): [string, string][] {
  const { api, metrics, accessLog } = config;
  return [
    ...common(config),
    ...some(
      'node interface',
      config.nodeInterface === undefined ? [] : [config.nodeInterface.name],
    ),
    ['datapath', config.datapath],
    ['control socket', config.controlSocket],
    ...some(
      'virtual servers',
      config.virtualServers.map(
        (server) =>
          `${server.name}  ${formatPlace(server)}, ${serverSummary(server, config.nodes)}`,
      ),
    ),
    ...some(
      'nodes',
      config.nodes.map(
        ({ name, address, weight }) => `${name}  ${formatNodeAddress(address)}, weight ${weight}`,
      ),
    ),
    ...some(
      'resources',
      config.resources.map(
        (resource) =>
          `${resourceName(resource)}  ${resource.nodes.map((node) => config.nodes[node]?.name).join(', ')}`,
      ),
    ),
    ...some(
      'API',
      api === undefined
        ? []
        : [
            `${formatEndpoint(api.listen)}, with TLS`,
            `certificate ${api.certificate}`,
            `key ${api.key}`,
            `tokens ${api.tokens}`,
          ],
    ),
    ...some('metrics', metrics === undefined ? [] : [formatEndpoint(metrics.listen)]),
    ...some(
      'access log',
      accessLog === undefined ? [] : [`${accessLog.file}, ${accessLog.format}`],
    ),
  ];
}

function nodeLines(config: NodeConfig): [string, string][] {
  const { listen } = config;
  return [
    ...common(config),
    ...some('virtual addresses', config.virtualAddresses.map(formatAddress)),
    ...some('balancers', config.balancers.map(formatAddress)),
    [
      'web server',
      listen === undefined
        ? 'listens on the virtual address, or on any address'
        : `listens on ${formatEndpoint(listen)}`,
    ],
  ];
}
