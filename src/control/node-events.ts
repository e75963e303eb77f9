/** What happens to nodes, in the log; and the last reason why one is down, for `baton stats`. */
import { formatMac } from '../wire/ethernet.js';
import { IxcpReason } from '../wire/ixcp.js';
import type { EngineEvent } from './engine-messages.js';
import type { Log } from './log.js';
import type { NeighbourChange } from './machine/neighbours.js';

const REASONS: Readonly<Record<number, string>> = {
  [IxcpReason.noListener]: 'nothing listens there',
  [IxcpReason.unable]:
    'its kernel can not adopt: an MPTCP listener, or TCP options that are switched off there',
  [IxcpReason.tupleInUse]: 'an older connection of the same client port could not be removed',
};

/** How long a trouble is shown, in ms: as long as its repetition may take to be told again. */
const TROUBLE_MS = 60_000;

function troubleOf(event: EngineEvent): string {
  switch (event.event) {
    case 'bad-key':
      return 'its agent has another key';
    case 'refused':
      return `refused a handoff: ${REASONS[event.reason] ?? `reason ${event.reason}`}`;
    case 'silent':
      return 'did not answer a handoff';
    case 'reported':
      return '';
  }
}

export class NodeEvents {
  private readonly names: readonly string[];
  private readonly log: Log;
  /** By node: its MAC address, undefined while it is not known, and why it is not. */
  private readonly macs: (Uint8Array | undefined)[] = [];
  private readonly reasons: string[] = [];
  /** By node: what last went wrong with a handoff or report, and when, in ms. */
  private readonly troubles: ({ text: string; at: number } | undefined)[] = [];

  constructor(nodes: readonly { name: string }[], log: Log) {
    this.names = nodes.map((node) => node.name);
    this.log = log;
  }

  /** "02:00:00:00:00:01", or null while it is not known. */
  mac(node: number): string | null {
    const mac = this.macs[node];
    return mac === undefined ? null : formatMac(mac);
  }

  /** Why there is no MAC address; empty when there is. */
  whyUnresolved(node: number): string {
    return this.reasons[node] ?? 'not looked for yet';
  }

  /** What went wrong with the node within the last minute; empty when nothing did. */
  trouble(node: number): string {
    const trouble = this.troubles[node];
    return trouble !== undefined && performance.now() - trouble.at < TROUBLE_MS ? trouble.text : '';
  }

  neighbour(change: NeighbourChange): void {
    this.macs[change.node] = change.mac;
    this.reasons[change.node] = change.why;
    const name = this.nameOf(change.node);
    if (change.mac === undefined) this.log.warn(`${name} is down for handoffs: ${change.why}`);
    else this.log.info(`${name} is at ${formatMac(change.mac)}`);
  }

  engine(event: EngineEvent): void {
    const name = this.nameOf(event.node);
    const text = troubleOf(event);
    // A report is news of the node as it is now.
    this.troubles[event.node] = text === '' ? undefined : { text, at: performance.now() };
    switch (event.event) {
      case 'bad-key':
        this.log.warn(
          `${name} has another key: its reports do not verify, and it will refuse what it is handed`,
        );
        return;
      case 'reported':
        if (event.leaving) this.log.info(`${name} is leaving`);
        else if (event.able) this.log.info(`${name} reports: it can adopt`);
        else this.log.warn(`${name} reports: its kernel can not adopt`);
        return;
      case 'silent':
        if (event.suspended) this.log.warn(`${name} does not answer handoffs: it gets none for some seconds`);
        else this.log.warn(`${name} did not answer a handoff in time`);
        return;
      case 'refused':
        this.log.warn(`${name} ${text}`);
    }
  }

  private nameOf(node: number): string {
    const name = this.names[node];
    return name === undefined ? 'the local service' : `node ${name}`;
  }
}
