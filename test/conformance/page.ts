/**
 * The tables of docs/conformance.md: written from what was measured, and read as what is expected.
 */
import { DIFFERENCES, type Difference } from './differences.js';
import { eventsAt } from './events.js';
import { PLACES, type Place } from './places.js';

/** What a server answers to an event, and to what the client does next. */
export interface Answers {
  answer: string;
  later: string;
}
export interface Row {
  linux: Answers;
  baton: Answers;
}
/** By `keyOf`. */
export type Rows = Map<string, Row>;

export function keyOf(place: string, event: string): string {
  return `${place} | ${event}`;
}

const same = (row: Row): boolean => textOf(row.linux) === textOf(row.baton);

const SAME = 'the same';

function textOf({ answer, later }: Answers): string {
  return `\`${answer}\`; then \`${later}\``;
}

/** A transcript without the times that it echoes. */
export function withoutEchoes(transcript: string): string {
  return transcript.replaceAll(/ TSecr [+-]\d+/g, '');
}

/** The differences that explain a row. */
function explaining(place: string, event: string): readonly Difference[] {
  return DIFFERENCES.filter(({ at }) =>
    at.some(([places, events]) => places.test(place) && events.test(event)),
  );
}

/** The keys of rows that differ without a reason. */
export function unexplained(rows: Rows): string[] {
  return [...rows]
    .filter(([key, row]) => !same(row) && explaining(...partsOf(key)).length === 0)
    .map(([key]) => key);
}

/** The titles of reasons that explain no row. */
export function unused(rows: Rows): string[] {
  const used = new Set<Difference>();
  for (const [key, row] of rows)
    if (!same(row)) for (const difference of explaining(...partsOf(key))) used.add(difference);
  return DIFFERENCES.filter((difference) => !used.has(difference)).map(({ title }) => title);
}

function partsOf(key: string): [place: string, event: string] {
  const [place = '', event = ''] = key.split(' | ');
  return [place, event];
}

function anchorOf(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^\p{L}\p{N}_\- ]/gu, '')
    .replaceAll(' ', '-');
}

function tableOf(place: Place, rows: Rows): string {
  const lines = eventsAt(place).map(({ name }) => {
    const row = rows.get(keyOf(place.title, name));
    if (row === undefined) throw new Error(`${place.title}, ${name} was not measured`);
    const links = explaining(place.title, name).map(
      ({ title, short }) => `[${short}](#${anchorOf(title)})`,
    );
    const baton = same(row) ? SAME : [textOf(row.baton), ...links].join(' ');
    return `| ${name} | ${textOf(row.linux)} | ${baton} |`;
  });
  const { title, story, later } = place;
  return [
    `### ${title}`,
    '',
    ...wrapped(`${story} Then: ${later}.`),
    '',
    '| event | Linux | Baton |',
    '| --- | --- | --- |',
    ...lines,
    '',
  ].join('\n');
}

const WIDTH = 100;

function wrapped(text: string): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/).filter(Boolean)) {
    if (line !== '' && line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

/** The chapters behind the introduction: the differences, and a table for each state. */
export function chaptersOf(rows: Rows): string {
  const differing = [...rows.values()].filter((row) => !same(row)).length;
  const differences = DIFFERENCES.flatMap(({ title, why }) => [
    `### ${title}`,
    '',
    ...wrapped(why),
    '',
  ]);
  const sections = Object.entries(SECTIONS).flatMap(([section, title]) => [
    `## ${title}`,
    '',
    ...PLACES.filter((place) => place.section === section).map((place) => tableOf(place, rows)),
  ]);
  return [
    '## Differences',
    '',
    ...wrapped(`${differing} of ${rows.size} conversations differ. These are the reasons.`),
    '',
    ...differences,
    ...sections,
  ].join('\n');
}

const SECTIONS: Readonly<Record<Place['section'], string>> = {
  '3.10.7.1': 'RFC 9293 section 3.10.7.1: CLOSED',
  '3.10.7.2': 'RFC 9293 section 3.10.7.2: LISTEN',
  '3.10.7.4': 'RFC 9293 section 3.10.7.4: the other states of a server',
};
const FIRST_CHAPTER = '## Differences\n';

/** The document with its chapters written anew. */
export function withChapters(document: string, rows: Rows): string {
  const at = document.indexOf(FIRST_CHAPTER);
  return document.slice(0, at < 0 ? document.length : at) + chaptersOf(rows);
}

/** Reads the tables of the document. */
export function rowsOf(document: string): Rows {
  const rows: Rows = new Map();
  let place = '';
  for (const line of document.split('\n')) {
    if (line.startsWith('### ')) place = line.slice(4);
    const [, event = '', linuxCell = '', batonCell = ''] = line.split(/ ?\| ?/);
    const linux = answersIn(linuxCell);
    if (linux === undefined) continue;
    const baton = batonCell.trim() === SAME ? linux : answersIn(batonCell);
    if (baton !== undefined) rows.set(keyOf(place, event.trim()), { linux, baton });
  }
  return rows;
}

function answersIn(cell: string): Answers | undefined {
  const [, answer, later] = /`([^`]*)`; then `([^`]*)`/.exec(cell) ?? [];
  return answer === undefined || later === undefined ? undefined : { answer, later };
}
