/**
 * docs/operating.md has every code and no other, and its blocks are of kinds that
 * test/e2e/operating.test.ts knows. That test runs the page's commands.
 */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { NODE_CONDITIONS, NODE_STATES, RESOURCE_STATES } from '../src/api/documents.js';
import { toResponse } from '../src/api/errors.js';
import { REASONS } from '../src/balancer/access-log/reasons.js';
import { refusalText } from '../src/balancer/node-state.js';
import { BatonError, ERROR_CODES } from '../src/base/errors.js';
import { GLOSSARY } from '../src/cli/glossary.js';
import { CLOSE_REASONS } from '../src/engine/options.js';
import { IxcpReason } from '../src/wire/ixcp.js';
import { blocksOf, isShown, stepsOf } from './support/page.js';

const read = (name: string): string =>
  readFileSync(new URL(`../../docs/${name}`, import.meta.url), 'utf8');
const page = read('operating.md');

/** The rows of the tables below a heading, as cells. */
function rowsBelow(heading: string): string[][] {
  const [, after] = page.split(new RegExp(`^#+ ${heading}\n`, 'm'));
  const section = (after ?? '').split(/^#/m)[0] ?? '';
  return [...section.matchAll(/^\| (`.*) \|$/gm)].map(([, row = '']) => row.split(' | '));
}

/** The codes in the first column, without their backticks. */
const codesBelow = (heading: string): string[] =>
  rowsBelow(heading).map(([code = '']) => code.replaceAll('`', ''));

t.test('every code has its line', async (t) => {
  const lists: [string, readonly string[]][] = [
    ['States of a node', NODE_STATES],
    ['States of a resource', RESOURCE_STATES],
    ['Conditions of a node', NODE_CONDITIONS],
    [
      'Refusals of a node',
      // A handoff is never refused with the others.
      [IxcpReason.noListener, IxcpReason.unable, IxcpReason.tupleInUse].map(refusalText),
    ],
    [
      'How sessions end',
      // These ends come before the end of the handshake: no line of the log has them.
      CLOSE_REASONS.filter((reason) => !['handshake-timeout', 'evicted'].includes(reason)),
    ],
    ['Reasons in the access log', Object.keys(REASONS)],
    ['Error codes', ERROR_CODES],
  ];
  for (const [heading, codes] of lists)
    t.same(codesBelow(heading).sort(), [...codes].sort(), heading);
  t.equal(Object.keys(IxcpReason).length, 11, 'a new reason of a refusal needs a line');
});

t.test('error codes have the status that the API sends', async (t) => {
  // Its status depends on what is wrong with the token.
  const others = ['BATON_TOKEN'];
  for (const [code = '', status] of rowsBelow('Error codes')) {
    const known = ERROR_CODES.find((one) => `\`${one}\`` === code);
    if (known === undefined || others.includes(known)) continue;
    t.equal(status, String(toResponse(new BatonError(known, 'x'), 0).status), known);
  }
});

t.test('counters, metrics and links to codes exist', async (t) => {
  const counters = codesBelow('Counters that matter first');
  t.equal(counters.length, 10);
  for (const name of counters) t.ok(GLOSSARY.has(name), name);
  const metrics = read('metrics.md');
  const named = [...page.matchAll(/\bbaton_[a-z_]+/g)].map(([name]) => name);
  t.ok(named.length > 5);
  for (const name of named) t.ok(metrics.includes(`\`${name}\``), name);
});

t.test('blocks are of known kinds, and their commands are on machines of the farm', async (t) => {
  const blocks = blocksOf(page);
  const steps = blocks.filter(({ kind }) => kind === 'console').flatMap(stepsOf);
  t.ok(steps.length > 40);
  for (const { host, line } of steps) t.match(host, /^(balancer|client|n[1-4])$/, `line ${line}`);
  for (const { kind, detail, line } of blocks)
    if (kind === 'not run') t.ok(detail.length > 10, `line ${line} has a reason`);
});

t.test('what may differ between the page and a run', async (t) => {
  const same = [
    [['node n1 is up'], 'node n1 is up\n'],
    [
      ['N  MAC                HELD', 'n1  02:00:00:00:00:01     0'],
      'N MAC HELD\nn1 02:00:00:00:00:ff 12\n',
    ],
    [['up 3.0s, at 09:00:00'], 'up 4m05s, at 10:11:12\n'],
    [['...', 'b'], 'a\na\nb\n'],
    [['a', '...'], 'a\n'],
    [['error: ... (x)'], 'error: whatever (x)\n'],
    [[], ''],
  ] as const;
  for (const [shown, printed] of same) t.ok(isShown(shown, printed), printed);
  const other = [
    [['node n1 is up'], 'node n2 is up\n'],
    [['node n1 is up'], 'node n1 is up\nmore\n'],
    [['weight 1 -> 3'], 'weight 1 -> 4\n'],
    [['a', 'b'], 'b\na\n'],
    [['a'], ''],
    [['10.99.0.3'], '10.99.0.4\n'],
    [['n1    1'], 'n1    x\n'],
  ] as const;
  for (const [shown, printed] of other) t.notOk(isShown(shown, printed), printed);
});

t.test('blocks that cannot be read are errors', async (t) => {
  t.throws(() => blocksOf('```sh\nls\n```'), /line 1: a block of the kind "sh"/);
  t.throws(() => blocksOf('```console not run:\nls\n```'), /line 1/);
  t.throws(() => blocksOf('x\n```console'), /line 2: the block has no end/);
  const [block] = blocksOf('```console\noutput\n```');
  t.throws(() => stepsOf(block!), /line 2: output without a command/);
});
