/**
 * The contenders that the benchmark compares, next to each other on one wire. All start before the
 * first measurement and run to the end: an idle contender costs next to nothing (`idleShare` of the
 * results).
 *
 *     client      wrk
 *     balancer    Baton, datapath packet        -> n1
 *     batonx      Baton, datapath xdp           -> n1
 *     proxy       HAProxy and nginx, each twice -> n2
 *     bare        an XDP program                -> n2
 *     n1, n2      nginx; on n1 the agent, too
 *
 * n2, which is asked directly and by all other contenders, runs nothing of Baton. So the cost of
 * the agent's shim is part of Baton's cost.
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
  /** Its setup, in words. */
  how: string;
  /** address:port */
  at: string;
  /** address:port for long answers, if different. */
  atLong?: string;
  /** The machine between client and node. */
  between?: Host;
  /** Why it could not be started. */
  left?: string;
}

export interface Contest {
  farm: Farm;
  /** Contenders that run. */
  contenders: Contender[];
  absent: Contender[];
  /** The HAProxy whose memory is measured: the tuned one for short answers. */
  haproxy: Program;
}

const BATON_XDP_ADDRESS = '10.99.0.10';
const XDP_VIRTUAL_ADDRESS = '10.99.0.101';
const BARE_VIRTUAL_ADDRESS = '10.99.0.102';
const RESOURCES = [{ path: '/', nodes: ['n1'] }];
/** The longest that the kernel allows, because bursts of new connections are not measured. */
const BACKLOG = 4096;
const READY_MS = 20_000;

/**
 * A machine that opens thousands of connections a second from one address to another has tens of
 * thousands of them in TIME-WAIT. The default range of ports is soon used up, and before that
 * connect() searches longer and longer for a free one.
 */
const MORE_PORTS =
  'cd /proc/sys/net/ipv4 && echo 1024 65535 > ip_local_port_range && echo 1 > tcp_tw_reuse';

/** Answers of this length, in bytes, and longer ones are long. */
const LONG_BYTES = 65_536;

export function urlOf(contender: Contender, file: string, bytes: number): string {
  const at = bytes >= LONG_BYTES ? (contender.atLong ?? contender.at) : contender.at;
  return `http://${at}/${file}`;
}

/** Starts all contenders. The caller must stop the farm; if a start fails, this function does. */
export async function startContest(): Promise<Contest> {
  const farm = await Farm.create({
    nodes: 2,
    // As between machines: XDP runs in the driver, and frames look as they come from a card.
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
    await preparePorts(farm, ['batonx', 'bare']);
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
 * A veth accepts frames that XDP sends back out of its peer only while a program runs on it too.
 * The program `pass_all` suffices, but the machine behind it must then cut long segments in
 * software. So only ports that need it have it: machines that send long answers, proxies included,
 * keep that offload. GRO, which makes a veth poll, is on at every port.
 *
 * @param ports that need it
 */
export async function preparePorts(farm: Farm, ports: readonly string[]): Promise<void> {
  for (const { name } of farm.hosts) {
    await inSwitch(farm, ['ethtool', '-K', name, 'gro', 'on']);
  }
  for (const name of ports) {
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

/** Starts the XDP program that only changes MAC addresses of frames for one address. */
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

/** Waits for an answer. Rejects if none arrives in time. */
async function answers(client: Host, at: string): Promise<void> {
  const limit = Date.now() + READY_MS;
  for (;;) {
    const { status, error } = await curl(client, `http://${at}/`, [], 2000);
    // The root has no index, so any answer of a web server is enough.
    if (status >= 200 && status !== 503) return;
    if (Date.now() > limit) throw new Error(`no answer from ${at}: ${error}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** The reason why a program ended: the last line of its log. */
function firstError(log: string): string | undefined {
  return log.trim().split('\n').at(-1);
}
