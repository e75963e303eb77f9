/** The text that `baton stats --watch` shows of an interval. */

import { formatCount, formatDuration } from '../base/format.js';
import { STAGE_NAMES } from '../base/stages.js';
import { type Column, formatTable } from '../base/table.js';
import { printable } from '../base/text.js';
import { meaningOf } from './glossary.js';
import type { Interval, WorkerInterval } from './interval.js';
import { nodeWhy } from './node-why.js';

/** A line of text. A less important one is dimmed if the terminal can do that. */
export interface Line {
  text: string;
  dim: boolean;
}

/**
 * The interval as lines.
 * @param most characters that fit on a line. Default: tables are as wide as their content.
 */
export function renderInterval(interval: Interval, most?: number): Line[] {
  const { packets, events, sessions } = interval;
  const blocks = [
    [
      printable(
        `Baton on ${interval.interface}, datapath ${interval.datapath}, up ${formatDuration(interval.uptimeMs)}; over the last ${interval.seconds.toFixed(1)} s`,
      ),
    ],
    row([
      ['PACKETS IN/S', packets.in],
      ['TO ENGINE/S', packets.toEngine],
      ['FORWARDED BY ENGINE/S', packets.forwardedByEngine],
      ['BY KERNEL/S', packets.forwardedByKernel],
      ['FORWARDED BYTES/S', packets.forwardedBytes],
      ['SENT/S', packets.sent],
    ]),
    row([
      ['NEW SESSIONS/S', events.newSessions],
      ['REQUESTS/S', events.requests],
      ['HANDOFFS/S', events.handoffs],
      ['ADOPTED/S', events.adopted],
      ['LOCAL ANSWERS/S', events.localAnswers],
    ]),
    row(
      [
        ['SESSIONS', sessions.total - sessions.closing],
        ['HALF-OPEN', sessions.halfOpen],
        ['COLLECTING', sessions.collecting],
        ['HANDING', sessions.handing],
        ['PASSING', sessions.passing],
        ['ANSWERING', sessions.answering],
        ['ENDED', sessions.closing],
      ],
      formatCount,
    ),
    [...stageTable(interval.stages), ...kernelLine(interval.kernel)],
    nodeTable(interval, most),
  ];
  const lines = blocks.flatMap((block, index) => [...(index === 0 ? [] : ['']), ...block]);
  return [...lines.map((text) => ({ text, dim: false })), ...dropLines(interval.drops, most)];
}

/** A rate as text. One below ten has a decimal: a rare event must not show as 0. */
export function formatRate(value: number): string {
  return value > 0 && value < 9.95 ? value.toFixed(1) : formatCount(value);
}

function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  most?: number,
): string[] {
  return formatTable(columns, rows, most).split('\n');
}

function right(title: string): Column {
  return { title, align: 'right' };
}

function row(cells: readonly [string, number][], format = formatRate): string[] {
  return table(
    cells.map(([title]) => right(title)),
    [cells.map(([, value]) => format(value))],
  );
}

/**
 * The sum over all threads, the time per frame, and each thread if there are several.
 */
function stageTable(workers: readonly WorkerInterval[]): string[] {
  const sum = (of: (worker: WorkerInterval) => number): number =>
    workers.reduce((total, worker) => total + of(worker), 0);
  const frames = sum(({ frames }) => frames);
  const batches = sum(({ batches }) => batches);
  const perFrame = STAGE_NAMES.map((name) =>
    frames === 0 || name === 'waiting'
      ? ''
      : formatRate((sum((worker) => worker.microseconds[name]) * 1_000) / frames),
  );
  const rows = [
    [
      'us/s',
      ...STAGE_NAMES.map((name) => formatCount(sum((worker) => worker.microseconds[name]))),
      formatRate(batches === 0 ? 0 : frames / batches),
    ],
    ['ns/frame', ...perFrame],
  ];
  if (workers.length > 1) {
    for (const worker of workers) {
      rows.push([
        `thread ${worker.worker}, us/s`,
        ...STAGE_NAMES.map((name) => formatCount(worker.microseconds[name])),
        formatRate(worker.framesPerBatch),
      ]);
    }
  }
  const columns = STAGE_NAMES.map((name) => right(name.toUpperCase()));
  return table([{ title: 'ENGINE TIME' }, ...columns, right('FRAMES/BATCH')], rows);
}

function kernelLine(kernel: Interval['kernel']): string[] {
  if (kernel === null) return [];
  return [
    `XDP program: ${formatCount(kernel.microseconds)} us/s, ${formatCount(kernel.nanosecondsPerRun)} ns/packet, ${formatCount(kernel.runs)} packets/s`,
  ];
}

function nodeTable({ nodes, at }: Interval, most: number | undefined): string[] {
  return table(
    [
      { title: 'NODE' },
      { title: 'STATE' },
      right('ACTIVE'),
      right('ADOPTED/S'),
      { title: 'WHY', shortens: true },
    ],
    nodes.map((node) => [
      node.name,
      node.state,
      formatCount(node.active),
      formatRate(node.adopted),
      nodeWhy(node, Date.parse(at)),
    ]),
    most,
  );
}

/** Drops that continue come first, then those of the past. */
function dropLines(drops: Interval['drops'], most: number | undefined): Line[] {
  if (drops.length === 0) return [];
  const sorted = [...drops].sort(
    (one, other) => other.perSecond - one.perSecond || other.total - one.total,
  );
  const [title = '', ...lines] = table(
    [{ title: 'DROPPED' }, right('PER S'), right('TOTAL'), { title: 'WHAT', shortens: true }],
    sorted.map(({ name, perSecond, total }) => [
      name,
      formatRate(perSecond),
      formatCount(total),
      meaningOf(name),
    ]),
    most,
  );
  return [
    { text: '', dim: false },
    { text: title, dim: false },
    ...lines.map((text, index) => ({ text, dim: sorted[index]?.perSecond === 0 })),
  ];
}
