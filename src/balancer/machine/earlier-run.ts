/**
 * What an earlier run of a balancer left on the interface: its XDP program, which keeps forwarding
 * without a process, and the program's maps. The next run takes over the sessions in them.
 */
import { BatonError, reasonOf } from '../../base/errors.js';
import {
  CONTROL,
  CONTROL_BYTES,
  NODE,
  NODE_BYTES,
  SERVER_SLOT,
  SHARED_LAYOUT,
} from '../../datapath/xdp-layout.js';
import { ForwardTables } from '../../engine/forward/tables.js';
import { RecordReader, SESSION_RECORD_BYTES } from '../../engine/table/session-record.js';
import { SessionState } from '../../engine/table/session-table.js';
import {
  type AttachedXdp,
  type MapHandle,
  native,
  type ProgramHandle,
  type XdpMode,
} from '../../host/native.js';
import { XDP_PROGRAM } from '../../host/xdp.js';
import { type Address, type Endpoint, toAddress, toAddress6 } from '../../wire/address.js';
import { type EarlierServer, type ForwardEndpoint, readTables } from '../forward/earlier.js';
import { readPlaces } from './forward-maps.js';
import { GUARD_SERVER } from './server-maps.js';

const SECRET_BYTES = 32;
const MAC_BYTES = 6;
/** Characters of a map's name that the kernel keeps (BPF_OBJ_NAME_LEN). */
const MOST_NAME = 15;

/** A node of the earlier run. */
export interface EarlierNode {
  address: Address;
  /** Six bytes; undefined: it was not resolved. */
  mac: Uint8Array | undefined;
}

/** The sessions of an earlier run, and the tables that their fields refer to. */
export interface EarlierSessions {
  /** Descriptor of the map `sessions`, for the engine threads. `EarlierRun.close` closes it. */
  fd: number;
  /** The same of the map `session_addresses`. */
  addressesFd: number;
  /** Records in the map. */
  count: number;
  /** By slot of the virtual server, also of retired ones. */
  servers: ReadonlyMap<number, Endpoint>;
  /** By slot. */
  nodes: readonly EarlierNode[];
  /** 32 bytes. Cookies and sequence numbers of this run must be made with the same secret. */
  secret: Uint8Array;
}

export class EarlierRun {
  readonly mode: XdpMode;
  /** Undefined if there are none, or none that this version can read. */
  readonly sessions: EarlierSessions | undefined;
  private readonly program: ProgramHandle;
  private readonly maps: MapHandle[] = [];
  /** Undefined if its layout is not ours. */
  private control: Uint32Array | undefined;
  private table: MapHandle | undefined;
  /** Its tables of virtual servers with mode forward, and what their slots mean. */
  private forward:
    | {
        tables: ForwardTables;
        servers: ReadonlyMap<number, ForwardEndpoint>;
        nodes: ReadonlyMap<number, Address>;
      }
    | undefined;

  private constructor(attached: AttachedXdp, mode: XdpMode, warn: (message: string) => void) {
    this.mode = mode;
    this.program = native().openProgram({ id: attached.id });
    try {
      this.sessions = this.read(attached, warn);
    } catch (error) {
      warn(`sessions of the earlier run cannot be taken over: ${reasonOf(error)}`);
    }
  }

  /**
   * Finds our program on the interface. Returns undefined if there is no XDP program.
   * @throws BatonError BATON_IN_USE when the program there is not ours
   */
  static find(
    interfaceName: string,
    interfaceIndex: number,
    warn: (message: string) => void,
  ): EarlierRun | undefined {
    const attached = native().xdpProgram(interfaceIndex);
    if (attached === undefined) return undefined;
    const { id, name, mode } = attached;
    if (name === XDP_PROGRAM && mode !== 'hardware') return new EarlierRun(attached, mode, warn);
    throw new BatonError('BATON_IN_USE', `another XDP program is attached: ${name} (id ${id})`, {
      where: interfaceName,
      hint: `\`ip link set dev ${interfaceName} xdp off\` takes it off`,
    });
  }

  /**
   * Number of sessions that its program forwards to nodes, or that are being handed over. 0 if this
   * version cannot read them.
   */
  countForwarded(): number {
    let count = 0;
    this.visitForwarded(() => {
      count += 1;
    });
    return count;
  }

  /** Calls `visit` for each of these sessions, with the records and its slot. */
  visitForwarded(visit: (records: RecordReader, slot: number) => void): void {
    if (this.table === undefined) return;
    const records = new RecordReader(this.table.memory());
    for (let slot = 0; slot < records.capacity; slot++) {
      const state = records.state(slot);
      if (state === SessionState.passing || state === SessionState.handing) visit(records, slot);
    }
  }

  /** When it last sent a cookie, ms of CLOCK_MONOTONIC; 0: never. */
  cookieAt(): number {
    return this.control?.[CONTROL.cookieAt / Uint32Array.BYTES_PER_ELEMENT] ?? 0;
  }

