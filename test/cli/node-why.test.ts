/** The column WHY of tables of nodes. */
import t from 'tap';
import type { NodeDocument, NodeSource } from '../../src/api/documents.js';
import { nodeWhy } from '../../src/cli/node-why.js';

const CONFIG: NodeSource = { source: 'config', state: 'up', by: 'config', why: '', since: 0 };
const drained = (why: string): NodeSource => ({
  source: 'operator',
  state: 'draining',
  by: 'local',
  why,
  since: 1_000,
});
const found = (why: string): NodeSource => ({
  source: 'balancer',
  state: 'up',
  by: 'balancer',
  why,
  since: 0,
});

const ROWS: [NodeDocument['condition'], NodeSource[], string][] = [
  ['up', [CONFIG, found('')], ''],
  ['up', [CONFIG, found('its agent no longer reports')], 'its agent no longer reports'],
  ['unresolved', [CONFIG, found('no reply')], 'unresolved: no reply'],
  ['leaving', [CONFIG, found('')], 'leaving'],
  ['up', [drained(''), found('')], 'by local, 3m05s ago'],
  ['up', [drained('disk swap'), found('')], 'by local: disk swap, 3m05s ago'],
  [
    'unresolved',
    [drained('disk swap'), found('no reply')],
    'by local: disk swap, 3m05s ago; unresolved: no reply',
  ],
  ['up', [{ ...drained(''), state: 'up' }, found('')], ''],
  ['up', [{ ...drained('done'), state: 'up' }, found('')], 'by local: done, 3m05s ago'],
  [
    'removed',
    [CONFIG, { ...CONFIG, why: 'it is no longer in the config' }],
    'it is no longer in the config',
  ],
];

for (const [condition, sources, text] of ROWS)
  t.test(text, async (t) => t.equal(nodeWhy({ condition, sources }, 186_000), text));
