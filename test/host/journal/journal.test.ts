import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { addressNumber } from '../../../lab/packet.js';
import { listAddresses } from '../../../src/host/addresses.js';
import { loadObject } from '../../../src/host/bpf-object.js';
import { hasClsact, listFilters } from '../../../src/host/filters.js';
import { Journal } from '../../../src/host/journal/journal.js';
import { native } from '../../../src/host/native.js';
import { readSetting, writeSetting } from '../../../src/host/sysctl.js';
import { insideNamespace, run } from '../../kernel/namespace.js';

const ARP_IGNORE = 'ipv4/conf/eth0/arp_ignore';
const one = (current: number): boolean => current === 1;

if (insideNamespace(import.meta.url)) {
  run('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'peer0');
  run('ip', 'link', 'set', 'eth0', 'up');
  run('ip', 'link', 'set', 'peer0', 'up');
  const parent = mkdtempSync(join(tmpdir(), 'baton-journal-'));
  const directory = join(parent, 'run');
  t.teardown(() => rmSync(parent, { recursive: true, force: true }));
  const warnings: string[] = [];
  const open = (): Journal => {
    const info = native().interfaceInfo('eth0');
    if (info === undefined) throw new Error('eth0 is not there');
    return new Journal({
      role: 'node',
      interface: 'eth0',
      index: info.index,
      mac: info.mac,
      warn: (message) => warnings.push(message),
      directory,
    });
  };
  const file = (): string => join(directory, readdirSync(directory)[0] ?? 'none');
  const index = (): number => native().interfaceInfo('eth0')?.index ?? 0;
  const shim = loadObject('shim');
  const attach = async (journal: Journal): Promise<void> => {
    for (const hook of ['ingress', 'egress'] as const) {
      const program = `shim_${hook}`;
      await journal.filter({ hook, priority: 2, handle: 1, program }, () =>
        shim.attachTc(program, index(), hook, 2, 1),
      );
    }
  };
  const machine = async (): Promise<unknown> => ({
    addresses: listAddresses(),
    filters: listFilters('eth0').map((filter) => filter.program),
    clsact: hasClsact('eth0'),
    arp: readSetting(ARP_IGNORE),
  });
  const setUp = async (journal: Journal): Promise<void> => {
    await journal.address('lo', addressNumber('10.99.0.100'));
    await journal.setting(ARP_IGNORE, '1', one);
    await attach(journal);
  };

  t.beforeEach(() => {
    warnings.length = 0;
  });

  t.test('the end undoes all changes and removes the file', async (t) => {
    const before = await machine();
    const journal = open();
    await setUp(journal);
    t.equal(readSetting(ARP_IGNORE), '1');
    t.ok(
      listAddresses().some(
        (entry) => entry.address === addressNumber('10.99.0.100') && entry.interface === 'lo',
      ),
    );
    t.same(
      listFilters('eth0').map(({ hook, priority, handle, program }) => [
        hook,
        priority,
        handle,
        program,
      ]),
      [
        ['ingress', 2, 1, 'shim_ingress'],
        ['egress', 2, 1, 'shim_egress'],
      ],
    );
    t.equal(statSync(file()).mode & 0o777, 0o600);
    t.equal(statSync(directory).mode & 0o777, 0o700);
    await journal.end();
    await journal.end();
    t.same(await machine(), before);
    t.same(readdirSync(directory), []);
    t.same(warnings, []);
  });

  t.test('a change is in the file before it is made', async (t) => {
    const journal = open();
    const attached = journal.filter(
      { hook: 'ingress', priority: 2, handle: 1, program: 'shim_ingress' },
      () => {
        throw new Error(readFileSync(file(), 'utf8'));
      },
    );
    await t.rejects(attached, /"clsact".*"shim_ingress"/s);
    await journal.end();
  });

  t.test('the next run undoes the changes of a killed run that it does not ask for', async (t) => {
    const before = await machine();
    await setUp(open());
    const journal = open();
    t.equal(journal.changes.length, 5);
    await journal.settle();
    t.same(await machine(), before);
    await journal.end();
  });

  t.test('a change of a killed run that this run asks for stays until the end', async (t) => {
    const before = await machine();
    await setUp(open());
    const journal = open();
    const set = await machine();
    await setUp(journal);
    await journal.settle();
    t.same(await machine(), set);
    await journal.end();
    t.same(
      await machine(),
      before,
      'the value of the setting is the one from before the first run',
    );
  });

  t.test('the objects of others stay as they are', async (t) => {
    run('ip', 'address', 'add', '10.99.0.100/32', 'dev', 'lo');
    run('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact');
    const before = await machine();
    const journal = open();
    await journal.address('lo', addressNumber('10.99.0.100'));
    await attach(journal);
    await journal.end();
    t.same(await machine(), before);
    run('ip', 'address', 'del', '10.99.0.100/32', 'dev', 'lo');
    run('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact');
  });

  t.test('a setting that somebody has changed since then keeps that value', async (t) => {
    const journal = open();
    await journal.setting(ARP_IGNORE, '1', one);
    writeSetting(ARP_IGNORE, '2');
    await journal.end();
    t.equal(readSetting(ARP_IGNORE), '2');
    writeSetting(ARP_IGNORE, '0');
  });

  t.test("another program's filter is neither replaced nor removed", async (t) => {
    const guard = loadObject('guard');
    guard.attachTc('guard_ingress', index(), 'ingress', 2, 1);
    const journal = open();
    await t.rejects(attach(journal), {
      code: 'BATON_IN_USE',
      message: 'tc filters with priority 2 at ingress belong to another program (guard_ingress)',
    });
    await journal.end();
    t.same(
      listFilters('eth0').map((filter) => filter.program),
      ['guard_ingress'],
    );
    guard.close();
    native().detachTc(index(), 'ingress', 2, 1);
    native().removeClsactIfEmpty(index());
  });

  t.test('a change that is no longer in force is made again', async (t) => {
    const journal = open();
    await setUp(journal);
    const set = await machine();
    run('ip', 'address', 'del', '10.99.0.100/32', 'dev', 'lo');
    run('tc', 'qdisc', 'del', 'dev', 'eth0', 'clsact');
    writeSetting(ARP_IGNORE, '0');
    t.same(await journal.repair(), [
      'address 10.99.0.100/32 on lo',
      'net/ipv4/conf/eth0/arp_ignore = 1',
      'tc filter shim_ingress (ingress)',
      'tc filter shim_egress (egress)',
    ]);
    t.same(await machine(), set);
    t.same(await journal.repair(), []);
    await journal.end();
    t.equal(hasClsact('eth0'), false);
  });

  t.test('a file that is not a valid journal causes a warning and counts as none', async (t) => {
    const journal = open();
    await journal.setting(ARP_IGNORE, '1', one);
    const path = file();
    const good = readFileSync(path, 'utf8');
    const wrong = [
      '',
      '{',
      '[]',
      '{"version":2}',
      good.replace('arp_ignore', '../../x'),
      good.replace('1', '9'),
    ];
    for (const text of wrong) {
      warnings.length = 0;
      writeFileSync(path, text);
      t.same(open().changes, []);
      t.match(
        warnings,
        [`${path}: is not a valid journal: changes of an earlier run stay in force`],
        JSON.stringify(text),
      );
    }
    await journal.end();
    t.notOk(existsSync(path));
  });

  t.test('a file of a dead namespace with the same inode is ignored', async (t) => {
    writeSetting(ARP_IGNORE, '1');
    const journal = open();
    await journal.address('lo', addressNumber('10.99.0.100'));
    const path = file();
    const record = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
    const changes = [{ kind: 'setting', setting: ARP_IGNORE, value: '1', previous: '0' }];
    for (const strange of [{ index: 77 }, { mac: '02:00:00:00:00:99' }]) {
      writeFileSync(path, JSON.stringify({ ...record, changes, ...strange }));
      const other = open();
      t.same(other.changes, []);
      await other.settle();
      t.equal(readSetting(ARP_IGNORE), '1');
    }
    t.same(warnings, []);
    await journal.end();
    writeSetting(ARP_IGNORE, '0');
  });

  t.test('a filter on another interface', async (t) => {
    run('ip', 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'peer1');
    const at = { interface: 'eth1', index: native().interfaceInfo('eth1')?.index ?? 0 };
    const there = async (): Promise<unknown> => ({
      filters: listFilters('eth1').map((filter) => filter.program),
      clsact: hasClsact('eth1'),
    });
    const before = await machine();
    const nothing = await there();
    const attachThere = (journal: Journal): Promise<void> =>
      journal.filter({ at, hook: 'ingress', priority: 2, handle: 1, program: 'shim_ingress' }, () =>
        shim.attachTc('shim_ingress', at.index, 'ingress', 2, 1),
      );
    const killed = open();
    await attachThere(killed);
    t.same(await there(), { filters: ['shim_ingress'], clsact: true });
    t.same(await machine(), before, "the journal's own interface is as it was");

    const next = open();
    await attachThere(next);
    await next.settle();
    t.same(
      await there(),
      { filters: ['shim_ingress'], clsact: true },
      'it stays when this run asks for it',
    );
    native().detachTc(at.index, 'ingress', 2, 1);
    t.same(await next.repair(), ['tc filter shim_ingress (ingress) on eth1']);
    t.same(await there(), { filters: ['shim_ingress'], clsact: true });

    const other = open();
    await other.settle();
    t.same(await there(), nothing, 'it is undone when this run does not ask for it');

    await attachThere(other);
    run('ip', 'link', 'del', 'eth1');
    run('ip', 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'peer1');
    run('tc', 'qdisc', 'add', 'dev', 'eth1', 'clsact');
    await other.end();
    t.ok(hasClsact('eth1'), 'clsact of a later interface with that name is not ours');
    t.same(warnings, []);
    run('ip', 'link', 'del', 'eth1');
  });

  t.test('an interface is replaced by another one with the same name', async (t) => {
    const journal = open();
    await setUp(journal);
    run('ip', 'link', 'del', 'eth0');
    run('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'peer0');
    const info = native().interfaceInfo('eth0');
    if (info === undefined) throw new Error('eth0 is not there');
    journal.moveTo(info.index, info.mac);
    t.same(
      journal.changes.map((change) => change.kind),
      ['address'],
    );
    const before = await machine();
    await setUp(journal);
    t.not(JSON.stringify(await machine()), JSON.stringify(before));
    await journal.end();
    t.equal(readSetting(ARP_IGNORE), '0');
    t.equal(hasClsact('eth0'), false);
    t.same(warnings, []);
  });

  t.test('a directory that others can write to is refused', async (t) => {
    const open = mkdtempSync(join(tmpdir(), 'baton-journal-'));
    run('chmod', '777', open);
    t.throws(
      () =>
        new Journal({
          role: 'node',
          interface: 'eth0',
          index: 1,
          mac: new Uint8Array(6),
          warn: () => {},
          directory: open,
        }),
      { code: 'BATON_SYSTEM', where: open },
    );
    rmSync(open, { recursive: true });
  });
}
