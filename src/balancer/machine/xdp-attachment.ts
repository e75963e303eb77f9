/**
 * Attaches the XDP program to the balancer's interface: in the driver (native) if that supports all
 * of it, else in the network stack (generic). A start over an earlier run's program keeps its mode:
 * to try another one would interrupt its forwarding.
 */
import { BatonError, reasonOf } from '../../base/errors.js';
import type { Journal } from '../../host/journal/journal.js';
import { type BpfObject, type InterfaceInfo, native, type XdpMode } from '../../host/native.js';
import { XDP_PROGRAM } from '../../host/xdp.js';
import type { MachineInterface } from './interfaces.js';
import { loses, sendsForXdp, whyLostAlone } from './xdp-probe.js';

export interface AttachmentOptions {
  interface: string;
  info: InterfaceInfo;
  /** The interface by which nodes are reached; undefined: the same interface. */
  nodeInterface?: MachineInterface | undefined;
  /** Name of the interface's driver; '' when it has none. */
  driver: string;
  /** Mode of an earlier run's program; undefined: there is none. */
  earlierMode: XdpMode | undefined;
  warn: (message: string) => void;
}

export class XdpAttachment {
  /** The mode of the program. */
  mode: XdpMode;
  /** In words, why the mode is not a better one; '' if it is the best one. */
  why: string;
  private readonly options: AttachmentOptions;
  private readonly object: BpfObject;
  private readonly journal: Journal;

  /** @param object that holds the program, loaded */
  constructor(options: AttachmentOptions, object: BpfObject, journal: Journal) {
    this.options = options;
    this.object = object;
    this.journal = journal;
    this.mode = options.earlierMode ?? 'native';
    this.why = options.earlierMode === 'generic' ? 'as the earlier run had it' : '';
  }

  /**
   * Attaches the program to an interface that has none, and chooses the mode.
   * @throws BatonError BATON_INTERFACE when the interface accepts no XDP program
   */
  async attachFirst(): Promise<void> {
    const { interface: name, info } = this.options;
    this.why = await this.whyNotNative(name, info);
    if (this.why === '') return;
    await this.journal.withdraw({ kind: 'xdp', mode: 'native' });
    this.mode = 'generic';
    try {
      await this.attach();
    } catch (error) {
      throw new BatonError('BATON_INTERFACE', `takes no XDP program: ${reasonOf(error)}`, {
        where: name,
        hint: '`datapath: packet` needs none',
        cause: error,
      });
    }
  }

  /** Attaches the program in the chosen mode; it replaces an earlier run's program. */
  async attach(): Promise<void> {
    const { mode } = this;
    await this.journal.xdp(mode, () => this.put(mode));
  }

  /** Logs a warning if frames to nodes get lost: an earlier run has chosen the mode. */
  async checkNodeInterface(): Promise<void> {
    if (this.mode !== 'native') return;
    const why = await this.whyNodeInterfaceLoses();
    if (why !== '')
      this.options.warn(
        `${why}; \`--detach-all\` before the start makes the start choose the mode again`,
      );
  }

  private async whyNotNative(name: string, info: InterfaceInfo): Promise<string> {
    const { driver } = this.options;
    const who = `${name}${driver === '' ? '' : ` (driver ${driver})`}`;
    try {
      await this.attach();
    } catch (error) {
      return `${who} does not support native XDP: ${reasonOf(error)}`;
    }
    try {
      const why = (await sendsForXdp(name, info)) ? '' : loses(name);
      return why === '' ? await this.whyNodeInterfaceLoses() : why;
    } catch (error) {
      return `${who} cannot be tried: ${reasonOf(error)}`;
    }
  }

  private async whyNodeInterfaceLoses(): Promise<string> {
    const { nodeInterface } = this.options;
    if (nodeInterface === undefined) return '';
    try {
      return await whyLostAlone(nodeInterface.name, nodeInterface.info);
    } catch (error) {
      return `${nodeInterface.name} cannot be tried: ${reasonOf(error)}`;
    }
  }

  private put(mode: XdpMode): void {
    const { index } = this.options.info;
    const ours = this.object.programFd(XDP_PROGRAM);
    const attached = native().xdpProgram(index);
    if (attached?.name !== XDP_PROGRAM) {
      native().attachXdp(index, ours, mode);
      return;
    }
    const earlier = native().openProgram({ id: attached.id });
    try {
      native().attachXdp(index, ours, mode, earlier.fd);
    } finally {
      earlier.close();
    }
  }
}
