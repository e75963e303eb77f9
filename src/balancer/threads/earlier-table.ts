/** The sessions of an earlier run. Its XDP program may still forward them. */
import type { Engine } from '../../engine/engine.js';
import { RecordReader } from '../../engine/table/session-record.js';
import type { MapHandle } from '../../host/native.js';
import type { EarlierStart } from './engine-messages.js';

/** The part of an engine that takes them over. */
export type Heir = Pick<Engine, 'takeOver' | 'takeLoss'> & {
  readonly sessions: { readonly size: number };
};

export class EarlierTable {
  private readonly start: EarlierStart;
  private readonly map: Pick<MapHandle, 'memory' | 'close'>;
  private readonly addresses: Pick<MapHandle, 'memory' | 'close'>;

  /**
   * @param map the map `sessions` of that run, which `start` describes; `close` closes it
   * @param addresses its map `session_addresses`, the same
   */
  constructor(
    start: EarlierStart,
    map: Pick<MapHandle, 'memory' | 'close'>,
    addresses: Pick<MapHandle, 'memory' | 'close'>,
  ) {
    this.start = start;
    this.map = map;
    this.addresses = addresses;
  }

  /**
   * Takes over the sessions that the engine does not know yet, and brings the others up to date.
   * Returns how many are new.
   */
  takeOver(engine: Heir, now: number): number {
    const { nodes } = this.start;
    const before = engine.sessions.size;
    this.visit((old, slot, server) => {
      const node = nodes[old.node(slot)] ?? -1;
      return engine.takeOver(old, slot, node, server, now);
    });
    return engine.sessions.size - before;
  }

  /** To be called when all sessions have been taken over: notes those that cannot continue. */
  takeLosses(engine: Heir, now: number): void {
    this.visit((old, slot, server) => {
      engine.takeLoss(old, slot, server, now);
      return true;
    });
  }

  close(): void {
    this.map.close();
    this.addresses.close();
  }

  /**
   * Calls `visit` with each session of a virtual server that is still in the config, and the index
   * of that server, until `visit` returns false.
   */
  private visit(visit: (old: RecordReader, slot: number, server: number) => boolean): void {
    const { count, servers } = this.start;
    const old = new RecordReader(this.map.memory(), 0, count, this.addresses.memory());
    for (let slot = 0; slot < count; slot++) {
      // Most of the table may never have been used.
      if (old.state(slot) === 0) continue;
      const server = servers[old.portServer(slot) & 0xffff] ?? -1;
      if (server >= 0 && !visit(old, slot, server)) return;
    }
  }
}
