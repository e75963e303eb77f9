/** What `baton explain` prints for people. */
import t from 'tap';
import type { ExplainDocument } from '../../src/api/documents.js';
import { renderExplain } from '../../src/cli/explain-report.js';

const RULE = {
  host: null,
  path: '/images/',
  alpn: null,
  hostMatch: 'any',
  pathMatch: 'prefix',
  nodes: ['n1', 'n2'],
} as const;

const DOCUMENT: ExplainDocument = {
  virtualServer: 'www',
  predictor: 'least-connections',
  lookedUp: { host: 'www.example.org', path: '/images/a.jpg', protocols: null },
  resource: { ...RULE, nodes: [...RULE.nodes] },
  next: [
    {
      host: '*.example.org',
      path: '/',
      alpn: null,
      hostMatch: 'wildcard',
      pathMatch: 'prefix',
      nodes: ['n3'],
    },
  ],
  rewritten: '/pictures/a.jpg?size=2',
  thread: { number: 0, of: 1, known: true },
  candidates: [
    {
      node: 'n1',
      state: 'up',
      condition: 'up',
      weight: 2,
      load: 1_234,
      score: 617,
      credit: 1,
      takes: true,
      lastChoice: false,
      chosen: true,
      why: 'chosen: the fewest sessions for its weight',
    },
    {
      node: 'n2',
      state: 'draining',
      condition: 'up',
      weight: 1,
      load: 7,
      score: null,
      credit: null,
      takes: false,
      lastChoice: false,
      chosen: false,
      why: 'it is draining',
    },
  ],
  chosen: 'n1',
  answer: null,
  alert: null,
  why: 'n1 would get the session',
};

t.test('the whole answer', async (t) => {
  t.equal(
    renderExplain(DOCUMENT),
    `
virtual server    www, least-connections
looked up         host www.example.org, path /images/a.jpg
resource          /images/ (any host, everything below this path), on n1, n2
would match next  *.example.org/ (hosts below this one, everything below this path), on n3
rewritten         /pictures/a.jpg?size=2

    NODE  STATE     CONDITION  WEIGHT   LOAD  SCORE  CREDIT  WHY
=>  n1    up        up              2  1,234    617       1  chosen: the fewest sessions for its weight
    n2    draining  up              1      7      -       -  it is draining

n1 would get the session`.slice(1),
  );
});

t.test('a long list of resources is cut, and so is a line', async (t) => {
  const next = Array.from({ length: 9 }, () => ({ ...RULE, nodes: ['n1'] }));
  t.match(renderExplain({ ...DOCUMENT, next }), /\n +and 5 more\n/);
  const lines = renderExplain(DOCUMENT, 80).split('\n');
  const row = lines.find((line) => line.startsWith('=>')) ?? '';
  t.ok(row.length <= 80 && row.endsWith('...'), row);
});

t.test('the engine thread, when there are several', async (t) => {
  const known = { ...DOCUMENT, thread: { number: 1, of: 2, known: true } };
  t.match(renderExplain(known), /engine thread +1 of 2\n/);
  const unknown = { ...DOCUMENT, thread: { number: 0, of: 2, known: false } };
  t.match(renderExplain(unknown), /engine thread +0 of 2; .*--from ADDRESS:PORT/);
});

t.test('a request that no node gets', async (t) => {
  const none: ExplainDocument = {
    ...DOCUMENT,
    lookedUp: null,
    resource: null,
    next: [],
    rewritten: null,
    candidates: [],
    chosen: null,
    answer: 400,
    why: 'the balancer would answer 400',
  };
  t.equal(
    renderExplain(none),
    'virtual server  www, least-connections\n\nthe balancer would answer 400',
  );
});

t.test('nothing from a request reaches the terminal unescaped', async (t) => {
  const text = renderExplain({
    ...DOCUMENT,
    lookedUp: { host: 'a\x1b[31m', path: '/\u202e', protocols: null },
  });
  t.match(text, 'host a\\x1b[31m, path /\\u202e');
});
