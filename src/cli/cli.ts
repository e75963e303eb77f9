/** The command line: the commands, their options, and how errors are printed. */
import { Command, CommanderError } from 'commander';
import { BatonError, reasonOf } from '../base/errors.js';
import { VERSION } from '../base/version.js';
import { addConfigCommands } from './commands/config.js';
import { addEventsCommand } from './commands/events.js';
import { addExplainCommand } from './commands/explain.js';
import { addNodeCommands } from './commands/nodes.js';
import { addObjectCommands } from './commands/objects.js';
import {
  addCaptureCommand,
  addFileCommands,
  addPrograms,
  type Programs,
} from './commands/programs.js';
import { addShowCommands } from './commands/show.js';
import { complain } from './output.js';

/**
 * Runs the command with `args` (without node and script). Resolves to the exit code: 0, or 1 after
 * an error, which has then been printed on standard error.
 */
export async function run(args: readonly string[], programs: Programs): Promise<number> {
  let exitCode = 0;
  const command = define(programs, (code) => {
    exitCode = code;
  });
  try {
    await command.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    return printError(error);
  }
}

/** Prints an error for people, on standard error. Returns the exit code. */
export function printError(error: unknown): number {
  if (error instanceof CommanderError) return printUsageError(error);
  if (error instanceof BatonError) {
    for (const line of error.toLine().split('\n')) complain(line);
  } else {
    complain(`unexpected error: ${reasonOf(error)}`);
  }
  if (process.env.BATON_DEBUG === '1' && error instanceof Error)
    process.stderr.write(`${error.stack}\n`);
  else if (!(error instanceof BatonError)) complain('set BATON_DEBUG=1 to see its stack trace');
  return 1;
}

function printUsageError(error: CommanderError): number {
  // commander has printed help or version. Help without --help is a usage error.
  if (error.exitCode === 0) return 0;
  if (error.code === 'commander.help') return 1;
  const message = error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ');
  complain(`${message} (see \`baton --help\`)`);
  return 1;
}

function define(programs: Programs, exit: (code: number) => void): Command {
  const baton = new Command('baton')
    .description(
      'Reads the request, then hands the live TCP connection to the node that holds the content.',
    )
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand(false)
    .showSuggestionAfterError(true)
    // commander copies these settings to a command when it is made, so they come first.
    .exitOverride()
    .configureOutput({ outputError: () => {} });
  baton.commandsGroup('Programs:');
  addPrograms(baton, programs, exit);
  baton.commandsGroup('Show what runs:');
  addShowCommands(baton);
  addExplainCommand(baton);
  addEventsCommand(baton);
  addCaptureCommand(baton, programs, exit);
  baton.commandsGroup('Change what runs:');
  addNodeCommands(baton);
  addObjectCommands(baton);
  addConfigCommands(baton);
  baton.commandsGroup('Work with files:');
  addFileCommands(baton, programs, exit);
  return baton;
}
