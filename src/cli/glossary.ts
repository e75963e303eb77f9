/** The counters of `baton stats` by name, and what each means. */
import { type CounterInfo, meaning } from '../base/counter-info.js';
import { COUNTERS } from '../base/counters.js';
import { BatonError } from '../base/errors.js';
import {
  GUARD_COUNTERS,
  RING_COUNTERS,
  SHIM_COUNTERS,
  XDP_COUNTERS,
} from '../base/kernel-counters.js';
import { quoted } from '../base/text.js';

type Infos = Readonly<Record<string, CounterInfo>>;

interface Group {
  title: string;
  prefix: string;
  infos: Infos;
}

/** In the order of `baton stats`. */
const GROUPS: readonly Group[] = [
  { title: 'The engine, and the XDP program in its place', prefix: '', infos: COUNTERS },
  { title: 'The receive and transmit rings', prefix: '', infos: RING_COUNTERS },
  {
    title: "The guard, a program on the balancer's interfaces",
    prefix: 'guard_',
    infos: GUARD_COUNTERS,
  },
  {
    title: 'The shim of the balancer, for its local services; nodes count the same',
    prefix: 'shim_',
    infos: SHIM_COUNTERS,
  },
  { title: 'The XDP program', prefix: 'xdp_', infos: XDP_COUNTERS },
];

/** Every counter that `baton stats` can show. */
export const GLOSSARY: ReadonlyMap<string, CounterInfo> = new Map(
  GROUPS.flatMap(({ prefix, infos }) => entries(prefix, infos)),
);

function entries(prefix: string, infos: Infos): [string, CounterInfo][] {
  return Object.entries(infos).map(([name, info]) => [prefix + name, info]);
}

/** What a counter means, in a sentence; empty for one that is not known, as of another version. */
export function meaningOf(name: string): string {
  const info = GLOSSARY.get(name);
  return info === undefined ? '' : meaning(info);
}

const INDENT = '    ';
const MOST_SIMILAR = 8;

/**
 * The counter of this name, or all of them, for people.
 * @param most characters on a line
 * @throws BatonError BATON_ARGUMENT for a name that is none
 */
export function explain(name: string | undefined, most: number): string {
  const asked: [string, CounterInfo][] =
    name === undefined ? [...GLOSSARY] : [[name, infoOf(name)]];
  return asked
    .map(([each, { kind, unit, help }]) =>
      [`${each} (${kind}, ${unit})`, ...wrapped(help, most)].join('\n'),
    )
    .join('\n\n');
}

/** The same as a document: by name. Throws as `explain`. */
export function explained(name: string | undefined): Infos {
  return name === undefined ? Object.fromEntries(GLOSSARY) : { [name]: infoOf(name) };
}

function infoOf(name: string): CounterInfo {
  const info = GLOSSARY.get(name);
  if (info !== undefined) return info;
  const similar = [...GLOSSARY.keys()]
    .filter((known) => known.includes(name))
    .slice(0, MOST_SIMILAR);
  const hint =
    similar.length > 0 && name !== ''
      ? `similar: ${similar.join(', ')}`
      : '`baton stats --explain` without a name lists them all';
  throw new BatonError('BATON_ARGUMENT', `there is no counter ${quoted(name)}`, { hint });
}

function wrapped(text: string, most: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && INDENT.length + line.length + 1 + word.length > most) {
      lines.push(INDENT + line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  return [...lines, INDENT + line];
}

const INTRODUCTION = `# Counters

This page is made from the declarations in src/base/counters.ts and src/base/kernel-counters.ts (by
\`node dist/scripts/counter-docs.js\`). \`baton stats --explain NAME\` prints what is said here of one
counter, and without a name of all.

Each counter begins at 0 when the balancer starts, or with its XDP program, and only grows. \`baton
stats\` shows those that are not 0; \`baton stats --watch\` shows what is dropped, by the second.
`;

/** docs/counters.md. */
export function renderCounterDocs(): string {
  const tables = GROUPS.map(({ title, prefix, infos }) =>
    [
      `## ${title}\n`,
      '| counter | counts | meaning |',
      '| --- | --- | --- |',
      ...entries(prefix, infos).map(
        ([name, { unit, help }]) => `| \`${name}\` | ${unit} | ${help} |`,
      ),
      '',
    ].join('\n'),
  );
  return [INTRODUCTION, ...tables].join('\n');
}