  /**
   * The options that its SYN/ACKs do not offer, as IxpFlag bits; undefined: its layout is not ours.
   */
  withheld(): number | undefined {
    const { control } = this;
    return control === undefined ? undefined : new Uint8Array(control.buffer)[CONTROL.withheld];
  }

  /** What its program knows of virtual servers with mode forward at this moment. */
  forwarding(): EarlierServer[] {
    const { forward } = this;
    return forward === undefined ? [] : readTables(forward.tables, forward.servers, forward.nodes);
  }

  /** Closes all descriptors. The program stays attached. */
  close(): void {
    this.control = undefined;
    this.table = undefined;
    this.forward = undefined;
    for (const map of this.maps.splice(0)) map.close();
    this.program.close();
  }

  private read(
    attached: AttachedXdp,
    warn: (message: string) => void,
  ): EarlierSessions | undefined {
    const control = this.open(attached, 'control');
    const sessions = this.open(attached, 'sessions');
    const layout = control.valueBytes < 4 ? 0 : (new Uint32Array(control.memory(), 0, 1)[0] ?? 0);
    // The earlier run ended before its program was set up.
    if (layout === 0) return undefined;
    if (
      layout !== SHARED_LAYOUT ||
      control.valueBytes !== CONTROL_BYTES ||
      sessions.valueBytes !== SESSION_RECORD_BYTES
    ) {
      warn(
        `sessions of the earlier version cannot be taken over: their layout is ${layout}, ours is ${SHARED_LAYOUT}`,
      );
      return undefined;
    }
    const memory = control.memory();
    this.control = new Uint32Array(memory);
    this.table = sessions;
    const nodes = readNodes(this.open(attached, 'nodes'));
    const memoryOf = (name: string): ArrayBuffer => this.open(attached, name).memory();
    this.forward = {
      tables: new ForwardTables({
        servers: memoryOf('forward_servers'),
        buckets: memoryOf('forward_buckets'),
        flows: memoryOf('forward_flows'),
        nodes: memoryOf('forward_nodes'),
      }),
      servers: readPlaces(
        this.open(attached, 'forward_addresses').entries(),
        memoryOf('forward_ranges'),
      ),
      nodes: new Map(nodes.map(({ address }, slot) => [slot, address])),
    };
    return {
      fd: sessions.fd,
      addressesFd: this.open(attached, 'session_addresses').fd,
      count: sessions.maxEntries,
      servers: readServers(
        this.open(attached, 'virtual_servers'),
        this.open(attached, 'ipv6_aliases'),
      ),
      nodes,
      secret: new Uint8Array(memory, CONTROL.secret, SECRET_BYTES).slice(),
    };
  }

  private open(attached: AttachedXdp, name: string): MapHandle {
    const known = name.slice(0, MOST_NAME);
    const found = attached.maps.find((map) => map.name === known);
    if (found === undefined) throw new Error(`its program has no map ${name}`);
    const map = native().openMap({ id: found.id });
    this.maps.push(map);
    return map;
  }
}

function readServers(map: MapHandle, addresses6: MapHandle): Map<number, Endpoint> {
  const servers = new Map<number, Endpoint>();
  const byAlias = new Map<number, Address>();
  for (const { key, value } of addresses6.entries()) {
    const words = new DataView(key.slice().buffer);
    const address = toAddress6([0, 4, 8, 12].map((at) => words.getUint32(at)));
    byAlias.set(new DataView(value.slice().buffer).getUint32(0), address);
  }
  for (const { key, value } of map.entries()) {
    const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
    const server = new Uint32Array(value.slice().buffer)[0] ?? 0;
    const number = view.getUint32(GUARD_SERVER.address);
    const isIpv6 = view.getUint16(GUARD_SERVER.family) !== 0;
    servers.set(server & SERVER_SLOT, {
      address: (isIpv6 ? byAlias.get(number) : undefined) ?? toAddress(number),
      port: view.getUint16(GUARD_SERVER.port),
    });
  }
  return servers;
}

function nodeAddress(view: DataView, at: number): Address {
  // The family is a number of this machine's byte order, and only 0 is IPv4.
  if (view.getUint32(at + NODE.family) === 0) return toAddress(view.getUint32(at + NODE.address));
  return toAddress6([0, 4, 8, 12].map((word) => view.getUint32(at + NODE.address6 + word)));
}

function readNodes(map: MapHandle): EarlierNode[] {
  const memory = map.memory();
  const view = new DataView(memory);
  return Array.from({ length: map.maxEntries }, (_, node) => {
    const at = node * NODE_BYTES;
    const resolved = new Uint32Array(memory, at + NODE.interface, 1)[0] !== 0;
    return {
      address: nodeAddress(view, at),
      mac: resolved ? new Uint8Array(memory, at + NODE.destination, MAC_BYTES).slice() : undefined,
    };
  });
}
