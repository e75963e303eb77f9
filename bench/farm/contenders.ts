/**
 * Everything that is compared, side by side on one wire. All of it is started before the first
 * measurement and runs to the end: what is not asked for costs next to nothing (`idleShare` of the
 * results).
 *
 *     client      wrk
 *     balancer    Baton, datapath packet        -> n1
 *     batonx      Baton, datapath xdp           -> n1
 *     proxy       HAProxy and nginx, each twice -> n2
 *     bare        an XDP program                -> n2
 *     n1, n2      nginx; on n1 the agent, too
 *
 * So the node that is asked directly, and by everybody else, has nothing of Baton: what the agent's
 * shim costs is part of what Baton costs.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { stringify } from 'yaml';
import { curl } from '../../lab/clients/curl.js';
import { BALANCER_ADDRESS, VIRTUAL_ADDRESS } from '../../lab/farm/addresses.js';
import { batonCommand } from '../../lab/farm/baton.js';
import { Farm } from '../../lab/farm/farm.js';
import type { Host } from '../../lab/farm/host.js';
import { type Program, run } from '../../lab/farm/process.js';
import { attach, attachCommand } from './attach.js';
import { PROXIES, type ProxyId, startProxies } from './proxies.js';

export type ContenderId = 'direct' | ProxyId | 'bare' | 'packet' | 'xdp';

export interface Contender {
  id: ContenderId;
  name: string;
  /** What it is and how it is set up. */
  how: string;
  /** address:port */
  at: string;
  /** The same for long answers, where that is another. */
  atLong?: string;
  /** The machine between client and node. */
  between?: Host;
  /** Why it could not be started. */
  left?: string;
}

export interface Contest {
  farm: Farm;
  /** Those that work. */
  contenders: Contender[];
  absent: Contender[];
  /** The one whose memory is measured: the tuned one, for short answers. */
  haproxy: Program;
}

const BATON_XDP_ADDRESS = '10.99.0.10';
const XDP_VIRTUAL_ADDRESS = '10.99.0.101';
const BARE_VIRTUAL_ADDRESS = '10.99.0.102';
const RESOURCES = [{ path: '/', nodes: ['n1'] }];
/** As long as the kernel lets it be: a burst of new connections is not what is measured. */
const BACKLOG = 4096;
const READY_MS = 20_000;

/**
 * A machine that opens thousands of connections a second from one address to another has tens of
 * thousands of them in TIME-WAIT. With the ports that are usual it soon has none left, and before
 * that connect() searches ever longer for one.
 */
const MORE_PORTS =
  'cd /proc/sys/net/ipv4 && echo 1024 65535 > ip_local_port_range && echo 1 > tcp_tw_reuse';

/** Answers of so many bytes are long. */
const LONG_BYTES = 65_536;

export function urlOf(contender: Contender, file: string, bytes: number): string {
  const at = bytes >= LONG_BYTES ? (contender.atLong ?? contender.at) : contender.at;
  return `http://${at}/${file}`;
}

/** Sets everything up. The farm is the caller's to stop; it is stopped here when that fails. */
export async function startContest(): Promise<Contest> {
  const farm = await Farm.create({
    nodes: 2,
    // What a balancer between machines costs: XDP in its driver, and frames as they come from a
    // card.
    cards: true,
    others: { batonx: 10, bare: 11, proxy: 12 },
    web: [{ backlog: BACKLOG }, { backlog: BACKLOG }],
    agents: [
      {
        virtualAddresses: [VIRTUAL_ADDRESS, XDP_VIRTUAL_ADDRESS],
        balancers: [BALANCER_ADDRESS, BATON_XDP_ADDRESS],
      },
    ],
  });
  try {
    await preparePorts(farm);
    await farm.startWebs();
    const n2 = farm.host('n2');
    const haproxy = await startProxies(farm, n2.address);
    await startPacket(farm);
    const contenders: Contender[] = [
      {
        id: 'direct',
        name: 'direct',
        how: 'the client asks node n2 itself',
        at: `${n2.address}:80`,
      },
      ...proxyContenders(farm),
      await startBare(farm),
      {
        id: 'packet',
        name: 'Baton packet',
        how: 'Baton, `datapath: packet`',
        at: `${VIRTUAL_ADDRESS}:80`,
        between: farm.balancer,
      },
      await startXdp(farm),
    ];
    return {
      farm,
      contenders: contenders.filter(({ left }) => left === undefined),
      absent: contenders.filter(({ left }) => left !== undefined),
      haproxy,
    };
  } catch (error) {
    await farm.stop();
    throw error;
  }
}

