/**
 * The states that operators have set, in a file that outlives the balancer. A node in maintenance
 * must not get sessions because the balancer was restarted.
 *
 *     /run/baton/nodes-INTERFACE-NAMESPACE.json
 *     {"version":1,"index":2,"mac":"02:...","nodes":{"10.0.0.3":{"state":"draining",...}}}
 *
 * A state belongs to the address of its node: a node may get another name. Index and MAC address
 * are those of the interface, as in a journal.
 */
import { ADMIN_STATES, type AdminState } from '../../api/documents.js';
import { reasonOf } from '../../base/errors.js';
import type { Log } from '../../base/log.js';
import { printable } from '../../base/text.js';
import { isMap } from '../../host/command.js';
import { KeptFile } from '../../host/kept-file.js';
import { type Address, formatNodeAddress } from '../../wire/address.js';
import { formatMac } from '../../wire/ethernet.js';

const VERSION = 1;

/** What an operator has set. */
export interface OperatorState {
  readonly state: AdminState;
  /** Who: `local`, or the name of a token. */
  readonly by: string;
  readonly why: string;
  /** ms since 1970. */
  readonly since: number;
}

export interface OperatorStates {
  /** The kept state of the node with this address. */
  of(address: Address): OperatorState | undefined;
  /**
   * Keeps the states of these nodes, and no others.
   * @throws BatonError BATON_SYSTEM
   */
  save(nodes: readonly { address: Address; operator: OperatorState | undefined }[]): void;
}

export interface OperatorFileOptions {
  interface: string;
  index: number;
  /** MAC address of the interface, six bytes. */
  mac: Uint8Array;
  log: Pick<Log, 'warn'>;
  /** For tests. Default: KEPT_DIRECTORY. */
  directory?: string;
}

export class OperatorFile implements OperatorStates {
  private readonly file: KeptFile;
  private readonly place: { index: number; mac: string };
  private readonly known: Map<string, OperatorState>;

  /**
   * Reads the file, if there is one. A file that cannot be used is ignored, after a warning.
   * @throws BatonError BATON_SYSTEM when its directory cannot be used
   */
  constructor(options: OperatorFileOptions) {
    this.file = new KeptFile('nodes', options.interface, options.directory);
    this.place = { index: options.index, mac: formatMac(options.mac) };
    this.known = new Map();
    let text: string | undefined;
    try {
      text = this.file.read();
    } catch (error) {
      this.ignore(options.log, `cannot be read: ${reasonOf(error)}`);
    }
    if (text === undefined) return;
    const states = this.parse(text);
    if (states === undefined) this.ignore(options.log, 'is not valid');
    else this.known = states;
  }

  of(address: Address): OperatorState | undefined {
    return this.known.get(formatNodeAddress(address));
  }

  save(nodes: readonly { address: Address; operator: OperatorState | undefined }[]): void {
    this.known.clear();
    for (const { address, operator } of nodes) {
      // Up is what a node is without an operator.
      if (operator !== undefined && operator.state !== 'up')
        this.known.set(formatNodeAddress(address), operator);
    }
    if (this.known.size === 0) {
      this.file.remove();
      return;
    }
    const nodesByAddress = Object.fromEntries(this.known);
    this.file.write(
      `${JSON.stringify({ version: VERSION, ...this.place, nodes: nodesByAddress })}\n`,
    );
  }

  private ignore(log: Pick<Log, 'warn'>, problem: string): void {
    log.warn(
      `${this.file.path}: ${problem}: states of nodes that operators have set are lost; set them again`,
    );
  }

  /** Undefined when the text is not valid. A file of another interface has no states. */
  private parse(text: string): Map<string, OperatorState> | undefined {
    let data: unknown;
    try {
      data = JSON.parse(text);
    } catch {
      return undefined;
    }
    if (!isMap(data) || data.version !== VERSION || !isMap(data.nodes)) return undefined;
    if (data.index !== this.place.index || data.mac !== this.place.mac) return new Map();
    const states = new Map<string, OperatorState>();
    for (const [address, value] of Object.entries(data.nodes)) {
      const state = parseState(value);
      if (state === undefined) return undefined;
      states.set(address, state);
    }
    return states;
  }
}

function parseState(data: unknown): OperatorState | undefined {
  if (!isMap(data)) return undefined;
  const { by, why, since } = data;
  const state = ADMIN_STATES.find((known) => known === data.state);
  if (state === undefined || typeof by !== 'string' || typeof why !== 'string') return undefined;
  if (typeof since !== 'number' || !Number.isFinite(since)) return undefined;
  return { state, by: printable(by), why: printable(why), since };
}
