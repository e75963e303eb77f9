/** What `baton explain` prints for people. */
import type { ExplainDocument, ExplainRule } from '../api/documents.js';
import { formatCount } from '../base/format.js';
import { formatTable } from '../base/table.js';
import { printable } from '../base/text.js';

/** Resources that are shown of those that would match next. */
const MOST_NEXT = 4;

/** @param most as in `formatTable` */
export function renderExplain(document: ExplainDocument, most?: number): string {
  const { lookedUp, resource, candidates, thread } = document;
  const lines: [string, string][] = [
    ['virtual server', `${document.virtualServer}, ${document.predictor}`],
  ];
  if (lookedUp !== null) lines.push(['looked up', lookedUpText(lookedUp)]);
  if (resource !== null) {
    lines.push(['resource', ruleText(resource)]);
    const next = document.next.slice(0, MOST_NEXT);
    for (const [index, rule] of next.entries())
      lines.push([index === 0 ? 'would match next' : '', ruleText(rule)]);
    const more = document.next.length - next.length;
    if (more > 0) lines.push(['', `and ${more} more`]);
  }
  if (document.rewritten !== null) lines.push(['rewritten', document.rewritten]);
  if (thread.of > 1) {
    lines.push([
      'engine thread',
      thread.known
        ? `${thread.number} of ${thread.of}`
        : `${thread.number} of ${thread.of}; which one depends on the port of the client (--from ADDRESS:PORT), and each has turns of its own`,
    ]);
  }
  const width = Math.max(...lines.map(([title]) => title.length));
  const head = lines.map(([title, text]) => `${title.padEnd(width)}  ${printable(text)}`.trimEnd());
  const table =
    candidates.length === 0
      ? []
      : [
          '',
          formatTable(
            [
              { title: '' },
              { title: 'NODE' },
              { title: 'STATE' },
              { title: 'CONDITION' },
              { title: 'WEIGHT', align: 'right' },
              { title: 'LOAD', align: 'right' },
              { title: 'SCORE', align: 'right' },
              { title: 'CREDIT', align: 'right' },
              { title: 'WHY', shortens: true },
            ],
            candidates.map((candidate) => [
              candidate.chosen ? '=>' : ' ',
              candidate.node,
              candidate.state,
              candidate.condition,
              formatCount(candidate.weight),
              formatCount(candidate.load),
              candidate.score === null ? '' : formatScore(candidate.score),
              candidate.credit === null ? '' : String(candidate.credit),
              candidate.why,
            ]),
            most,
          ),
        ];
  return [...head, ...table, '', printable(document.why)].join('\n');
}

function formatScore(score: number): string {
  return Number.isInteger(score) ? formatCount(score) : score.toFixed(2);
}

function hostText(host: string | null): string {
  return host === null ? 'no host' : `host ${host}`;
}

function lookedUpText({ host, path, protocols }: NonNullable<ExplainDocument['lookedUp']>): string {
  const parts = [hostText(host)];
  if (path !== null) parts.push(`path ${path}`);
  if (protocols !== null)
    parts.push(protocols.length === 0 ? 'no protocols' : `protocols ${protocols.join(' ')}`);
  return parts.join(', ');
}

function ruleText({ host, path, alpn, hostMatch, pathMatch, nodes }: ExplainRule): string {
  const by = {
    any: 'any host',
    exact: 'exactly this host',
    wildcard: 'hosts below this one',
  }[hostMatch];
  const what =
    alpn !== null
      ? `protocol ${alpn.join(' or ')}`
      : pathMatch === 'exact'
        ? 'exactly this path'
        : 'everything below this path';
  return `${host ?? ''}${path} (${by}, ${what}), on ${nodes.join(', ')}`;
}