function proxyContenders(farm: Farm): Contender[] {
  const between = farm.host('proxy');
  return PROXIES.map(({ id, name, how, port, longPort }) => ({
    id,
    name,
    how,
    at: `${between.address}:${port}`,
    ...(longPort === undefined ? {} : { atLong: `${between.address}:${longPort}` }),
    between,
  }));
}

/**
 * A veth takes what XDP sends back out of its peer only while a program runs on itself as well.
 * That one lets everything pass; but the machine behind it has to cut long segments in software
 * then. So it is put only where it must be: the machines that send long answers, the proxies among
 * them, keep that offload. GRO, which makes a veth poll, is on at every port.
 */
async function preparePorts(farm: Farm): Promise<void> {
  for (const { name } of farm.hosts) {
    await inSwitch(farm, ['ethtool', '-K', name, 'gro', 'on']);
  }
  for (const name of ['batonx', 'bare']) {
    await inSwitch(farm, attachCommand({ program: 'pass_all', device: name }));
  }
  await farm.client.run('sh', ['-c', MORE_PORTS]);
}

async function inSwitch(farm: Farm, argv: readonly string[]): Promise<void> {
  await run('nsenter', [`--net=/run/netns/${farm.tag}-switch`, '--', ...argv]);
}

async function startPacket(farm: Farm): Promise<void> {
  const n1 = farm.host('n1');
  farm.configureBalancer(RESOURCES, {
    datapath: 'packet',
    nodes: [{ name: n1.name, address: n1.address }],
  });
  await Promise.all([farm.startBalancer(), farm.startNode(0)]);
  await farm.waitNodesUp(1);
}

async function startXdp(farm: Farm): Promise<Contender> {
  const host = farm.host('batonx');
  const n1 = farm.host('n1');
  const contender: Contender = {
    id: 'xdp',
    name: 'Baton xdp',
    how: 'Baton, `datapath: xdp`',
    at: `${XDP_VIRTUAL_ADDRESS}:80`,
    between: host,
  };
  const file = path.join(farm.directory, 'xdp.yaml');
  const config = {
    interface: 'eth0',
    datapath: 'xdp',
    keyFile: 'key.hex',
    controlSocket: 'xdp.sock',
    virtualServers: [
      { name: 'www', address: XDP_VIRTUAL_ADDRESS, port: 80, predictor: 'round-robin' },
    ],
    nodes: [{ name: n1.name, address: n1.address }],
    resources: RESOURCES,
  };
  writeFileSync(file, stringify(config));
  const program = host.start('batonx', batonCommand(['balancer', '-c', file]));
  try {
    await program.waitForLog(/\bready\b/, READY_MS);
    await answers(farm.client, contender.at);
  } catch (error) {
    await program.stop();
    contender.left = firstError(program.log()) ?? String(error);
  }
  return contender;
}

/** The program that only puts other MAC addresses on what comes for one address. */
async function startBare(farm: Farm): Promise<Contender> {
  const host = farm.host('bare');
  const n2 = farm.host('n2');
  const contender: Contender = {
    id: 'bare',
    name: 'bare XDP',
    how: 'an XDP program that sends every packet for one address to one node, which answers the client itself. It looks nothing up and cannot choose (`bounce_forward` of bpf/bench/bounce.bpf.c)',
    at: `${BARE_VIRTUAL_ADDRESS}:80`,
    between: host,
  };
  const quiet =
    'for i in all eth0; do echo 1 > $0/$i/arp_ignore; echo 2 > $0/$i/arp_announce; done';
  await n2.run('sh', ['-c', quiet, '/proc/sys/net/ipv4/conf']);
  await run('ip', ['-n', n2.namespace, 'addr', 'add', `${BARE_VIRTUAL_ADDRESS}/32`, 'dev', 'lo']);
  await run('ip', [
    '-n',
    host.namespace,
    'addr',
    'add',
    `${BARE_VIRTUAL_ADDRESS}/32`,
    'dev',
    'eth0',
  ]);
  try {
    const config = { address: BARE_VIRTUAL_ADDRESS, destination: n2.mac, source: host.mac };
    await attach(host, { program: 'bounce_forward', config });
    await answers(farm.client, contender.at);
  } catch (error) {
    contender.left = error instanceof Error ? error.message : String(error);
  }
  return contender;
}

/** Waits for an answer; rejects when there is none in time. */
async function answers(client: Host, at: string): Promise<void> {
  const limit = Date.now() + READY_MS;
  for (;;) {
    const { status, error } = await curl(client, `http://${at}/`, [], 2000);
    // The root has no index: any answer of a web server will do.
    if (status >= 200 && status !== 503) return;
    if (Date.now() > limit) throw new Error(`no answer from ${at}: ${error}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** What a program says of its end: the last line of its log. */
function firstError(log: string): string | undefined {
  return log.trim().split('\n').at(-1);
}
