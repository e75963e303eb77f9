/** `baton --help` has the commands in groups, in the order in which an operator needs them. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const MAIN = fileURLToPath(new URL('../../src/main.js', import.meta.url));

t.test('commands are in groups', async (t) => {
  const help = execFileSync(process.execPath, [MAIN, '--help'], { encoding: 'utf8' });
  const groups = [...help.matchAll(/^(\S.*):\n((?: {2}\S.*\n(?: {4}.*\n)*)+)/gm)].map(
    ([, title = '', lines = '']) => ({
      title,
      names: [...lines.matchAll(/^ {2}([a-z]\w+) /gm)].map(([, name]) => name),
    }),
  );
  t.same(
    groups.filter(({ names }) => names.length > 0),
    [
      { title: 'Programs', names: ['balancer', 'node'] },
      {
        title: 'Show what runs',
        names: ['stats', 'sessions', 'resources', 'explain', 'events', 'capture'],
      },
      {
        title: 'Change what runs',
        names: [
          ...['drain', 'disable', 'enable', 'weight'],
          ...['add', 'remove', 'reload', 'config'],
        ],
      },
      { title: 'Work with files', names: ['check', 'key', 'token', 'replay'] },
    ],
  );
});
