/**
 * The maps of the shim that an earlier run of the agent has left on an interface. The next run
 * gives them to its own programs: without its entry, a session that is translated would be lost.
 */
import { listFilters } from './filters.js';
import { type MapHandle, native } from './native.js';

/** SESSION_LAYOUT of bpf/lib/config.h. */
export const SESSION_LAYOUT = 1;
/** Offset of `layout` in struct shim_config. */
export const LAYOUT_AT = 36;
/** What later programs need to know of earlier sessions. */
const KEPT = ['sessions', 'watching', 'last_answer'] as const;
const FIRST = new Uint8Array(4);

export class EarlierShim {
  private readonly maps: readonly MapHandle[];
  /** Descriptors by the names of the maps, for `loadBpf`; empty: there is nothing to take over. */
  readonly reuse: Record<string, number>;

  private constructor(named: ReadonlyMap<string, MapHandle>) {
    this.maps = [...named.values()];
    this.reuse = Object.fromEntries([...named].map(([name, { fd }]) => [name, fd]));
  }

  /**
   * Opens the maps of the program on the interface, if its sessions are laid out as ours.
   * @throws BatonError BATON_SYSTEM when the filters cannot be read
   */
  static of(interfaceName: string, program: string): EarlierShim {
    const none = new EarlierShim(new Map());
    const filter = listFilters(interfaceName).find((one) => one.program === program);
    if (filter?.programId === undefined) return none;
    const opened = new Map<string, MapHandle>();
    try {
      const maps = native().programMaps(filter.programId);
      const open = (name: string): MapHandle | undefined => {
        const map = maps.find((one) => one.name === name);
        return map && native().openMap({ id: map.id });
      };
      const config = open('config');
      const value = config?.lookup(FIRST);
      config?.close();
      const layout = value && new Uint32Array(value.slice(LAYOUT_AT, LAYOUT_AT + 4).buffer)[0];
      if (layout !== SESSION_LAYOUT) return none;
      for (const name of KEPT) {
        const map = open(name);
        if (map !== undefined) opened.set(name, map);
      }
    } catch {
      // The program is gone by now, or is another agent's: there is nothing to take over.
      for (const map of opened.values()) map.close();
      return none;
    }
    const earlier = new EarlierShim(opened);
    if (opened.size === KEPT.length) return earlier;
    earlier.close();
    return none;
  }

  /** Closes the descriptors. The programs that use the maps keep them. */
  close(): void {
    for (const map of this.maps) map.close();
  }
}
