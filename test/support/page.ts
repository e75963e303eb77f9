/**
 * Fenced blocks of a document whose commands are run by a test, and how their output is compared.
 *
 * Kinds of blocks, by what stands behind the backticks:
 *
 *     console                        commands and what they print
 *     console needs PROGRAM          the same, where that program is installed
 *     console not run: REASON        commands that no test runs
 *     KIND write FILE                content of a file; commands in later blocks find it
 *     KIND add FILE                  content that is added at the end of a file
 *     KIND output of COMMAND         what a command in the background prints, some time later
 *     KIND shown                     no command and no file
 */

export interface Block {
  /** Line of the document in which it begins, from 1. */
  line: number;
  kind: 'console' | 'not run' | 'write' | 'add' | 'output' | 'shown';
  /** Program, reason, file or command; empty where the kind has none. */
  detail: string;
  lines: string[];
}

/** A command of a console block, with what it prints. */
export interface Step {
  line: number;
  /** The machine on which it runs. */
  host: string;
  command: string;
  /** It ends in `&`, and goes on while later commands run. */
  background: boolean;
  /** Its exit code: 0, or that of a last line `[exit code N]`. */
  code: number;
  shown: string[];
}

/** @throws Error for a block of another kind */
export function blocksOf(markdown: string): Block[] {
  const blocks: Block[] = [];
  let open: Block | undefined;
  for (const [index, line] of markdown.split('\n').entries()) {
    const [, info] = /^```(.*)$/.exec(line) ?? [];
    if (info === undefined) open?.lines.push(line);
    else if (open !== undefined) {
      blocks.push(open);
      open = undefined;
    } else open = { line: index + 1, ...kindOf(info, index + 1), lines: [] };
  }
  if (open !== undefined) throw new Error(`line ${open.line}: the block has no end`);
  return blocks;
}

function kindOf(info: string, line: number): Pick<Block, 'kind' | 'detail'> {
  const [, needs = ''] = /^console(?: needs (\S+))?$/.exec(info) ?? [];
  if (info === 'console' || needs !== '') return { kind: 'console', detail: needs };
  const [, reason] = /^console not run: (.+)$/.exec(info) ?? [];
  if (reason !== undefined) return { kind: 'not run', detail: reason };
  const [, kind, detail = ''] = /^\w+ (write|add|output of|shown)(?: (.+))?$/.exec(info) ?? [];
  if (kind === 'write' || kind === 'add') return { kind, detail };
  if (kind === 'output of') return { kind: 'output', detail };
  if (kind === 'shown') return { kind, detail };
  throw new Error(`line ${line}: a block of the kind "${info}"`);
}

/** `HOST# COMMAND` for root, `HOST$ COMMAND` for everyone. */
const PROMPT = /^([a-z]\w*)[#$] (.+)$/;
const EXIT_CODE = /^\[exit code (\d+)\]$/;

/** The commands of a console block. @throws Error for output without a command */
export function stepsOf(block: Block): Step[] {
  const steps: Step[] = [];
  let continues = false;
  for (const [index, line] of block.lines.entries()) {
    const at = block.line + 1 + index;
    const last = steps.at(-1);
    const [, host, command] = PROMPT.exec(line) ?? [];
    if (last !== undefined && continues) last.command += `\n${line}`;
    else if (host !== undefined && command !== undefined)
      steps.push({ line: at, host, command, background: false, code: 0, shown: [] });
    else if (last === undefined) throw new Error(`line ${at}: output without a command`);
    else if (EXIT_CODE.test(line)) last.code = Number(EXIT_CODE.exec(line)?.[1]);
    else last.shown.push(line);
    continues = steps.at(-1)?.shown.length === 0 && line.endsWith('\\');
  }
  return steps.map((step) => ({
    ...step,
    command: step.command.replace(/ &$/, ''),
    background: step.command.endsWith(' &'),
  }));
}

/** What varies from run to run, and what may stand in its place. */
const VARIES: readonly [RegExp, string][] = [
  [/\.\.\./, '.*'],
  // A date and time, or a time of day.
  [/\d{4}-\d\d-\d\dT[\d:.]+Z/, '\\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z'],
  [/\b\d\d:\d\d:\d\d(?:\.\d+)?\b(?!:)/, '\\d\\d:\\d\\d:\\d\\d(?:\\.\\d+)?'],
  [/\b[0-9a-f]{2}(?::[0-9a-f]{2}){5}\b/, '[0-9a-f]{2}(?::[0-9a-f]{2}){5}'],
  // A duration of formatDuration.
  [/\b(?:\d+ms|\d+\.\d+s|\d+[mhd]\d\d[smh])(?!\w)/, '(?:\\d+ms|\\d+\\.\\d+s|\\d+[mhd]\\d\\d[smh])'],
];
/** A cell of a table that is a number: two spaces or more are before it. */
const NUMBER_CELL = /(?<= {2,})\d[\d,]*(?:\.\d+)?(?= {2,}|$)/;

/**
 * The pattern of a shown line. Exact, but for:
 * - the number of spaces,
 * - `...`, which stands for anything,
 * - dates, times, durations and MAC addresses, which stand for others of their kind,
 * - numbers in cells of tables, which stand for other numbers. The first column is exact.
 */
function patternOf(line: string): string {
  const varies = [...VARIES, [NUMBER_CELL, '\\d[\\d,]*(?:\\.\\d+)?'] as const];
  const any = new RegExp(varies.map(([shown]) => `(${shown.source})`).join('|'), 'g');
  let pattern = '';
  let from = 0;
  const exact = (text: string): string =>
    text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/ +/g, ' +');
  for (const match of line.matchAll(any)) {
    const which = match.slice(1).findIndex((group) => group !== undefined);
    pattern += exact(line.slice(from, match.index)) + (varies[which]?.[1] ?? '');
    from = match.index + match[0].length;
  }
  return pattern + exact(line.slice(from).trimEnd());
}

/**
 * Whether a command has printed what the document shows: all of it, in this order. A line `...`
 * stands for any number of lines.
 */
export function isShown(shown: readonly string[], printed: string): boolean {
  const lines = shown.map((line) =>
    line.trim() === '...' ? '(?: *[^\\n]*\\n)*?' : `${patternOf(line)} *\\n`,
  );
  const text = printed.replace(/\n*$/, printed.trim() === '' ? '' : '\n');
  return new RegExp(`^${lines.join('')}$`).test(text);
}
