/** Loads the compiled BPF objects; keys, values and counters of their maps. */
import { fileURLToPath } from 'node:url';
import { BatonError, reasonOf } from '../base/errors.js';
import { type BpfObject, native } from './native.js';

/** The compiled BPF objects, in build/bpf beside the compiled tree. */
const OBJECTS = new URL('../../../build/bpf/', import.meta.url);

/**
 * Loads build/bpf/NAME.bpf.o.
 * @param maxEntries other capacities for maps, by name
 * @param reuse descriptors of maps to use in place of new ones, by name
 * @throws BatonError BATON_SYSTEM
 */
export function loadObject(
  name: 'shim' | 'shim-replay' | 'shim-old' | 'guard' | 'xdp' | 'probe',
  maxEntries: Record<string, number> = {},
  reuse: Record<string, number> = {},
): BpfObject {
  const path = fileURLToPath(new URL(`${name}.bpf.o`, OBJECTS));
  try {
    return native().loadBpf(path, { maxEntries, reuse });
  } catch (error) {
    if (error instanceof BatonError) throw error;
    const absent = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const why = reasonOf(error)
      .trim()
      .split(/\s*\n\s*/)
      .join(' | ');
    throw new BatonError('BATON_SYSTEM', `cannot load the BPF programs: ${why}`, {
      where: path,
      cause: error,
      ...(absent ? { hint: 'run `make build` in the source directory' } : {}),
    });
  }
}

/** The counters of a BPF object by name: its per-CPU map `counters`, summed over CPUs. */
export function sumsByName<Name extends string>(
  object: BpfObject,
  names: readonly Name[],
): Record<Name, number> {
  const sums = object.mapSums('counters', names.length);
  return Object.fromEntries(names.map((name, index) => [name, sums[index] ?? 0])) as Record<
    Name,
    number
  >;
}

/** Four bytes in this machine's byte order. */
export function hostU32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}
