/**
 * Addresses and tc filters as the addon reads them, compared with `ip` and `tc`.
 */
import t from 'tap';
import { listAddresses } from '../../src/host/addresses.js';
import { loadObject } from '../../src/host/bpf-object.js';
import { hasClsact, listFilters } from '../../src/host/filters.js';
import { native } from '../../src/host/native.js';
import { requireAddress } from '../../src/wire/address.js';
import { insideNamespace, run } from './namespace.js';

/** A classic BPF program: one instruction, which passes every frame. */
const CLASSIC = '1,6 0 0 4294967295,';

interface ShownAddress {
  ifname: string;
  addr_info: { family: string; local: string; prefixlen: number }[];
}
interface ShownFilter {
  pref: number;
  kind: string;
  options?: { handle?: number | string; prog?: { name?: string; id: number } };
}

/** The same, from the tools. */
function shownAddresses(): unknown[] {
  const links = JSON.parse(run('ip', '-j', '-4', 'address', 'show')) as ShownAddress[];
  return links.flatMap(({ ifname, addr_info }) =>
    addr_info.map(({ local, prefixlen }) => ({
      interface: ifname,
      address: requireAddress(local),
      prefix: prefixlen,
    })),
  );
}

function shownFilters(name: string): unknown[] {
  return ['ingress', 'egress'].flatMap((hook) => {
    const filters = JSON.parse(
      run('tc', '-j', 'filter', 'show', 'dev', name, hook),
    ) as ShownFilter[];
    return filters.flatMap(({ pref, options }) =>
      options?.handle === undefined
        ? []
        : [
            {
              hook,
              priority: pref,
              handle: Number(options.handle),
              program: options.prog?.name,
              programId: options.prog?.id,
            },
          ],
    );
  });
}

if (insideNamespace(import.meta.url)) {
  run('ip', 'link', 'add', 'e0', 'type', 'veth', 'peer', 'name', 'e1');
  run('ip', 'link', 'set', 'e0', 'up');

  t.test('addresses: several, with a label, with a peer', async (t) => {
    run('ip', 'address', 'add', '10.1.0.1/24', 'dev', 'e0');
    run('ip', 'address', 'add', '10.1.0.2/24', 'label', 'e0:two', 'dev', 'e0');
    run('ip', 'address', 'add', '10.1.1.1', 'peer', '10.1.1.2/32', 'dev', 'e0');
    run('ip', 'address', 'add', '10.2.0.1/32', 'dev', 'e1');
    t.strictSame(listAddresses(), shownAddresses());
    t.equal(listAddresses().length, 5, 'including the address of lo');
    for (let last = 1; last < 255; last++)
      run('ip', 'address', 'add', `10.3.0.${last}/24`, 'dev', 'e1');
    t.strictSame(listAddresses(), shownAddresses(), 'more than fit one message of the kernel');
  });

  t.test('filters: of Baton, of others, without a program', async (t) => {
    t.notOk(hasClsact('e0'));
    t.strictSame(listFilters('e0'), []);
    run('tc', 'qdisc', 'add', 'dev', 'e1', 'ingress');
    t.notOk(hasClsact('e1'), 'ingress is another qdisc, with one hook');
    run('tc', 'qdisc', 'add', 'dev', 'e0', 'clsact');
    t.ok(hasClsact('e0'));
    t.notOk(hasClsact('e1'), 'that is of another interface');
    t.strictSame(listFilters('e0'), []);

    const shim = loadObject('shim');
    t.teardown(() => shim.close());
    const index = native().interfaceInfo('e0')?.index ?? 0;
    shim.attachTc('shim_egress', index, 'egress', 2, 1);
    shim.attachTc('shim_ingress', index, 'ingress', 2, 7);
    shim.attachTc('shim_ingress', index, 'ingress', 2, 8);
    const ours = [
      { hook: 'ingress', priority: 2, handle: 8, program: 'shim_ingress' },
      { hook: 'ingress', priority: 2, handle: 7, program: 'shim_ingress' },
      { hook: 'egress', priority: 2, handle: 1, program: 'shim_egress' },
    ];
    t.strictSame(
      listFilters('e0').map(({ programId, ...rest }) => rest),
      ours,
    );
    t.strictSame(listFilters('e0'), shownFilters('e0'));
    run(
      'tc',
      'filter',
      'add',
      'dev',
      'e0',
      'ingress',
      'pref',
      '9',
      'u32',
      'match',
      'u32',
      '0',
      '0',
    );
    const others = listFilters('e0').filter(({ priority }) => priority === 9);
    t.ok(others.length > 0);
    t.ok(others.every(({ hook, program }) => hook === 'ingress' && program === undefined));
    run('tc', 'filter', 'del', 'dev', 'e0', 'ingress', 'pref', '9');
    run(
      'tc',
      'filter',
      'add',
      'dev',
      'e0',
      'egress',
      'pref',
      '3',
      'bpf',
      'da',
      'bytecode',
      CLASSIC,
    );
    t.strictSame(listFilters('e0'), shownFilters('e0'), 'a classic program, which has no name');
    t.equal(listFilters('e0').length, 4);
  });

  t.test(
    'without permission to see programs: the names given when they were attached',
    async (t) => {
      const code = `
      import { listFilters } from '${new URL('../../src/host/filters.js', import.meta.url)}';
      process.stdout.write(JSON.stringify(listFilters('e0').map((filter) => filter.program ?? '')));`;
      const args = [
        '--bounding-set=-sys_admin',
        process.execPath,
        '--input-type=module',
        '--eval',
        code,
      ];
      const expected = ['shim_ingress', 'shim_ingress', 'shim_egress', ''];
      t.strictSame(JSON.parse(run('setpriv', ...args)), expected);
    },
  );

  t.test('an interface that does not exist', async (t) => {
    t.throws(() => listFilters('e9'), {
      code: 'BATON_SYSTEM',
      message: 'there is no interface e9',
    });
    t.throws(() => hasClsact('e9'), { code: 'BATON_SYSTEM' });
  });
}
