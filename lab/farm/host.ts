/** One machine of a farm: a network namespace with an interface eth0, some with eth1 as well. */
import { lossAt } from './network.js';
import { Program, type RunOptions, type RunResult, run } from './process.js';

/** Bytes and packets through an interface since the farm was made, as `ip -s link` counts them. */
export interface Traffic {
  receivedBytes: number;
  receivedPackets: number;
  sentBytes: number;
  sentPackets: number;
}

export class Host {
  readonly name: string;
  readonly namespace: string;
  readonly address: string;
  readonly mac: string;
  /** Called with every program that must end with the farm. */
  private readonly started: (program: Program) => void;
  private readonly directory: string;

  constructor(
    name: string,
    namespace: string,
    address: string,
    mac: string,
    directory: string,
    started: (program: Program) => void,
  ) {
    this.name = name;
    this.namespace = namespace;
    this.address = address;
    this.mac = mac;
    this.directory = directory;
    this.started = started;
  }

  /** The command line that runs `argv` on this host. (`ip netns exec` would hide /sys/fs/bpf.) */
  inside(argv: readonly string[]): string[] {
    return ['nsenter', `--net=/run/netns/${this.namespace}`, '--', ...argv];
  }

  run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const [first, ...rest] = this.inside([command, ...args]);
    return run(first ?? '', rest, options);
  }

  /** Starts a long-running program. Its log is NAME.log in the farm's directory. */
  start(name: string, argv: readonly string[], env: Record<string, string> = {}): Program {
    const program = Program.start(name, this.inside(argv), `${this.directory}/${name}.log`, env);
    this.started(program);
    return program;
  }

  async traffic(device = 'eth0'): Promise<Traffic> {
    const show = ['-j', '-s', 'link', 'show', 'dev', device];
    const { stdout } = await run('ip', ['-n', this.namespace, ...show]);
    const [link] = JSON.parse(stdout) as { stats64: { rx: Counted; tx: Counted } }[];
    const { rx, tx } = link?.stats64 ?? { rx: NOTHING, tx: NOTHING };
    return {
      receivedBytes: rx.bytes,
      receivedPackets: rx.packets,
      sentBytes: tx.bytes,
      sentPackets: tx.packets,
    };
  }

  /** Turns on or off what a network card does in hardware: checksums and segmentation. */
  async setOffloads(on: boolean): Promise<void> {
    const value = on ? 'on' : 'off';
    const features = ['tx', 'tso', 'gso'].flatMap((feature) => [feature, value]);
    await this.run('ethtool', ['-K', 'eth0', ...features]);
  }

  /**
   * Has eth0 lose 2 % of the frames in both directions, from now on. For a host without programs of
   * its own on tc: see Farm.loseFramesTo.
   */
  async loseFrames(): Promise<void> {
    for (const [program = '', ...rest] of lossAt('eth0')) await this.run(program, rest);
  }

  /** A counter of this host's kernel by its name in `nstat`, such as TcpRetransSegs. */
  async kernelCounter(name: string): Promise<number> {
    const { stdout } = await this.run('nstat', ['-asz', name]);
    const words = stdout.split(/\s+/);
    const at = words.indexOf(name);
    if (at < 0) throw new Error(`the kernel has no counter ${name}`);
    return Number(words[at + 1]);
  }

  async setLink(up: boolean): Promise<void> {
    await run('ip', ['-n', this.namespace, 'link', 'set', 'eth0', up ? 'up' : 'down']);
  }

  /** Addresses on an interface, as CIDR. */
  async addresses(device = 'eth0'): Promise<string[]> {
    const show = ['-j', '-4', 'addr', 'show', 'dev', device];
    const { stdout } = await run('ip', ['-n', this.namespace, ...show]);
    return addressesIn(stdout);
  }
}

/** The addresses in the output of `ip -j addr show`, as CIDR. */
export function addressesIn(json: string): string[] {
  const links = JSON.parse(json) as { addr_info?: { local: string; prefixlen: number }[] }[];
  return links.flatMap((link) =>
    (link.addr_info ?? []).map((info) => `${info.local}/${info.prefixlen}`),
  );
}

interface Counted {
  bytes: number;
  packets: number;
}
const NOTHING: Counted = { bytes: 0, packets: 0 };
