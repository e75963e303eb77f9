/** The descriptions of the counters of `baton stats`, by name. */
import { ACCESS_LOG_COUNTERS } from '../base/access-log-counters.js';
import { API_COUNTERS } from '../base/api-counters.js';
import { type CounterInfo, meaning } from '../base/counter-info.js';
import { COUNTERS } from '../base/counters.js';
import { BatonError } from '../base/errors.js';
import { wrapWords } from '../base/format.js';
import {
  COUNTER_PREFIX,
  GUARD_COUNTERS,
  RING_COUNTERS,
  XDP_COUNTERS,
} from '../base/kernel-counters.js';
import { SHIM_COUNTERS } from '../base/shim-counters.js';
import { quoted } from '../base/text.js';

type Infos = Readonly<Record<string, CounterInfo>>;

interface Group {
  title: string;
  prefix: string;
  infos: Infos;
}

/** In the order of `baton stats`. */
const GROUPS: readonly Group[] = [
  { title: 'The engine, and the XDP program on its behalf', prefix: '', infos: COUNTERS },
  { title: 'The receive and transmit rings', prefix: '', infos: RING_COUNTERS },
  {
    title: "The guard, a BPF program on the balancer's interfaces",
    prefix: COUNTER_PREFIX.guard,
    infos: GUARD_COUNTERS,
  },
  { title: 'The XDP program', prefix: COUNTER_PREFIX.xdp, infos: XDP_COUNTERS },
  { title: 'The access log', prefix: COUNTER_PREFIX.accessLog, infos: ACCESS_LOG_COUNTERS },
  { title: 'The API', prefix: '', infos: API_COUNTERS },
];

/** Counters of nodes, which `baton stats` does not show. */
const NODE_GROUP: Group = {
  title: 'The shim, a BPF program on nodes: in its map `counters`, in this order',
  prefix: COUNTER_PREFIX.shim,
  infos: SHIM_COUNTERS,
};

/** Every counter that `baton stats` can show. */
export const GLOSSARY: ReadonlyMap<string, CounterInfo> = new Map(
  GROUPS.flatMap(({ prefix, infos }) => entries(prefix, infos)),
);

function entries(prefix: string, infos: Infos): [string, CounterInfo][] {
  return Object.entries(infos).map(([name, info]) => [prefix + name, info]);
}

/**
 * The first sentence of a counter's help. Empty for an unknown name, for example of another
 * version.
 */
export function meaningOf(name: string): string {
  const info = GLOSSARY.get(name);
  return info === undefined ? '' : meaning(info);
}

const INDENT = '    ';
const MOST_SIMILAR = 8;

/**
 * Explains one counter, or all, as text for people.
 * @param name a counter; `undefined` for all
 * @param most characters on a line
 * @throws BatonError BATON_ARGUMENT for an unknown name
 */
export function explain(name: string | undefined, most: number): string {
  const asked: [string, CounterInfo][] =
    name === undefined ? [...GLOSSARY] : [[name, infoOf(name)]];
  return asked
    .map(([each, { kind, unit, help }]) =>
      [
        `${each} (${kind}, ${unit})`,
        ...wrapWords(help, most - INDENT.length).map((line) => INDENT + line),
      ].join('\n'),
    )
    .join('\n\n');
}

/** Explains one counter, or all, as a document by name. Throws as `explain` does. */
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

const INTRODUCTION = `# Counters

Look a counter up by its name in the tables below, or ask \`baton stats --explain NAME\`; without a
name that prints all of them. The text says what is counted, what makes the counter grow, and what
to do about it.

\`baton stats\` shows the counters that are not 0. \`baton stats --watch\` shows drops per second.
Each counter starts at 0 with the balancer, or with its XDP program, and only grows.

\`node dist/scripts/counter-docs.js\` generates this page from src/base/counters.ts,
src/base/kernel-counters.ts, src/base/shim-counters.ts, src/base/access-log-counters.ts and
src/base/api-counters.ts.
`;

/** The text of docs/counters.md. */
export function renderCounterDocs(): string {
  const tables = [...GROUPS, NODE_GROUP].map(({ title, prefix, infos }) =>
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
