/** tc filters on the clsact hooks of an interface. */
import { BatonError, reasonOf } from '../base/errors.js';
import { native, type TcFilter } from './native.js';

export type Hook = TcFilter['hook'];
export type HostFilter = TcFilter;

/** The filters of both hooks. Undefined when the interface has no clsact. */
function filtersOf(name: string): HostFilter[] | undefined {
  const index = native().interfaceInfo(name)?.index;
  if (index === undefined) throw new BatonError('BATON_SYSTEM', `there is no interface ${name}`);
  try {
    return native().tcFilters(index);
  } catch (error) {
    throw new BatonError(
      'BATON_SYSTEM',
      `cannot read the tc filters of ${name}: ${reasonOf(error)}`,
      { cause: error },
    );
  }
}

/**
 * Whether the interface has a clsact queueing discipline.
 * @throws BatonError BATON_SYSTEM when there is no such interface, or the kernel refuses
 */
export function hasClsact(name: string): boolean {
  return filtersOf(name) !== undefined;
}

/**
 * The filters of both hooks. An interface without clsact has none.
 * @throws BatonError BATON_SYSTEM when there is no such interface, or the kernel refuses
 */
export function listFilters(name: string): HostFilter[] {
  return filtersOf(name) ?? [];
}
