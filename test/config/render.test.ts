/** Changed data as YAML that keeps the comments and the form of the file. */
import fc from 'fast-check';
import t from 'tap';
import { parse, stringify } from 'yaml';
import type { BalancerData } from '../../src/config/data.js';
import {
  addNode,
  addResource,
  addVirtualServer,
  removeNode,
  removeResource,
  setWeight,
} from '../../src/config/edit.js';
import { renderConfig } from '../../src/config/render.js';

const FILE = `# The balancer of the shop.
interface:   eth0        # the wire
keyFile: 'key.hex'

virtualServers:
  - {name: www, address: 10.99.0.100, port: 80}   # plain
nodes:
  # rack 1
  - name: n1
    address: "10.99.0.3"   # first
    # slow disks
    weight: 2
  - name: n2               # the spare one
    address: "10.99.0.4"

  # rack 2
  - name: n3
    address: "10.99.0.5"
    # the end of rack 2

resources:
  - path: /images/
    nodes: [ n1,  n2 ]     # big ones
  # everything else
  - path: "/"
    nodes:
      - n1
      - n3   # since May
timeouts: {idle: 5m} # short
# the end
`;
const data = (text: string): BalancerData => parse(text) as BalancerData;

/** What \`change\` does to the lines of FILE: "- removed", "+ added". */
function changes(change: (data: BalancerData) => BalancerData, text = FILE): string[] {
  const after = change(data(text));
  const rendered = renderConfig(text, after);
  t.same(parse(rendered), after);
  return lineChanges(text, rendered);
}

/** The lines that differ, by their longest common subsequence. */
function lineChanges(before: string, after: string): string[] {
  const a = before.split('\n');
  const b = after.split('\n');
  const common = Array.from({ length: a.length + 1 }, () =>
    new Array<number>(b.length + 1).fill(0),
  );
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      common[i]![j] =
        a[i] === b[j]
          ? common[i + 1]![j + 1]! + 1
          : Math.max(common[i + 1]![j]!, common[i]![j + 1]!);
    }
  }
  const lines: string[] = [];
  for (let i = 0, j = 0; i < a.length || j < b.length; ) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      i++;
      j++;
    } else if (j >= b.length || (i < a.length && common[i + 1]![j]! >= common[i]![j + 1]!)) {
      lines.push(`- ${a[i++]}`);
    } else {
      lines.push(`+ ${b[j++]}`);
    }
  }
  return lines;
}

t.test('without a change the file stays as it is', async (t) => {
  t.equal(renderConfig(FILE, data(FILE)), FILE);
  t.equal(renderConfig(FILE.trimEnd(), data(FILE)), FILE);
});

t.test('new items come last, in the form of their siblings', async (t) => {
  t.same(
    changes((d) => addVirtualServer(d, { name: 'tls', address: '10.99.0.100', port: 443 })),
    ['+   - {name: tls, address: 10.99.0.100, port: 443}'],
  );
  t.same(
    changes((d) => addNode(d, { name: 'n4', address: '10.99.0.6', weight: 3 })),
    ['+   - name: n4', '+     address: "10.99.0.6"', '+     weight: 3'],
  );
  t.same(
    changes((d) => addResource(d, { host: '*.example.org', path: '/x', nodes: ['n2'] })),
    ['+   - host: "*.example.org"', '+     path: "/x"', '+     nodes:', '+       - n2'],
  );
});

t.test('a value is changed in its place', async (t) => {
  t.same(
    changes((d) => setWeight(d, 'n1', 7)),
    ['-     weight: 2', '+     weight: 7'],
  );
  t.same(
    changes((d) => setWeight(d, 'n2', 7)),
    ['+     weight: 7'],
  );
  t.same(
    changes((d) => ({ ...d, interface: 'eth1', keyFile: 'a b' })),
    [
      '- interface:   eth0        # the wire',
      "- keyFile: 'key.hex'",
      '+ interface:   eth1        # the wire',
      "+ keyFile: 'a b'",
    ],
  );
  t.same(
    changes((d) => ({ ...d, timeouts: { idle: '6m', head: '1s' } })),
    ['- timeouts: {idle: 5m} # short', '+ timeouts: {idle: 6m, head: 1s} # short'],
  );
});

