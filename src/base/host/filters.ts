/** tc filters on an interface's clsact hooks, as `tc` shows them. Attaching them is the addon's part. */
import { isMap, runToolJson } from './command.js';

export type Hook = 'ingress' | 'egress';

export interface HostFilter {
  hook: Hook;
  priority: number;
  handle: number;
  /** Of a BPF filter: the name of its program. */
  program: string | undefined;
}

/** Whether the interface has a clsact queueing discipline. */
export async function hasClsact(name: string): Promise<boolean> {
  const disciplines = await runToolJson('tc', ['qdisc', 'show', 'dev', name]);
  return disciplines.some((discipline) => discipline.kind === 'clsact');
}

/**
 * The filters of both hooks. An interface without clsact has none.
 * @throws BatonError BATON_SYSTEM when there is no such interface.
 */
export async function listFilters(name: string): Promise<HostFilter[]> {
  if (!(await hasClsact(name))) return [];
  const found: HostFilter[] = [];
  for (const hook of ['ingress', 'egress'] as const) {
    for (const filter of await runToolJson('tc', ['filter', 'show', 'dev', name, hook])) {
      // The list holds an entry without options for each priority, then one for each filter.
      if (typeof filter.pref !== 'number' || !isMap(filter.options)) continue;
      const options = filter.options;
      const handle = Number(options.handle);
      found.push({
        hook,
        priority: filter.pref,
        handle: Number.isFinite(handle) ? handle : 0,
        program: programOf(options),
      });
    }
  }
  return found;
}

function programOf(options: Record<string, unknown>): string | undefined {
  // libbpf names a filter PROGRAM:[ID]; `tc` itself OBJECT:[SECTION].
  if (isMap(options.prog) && typeof options.prog.name === 'string') return options.prog.name;
  return typeof options.bpf_name === 'string' ? options.bpf_name.replace(/:\[\d+\]$/, '') : undefined;
}
