/** What the engine takes over from the kernel, which forwards judged heads by itself. */
import { Counter } from '../../base/counters.js';
import { ServerCounter } from '../../base/object-counters.js';
import type { Core } from '../core.js';
import { NO_RESOURCE } from '../table/session-table.js';
import { type HeadMemory, JudgedHeads } from './judged-heads.js';

/** The heads in this memory. What the kernel does with them is counted as if the engine did it. */
export function openHeads(core: Core, memory: HeadMemory): JudgedHeads {
  const { counters } = core;
  return new JudgedHeads(memory, {
    requests: (server, resource, amount) => {
      counters.add(Counter.requests, amount);
      core.objects.countServer(server, ServerCounter.requests, amount);
      if (resource !== NO_RESOURCE) core.dispatcher.countRequest(resource, amount);
    },
    judged: (replaced) => {
      counters.count(Counter.heads_judged);
      if (replaced) counters.count(Counter.heads_replaced);
    },
  });
}

/** The request that people see of a session: the last one, also if the kernel forwarded it. */
export function showLastRequest({ judged, streams, sessions }: Core, slot: number): void {
  if (judged === undefined || streams === undefined) return;
  const number = streams.kernel?.lastHead(slot) ?? 0;
  if (number === 0) return;
  const place = judged.find(number);
  if (place >= 0) sessions.keepText(slot, judged.textOf(place), judged.textLengthOf(place));
  streams.kernel?.forgetHead(slot);
}