t.test('holders come and go in their list', async (t) => {
  t.same(
    changes((d) => addResource(d, { path: '/images/', nodes: ['n3'] })),
    ['-     nodes: [ n1,  n2 ]     # big ones', '+     nodes: [ n1,  n2,  n3 ]     # big ones'],
  );
  t.same(
    changes((d) => removeResource(d, { path: '/images/' }, 'n1')),
    ['-     nodes: [ n1,  n2 ]     # big ones', '+     nodes: [ n2 ]     # big ones'],
  );
  t.same(
    changes((d) => addResource(d, { path: '/', nodes: ['n2'] })),
    ['+       - n2'],
  );
  t.same(
    changes((d) => removeResource(d, { path: '/' }, 'n3')),
    ['-       - n3   # since May'],
  );
});

t.test('a removed item takes its comments with it', async (t) => {
  t.same(
    changes((d) => removeResource(d, { path: '/' })),
    [
      '-   # everything else',
      '-   - path: "/"',
      '-     nodes:',
      '-       - n1',
      '-       - n3   # since May',
    ],
  );
  const free = (d: BalancerData): BalancerData => ({
    ...d,
    resources: [{ path: '/', nodes: ['n1'] }],
  });
  const text = renderConfig(FILE, free(data(FILE)));
  t.same(
    changes((d) => removeNode(d, 'n3'), text),
    [
      '-   # rack 2',
      '-   - name: n3',
      '-     address: "10.99.0.5"',
      '-     # the end of rack 2',
      '- ',
    ],
  );
  t.same(
    changes((d) => removeNode(d, 'n2'), text),
    ['-   - name: n2               # the spare one', '-     address: "10.99.0.4"'],
  );
});

t.test('new keys of the file, and keys that go', async (t) => {
  t.same(
    changes((d) => ({ ...d, metrics: { listen: '127.0.0.1:9464' } })),
    ['+ metrics:', '+   listen: 127.0.0.1:9464'],
  );
  t.same(
    changes(({ timeouts: _, ...d }) => d as BalancerData),
    ['- timeouts: {idle: 5m} # short'],
  );
});

t.test('a file with Windows line ends keeps them', async (t) => {
  const text = FILE.replaceAll('\n', '\r\n');
  const rendered = renderConfig(text, setWeight(data(text), 'n2', 7));
  t.equal(rendered.replaceAll('\r\n', ''), rendered.replaceAll(/[\r\n]/g, ''));
  t.same(lineChanges(FILE, rendered.replaceAll('\r\n', '\n')), ['+     weight: 7']);
});

