/** The file with the states that operators have set. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { OperatorFile, type OperatorState } from '../../../src/balancer/objects/operator-states.js';
import { namespaceInode } from '../../../src/host/namespace.js';
import { requireAddress } from '../../../src/wire/address.js';

const N1 = requireAddress('10.0.0.3');
const N2 = requireAddress('10.0.0.4');
const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const DRAINING: OperatorState = { state: 'draining', by: 'local', why: 'disk', since: 1_000 };
const UP: OperatorState = { state: 'up', by: 'ops', why: '', since: 2_000 };
const NAME = `nodes-eth0-${namespaceInode()}.json`;

function filesIn(t: Test) {
  const directory = t.testdir({});
  const warnings: string[] = [];
  const log = { warn: (text: string) => void warnings.push(text) };
  return {
    path: join(directory, NAME),
    warnings,
    open: (index = 2, mac = MAC): OperatorFile =>
      new OperatorFile({ interface: 'eth0', index, mac, log, directory }),
  };
}

t.test('what was saved is there after a start', async (t) => {
  const { open, path, warnings } = filesIn(t);
  const first = open();
  t.equal(first.of(N1), undefined);
  first.save([
    { address: N1, operator: DRAINING },
    { address: N2, operator: undefined },
  ]);
  t.equal(statSync(path).mode & 0o777, 0o600);
  const second = open();
  t.same(second.of(N1), DRAINING);
  t.equal(second.of(N2), undefined);
  t.same(warnings, []);
});

t.test('up is not kept, and without a state there is no file', async (t) => {
  const { open, path } = filesIn(t);
  const first = open();
  first.save([{ address: N1, operator: DRAINING }]);
  first.save([{ address: N1, operator: UP }]);
  t.throws(() => statSync(path), { code: 'ENOENT' });
  t.equal(first.of(N1), undefined);
});

t.test('the file of another interface says nothing', async (t) => {
  const { open, warnings } = filesIn(t);
  open().save([{ address: N1, operator: DRAINING }]);
  t.equal(open(3).of(N1), undefined);
  t.equal(open(2, Uint8Array.of(2, 0, 0, 0, 0, 9)).of(N1), undefined);
  t.same(warnings, []);
});

t.test('a file that is not valid is ignored with a warning', async (t) => {
  const { open, path, warnings } = filesIn(t);
  open().save([{ address: N1, operator: DRAINING }]);
  const good = readFileSync(path, 'utf8');
  for (const bad of [
    '',
    '{',
    '[]',
    good.replace('"version":1', '"version":2'),
    good.replace('draining', 'asleep'),
    good.replace('"since":1000', '"since":"then"'),
    good.replace('"why":"disk"', '"why":1'),
  ]) {
    writeFileSync(path, bad);
    t.equal(open().of(N1), undefined, bad);
    t.match(warnings.splice(0), [`${path}: is not valid: states of nodes`]);
  }
});
