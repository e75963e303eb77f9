import { readFileSync } from 'node:fs';
import t from 'tap';
import { ACCESS_LOG_COUNTER_NAMES } from '../../src/base/access-log-counters.js';
import { API_COUNTERS } from '../../src/base/api-counters.js';
import { meaning } from '../../src/base/counter-info.js';
import { COUNTER_NAMES } from '../../src/base/counters.js';
import { GUARD_NAMES, RING_NAMES, XDP_NAMES } from '../../src/base/kernel-counters.js';
import { explain, GLOSSARY, meaningOf, renderCounterDocs } from '../../src/cli/glossary.js';
import { BalancerFile } from '../../src/config/schema.js';

t.test('every counter that is shown has a help text that stands alone', async (t) => {
  const prefixed = (prefix: string, names: readonly string[]): string[] =>
    names.map((name) => prefix + name);
  t.same(
    [...GLOSSARY.keys()],
    [
      ...COUNTER_NAMES,
      ...RING_NAMES,
      ...prefixed('guard_', GUARD_NAMES),
      ...prefixed('xdp_', XDP_NAMES),
      ...prefixed('access_log_', ACCESS_LOG_COUNTER_NAMES),
      ...Object.keys(API_COUNTERS),
    ],
  );
  for (const [name, info] of GLOSSARY) {
    t.equal(info.kind, 'counter', name);
    t.match(info.unit, /^[A-Za-z-]+s$/, `${name}: a unit in the plural`);
    t.match(info.help, /^[A-Z].{30,}\.$/, `${name}: sentences`);
    t.notMatch(
      info.help,
      /\b(those|them) of them\b|^(Those|These|They|The same)|\bas (above|before)\b/,
      `${name}: stands alone`,
    );
    t.ok(meaning(info).length <= 160, `${name}: its first sentence is short`);
  }
  const meanings = [...GLOSSARY].map(([name, info]) => `${name.split('_')[0]} ${meaning(info)}`);
  t.equal(new Set(meanings).size, GLOSSARY.size, 'no two mean the same');
});

t.test('the counters and config keys that help texts name exist', async (t) => {
  const keys = BalancerFile.properties;
  for (const [name, { help }] of GLOSSARY) {
    for (const [, group, key] of help.matchAll(/\b(limits|timeouts)\.(\w+)/g)) {
      const known: object = group === 'limits' ? keys.limits.properties : keys.timeouts.properties;
      t.ok(key !== undefined && key in known, `${name}: ${group}.${key}`);
    }
    for (const [word] of help.matchAll(/(?<!\.)\b[a-z]+(?:_[a-z0-9]+)+\b(?!\.{3})/g)) {
      const isOfLink = /^g[sr]o_ipv4_max_size$/.test(word);
      const isSysctl = /net\.ipv4\.\w+/.test(help) && help.includes(`net.ipv4.${word}`);
      t.ok(isOfLink || isSysctl || GLOSSARY.has(word), `${name}: ${word}`);
    }
  }
});

t.test('explain shows one counter or all, within a width', async (t) => {
  t.equal(
    explain('xdp_forwarded', 60),
    [
      'xdp_forwarded (counter, segments)',
      '    Segments that the XDP program forwarded to the node of',
      '    their session without waking the engine.',
    ].join('\n'),
  );
  const all = explain(undefined, 72).split('\n');
  t.ok(all.every((line) => line.length <= 72));
  t.equal(all.filter((line) => /^\w+ \(counter, /.test(line)).length, GLOSSARY.size);
  t.throws(() => explain('drop_cooki', 80), {
    code: 'BATON_ARGUMENT',
    message: 'there is no counter "drop_cooki"',
    hint: 'similar: drop_cookie',
  });
  t.throws(() => explain('\u001b[2J', 80), {
    message: 'there is no counter "\\u001b[2J"',
    hint: /without a name/,
  });
  t.equal(
    meaningOf('drop_unresolved'),
    'Frames for a node dropped because its MAC address was not known.',
  );
  t.equal(meaningOf('of_a_later_version'), '');
});

t.test('docs/counters.md matches the declarations', async (t) => {
  const page = new URL('../../../docs/counters.md', import.meta.url);
  t.equal(
    readFileSync(page, 'utf8'),
    renderCounterDocs(),
    'run `node dist/scripts/counter-docs.js`',
  );
});