t.test(
  'one change of a shared value, or of a form that is rare, keeps other comments',
  async (t) => {
    const text = `# first
interface: eth0
keyFile: k # key
virtualServers:
  - {name: www, address: 10.99.0.100, port: 80}
nodes: [{name: n1, address: 10.99.0.3}, {name: n2, address: 10.99.0.4}]
resources:
  - {path: /a, nodes: &all [n1, n2]}
  - {path: /b, nodes: *all}
`;
    const after = removeResource(data(text), { path: '/a' }, 'n1');
    const rendered = renderConfig(text, after);
    t.same(parse(rendered), after);
    t.match(rendered, /^# first\ninterface: eth0\nkeyFile: k # key\n/);
  },
);

t.test('a JSON file stays JSON', async (t) => {
  const text = `${JSON.stringify(data(FILE), null, 2)}\n`;
  const added = addNode(data(text), { name: 'n4', address: '10.99.0.6' });
  const after = removeResource(setWeight(added, 'n2', 4), { path: '/images/' }, 'n1');
  const rendered = renderConfig(text, { ...after, metrics: { listen: '127.0.0.1:9464' } });
  t.same(JSON.parse(rendered), { ...after, metrics: { listen: '127.0.0.1:9464' } });
  t.same(lineChanges(text, rendered), [
    '-       "address": "10.99.0.4"',
    '+       "address": "10.99.0.4",',
    '+       "weight": 4',
    '-     }',
    '+     },',
    '+     {"name": "n4", "address": "10.99.0.6"}',
    '-         "n1",',
    '-   }',
    '+   },',
    '+   "metrics": {"listen": "127.0.0.1:9464"}',
  ]);
});

t.test('without a usable file the result is plain YAML', async (t) => {
  const after = data(FILE);
  for (const text of ['', '{', '[1]', 'a: 1\na: 2\n', '*x', '---\na: 1\n---\nb: 1\n'])
    t.same(parse(renderConfig(text, after)), after, JSON.stringify(text));
});

/** An edit that fits any data: it names objects by number. */
type Edit = [kind: number, first: number, second: number];

function apply(before: BalancerData, [kind, first, second]: Edit): BalancerData {
  const node = before.nodes[first % before.nodes.length]!.name;
  const resource = before.resources[second % before.resources.length]!;
  try {
    switch (kind) {
      case 0:
        return addNode(before, { name: `m${first}`, address: `10.98.0.${first}`, weight: second });
      case 1:
        return removeNode(before, node);
      case 2:
        return addResource(before, { path: `/p${second}`, nodes: [node] });
      case 3:
        return addResource(before, { ...resource, nodes: [node] });
      case 4:
        return removeResource(before, resource, resource.nodes[first % resource.nodes.length]);
      case 5:
        return removeResource(before, resource);
      default:
        return setWeight(before, node, 1 + second);
    }
  } catch {
    return before;
  }
}

t.test('after any edits of a file in another form the YAML has the data', async (t) => {
  const edit = fc.tuple(fc.nat(6), fc.nat(12), fc.nat(12)) as fc.Arbitrary<Edit>;
  const start = data(FILE);
  const flow = stringify(start, { collectionStyle: 'flow', lineWidth: 40 });
  const forms = [
    flow,
    JSON.stringify(start),
    JSON.stringify(start, null, 2),
    stringify(start, { indentSeq: false }),
    stringify(start, { indent: 4, defaultStringType: 'QUOTE_SINGLE' }),
    FILE.replace('nodes: [ n1,  n2 ]', 'nodes: &both [ n1,  n2 ]').replace(
      /nodes:\n {6}-.*\n.*\n/,
      'nodes: *both\n',
    ),
  ];
  fc.assert(
    fc.property(fc.constantFrom(...forms), fc.array(edit, { maxLength: 12 }), (text, edits) => {
      let after = data(text);
      for (const one of edits) after = apply(after, one);
      t.same(parse(renderConfig(text, after)), after);
    }),
    { numRuns: 300 },
  );
});

/** The lines of an item: from the one with its name to the next item, or the comment above it. */
function linesWith(text: string, piece: string): string {
  const lines = text.split('\n');
  const start = lines.findIndex((line) => line.includes(piece));
  const end = lines.findIndex((line, at) => at > start && /^(\s*-|\S| {2}#)/.test(line));
  return lines
    .slice(start, end < 0 ? undefined : end)
    .filter(Boolean)
    .join('\n');
}

t.test('after any edits the YAML has the data, and other items their lines', async (t) => {
  const edit = fc.tuple(fc.nat(6), fc.nat(12), fc.nat(12)) as fc.Arbitrary<Edit>;
  const space = fc.constantFrom('', '\n', '\n\n', '# note\n', '\n# a\n# b\n');
  fc.assert(
    fc.property(
      fc.array(edit, { maxLength: 12 }),
      fc.array(space, { maxLength: 40 }),
      (edits, gaps) => {
        // Comments and empty lines between the lines of the file, at the indentation of the next
        // one.
        const text = FILE.split('\n')
          .map((line, at) => {
            const indent = ' '.repeat(Math.max(0, line.search(/\S/)));
            return (gaps[at] ?? '').replaceAll('#', `${indent}#`) + line;
          })
          .join('\n');
        let after = data(text);
        for (const one of edits) after = apply(after, one);
        const rendered = renderConfig(text, after);
        t.same(parse(rendered), after);
        const before = data(text);
        for (const node of before.nodes) {
          const now = after.nodes.find(({ name }) => name === node.name);
          if (JSON.stringify(now) !== JSON.stringify(node)) continue;
          const named = `name: ${node.name}`;
          t.equal(linesWith(rendered, named), linesWith(text, named), `lines of ${node.name}`);
        }
        t.match(rendered, 'interface:   eth0        # the wire');
        t.match(rendered, '# The balancer of the shop.');
        t.match(rendered, '# the end');
      },
    ),
    { numRuns: 300 },
  );
});

t.test('whatever the file contains, the result has the data', async (t) => {
  const piece = fc.constantFrom(
    ...['- ', '-\n', 'a: ', 'nodes:', 'resources:\n', 'name: n1', '\n', '  ', '\t', '\r\n', ' # c'],
    ...[
      '{',
      '}',
      '[',
      ']',
      ', ',
      '&x ',
      '*x',
      '"',
      "'",
      '|\n',
      '>-\n',
      '? ',
      '!!str ',
      '---\n',
      '~',
      '<<: ',
    ],
  );
  const text = fc.array(piece, { maxLength: 30 }).map((pieces) => pieces.join(''));
  const after = data(FILE);
  fc.assert(
    fc.property(text, fc.boolean(), (text, behind) => {
      const file = behind ? FILE + text : text;
      t.same(parse(renderConfig(file, after)), after, JSON.stringify(file));
    }),
    { numRuns: 1_000 },
  );
});
