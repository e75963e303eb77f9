/** Commands for the config of a running balancer: reload, config. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { BatonError } from '../../base/errors.js';
import { printable } from '../../base/text.js';
import { addClientOptions, type ClientOptions, client } from '../connect.js';
import { complain, print, printJson } from '../output.js';
import { makeChange } from './changed.js';

export function addConfigCommands(baton: Command): void {
  addClientOptions(
    baton
      .command('reload')
      .description('make a running balancer read its config again: all of it, or nothing')
      .addHelpText(
        'after',
        '\nWith -c the balancer reads that file; with --socket, the file that it has read last.\nSessions go on. What cannot change while the balancer runs needs `baton balancer --replace`.',
      ),
  ).action((options: ClientOptions) =>
    makeChange(options, {
      kind: 'reload',
      ...(options.config === undefined ? {} : { file: resolve(options.config) }),
    }),
  );

  addClientOptions(
    baton.command('config').description('print the config that a running balancer has, as YAML'),
  )
    .option('--save', 'write it into the config file instead; comments and order stay', false)
    .option('--force', 'with --save: overwrite what others have changed in the file', false)
    .action(async (options: ClientOptions & { save: boolean; force: boolean }) => {
      if (options.save) return save(options, options.force);
      if (options.force) {
        throw new BatonError('BATON_ARGUMENT', '--force has a meaning only with --save');
      }
      const config = await client(options).config();
      if (options.json) printJson(config);
      else process.stdout.write(config.text);
      if (!config.saved) {
        complain(
          `what runs differs from ${printable(config.file)}; \`baton config --save\` writes it there`,
        );
      }
    });
}

async function save(options: ClientOptions, force: boolean): Promise<void> {
  const saved = await client(options).saveConfig(force ? { force } : {});
  const file = printable(saved.file);
  if (options.json) printJson(saved);
  else print(saved.written ? `${file} is written` : `${file} already has what runs`);
}
