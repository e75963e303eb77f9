/** Commands that show what a running balancer does: stats, sessions, resources. */
import { type Command, Option } from 'commander';
import { VERSION } from '../../base/version.js';
import { parseCount, parseLimit, parseSeconds } from '../arguments.js';
import { addClientOptions, type ClientOptions, client } from '../connect.js';
import { Stream, Terminal } from '../display.js';
import { explain, explained } from '../glossary.js';
import { complain, lineWidth, print, wide } from '../output.js';
import { renderResources, renderSessions, renderStats } from '../reports.js';
import { standardScreen, watchUntilSignal } from '../watch.js';

const DEFAULT_ROWS = 100;

export function addShowCommands(baton: Command): void {
  addClientOptions(
    baton.command('stats').description('print state and counters of a running balancer'),
  )
    .addOption(
      new Option('-w, --watch [seconds]', 'show its activity live, until Ctrl-C')
        .preset('1')
        .argParser(parseSeconds),
    )
    .addOption(
      new Option('--count <intervals>', 'end after this many intervals')
        .argParser(parseCount)
        .implies({ watch: 1 }),
    )
    .addOption(wide().conflicts('watch'))
    .addOption(
      new Option(
        '--explain [counter]',
        'print what this counter means, or what all counters mean; needs no balancer',
      )
        .preset(true)
        .conflicts(['watch', 'count']),
    )
    .action(async (options: ClientOptions & StatsOptions) => {
      if (options.explain !== undefined) return explainCounters(options.explain, options);
      if (options.watch !== undefined) return watchStats(options, options.watch, options.count);
      const stats = await client(options).stats();
      warnOfVersion(stats.version);
      print(
        options.json ? JSON.stringify(stats, null, 2) : renderStats(stats, lineWidth(options.wide)),
      );
    });

  addClientOptions(
    baton.command('sessions').description('print the sessions of a running balancer'),
  )
    .option('--limit <count>', 'print at most this many sessions', parseLimit, DEFAULT_ROWS)
    .addOption(wide())
    .action(async (options: ClientOptions & { limit: number; wide: boolean }) => {
      const list = await client(options).sessions(options.limit);
      print(
        options.json
          ? JSON.stringify(list, null, 2)
          : renderSessions(list, lineWidth(options.wide)),
      );
    });

  addClientOptions(
    baton
      .command('resources')
      .description('print the resources of a running balancer and their holders'),
  )
    .option('--limit <count>', 'print at most this many resources', parseLimit, DEFAULT_ROWS)
    .addOption(wide())
    .action(async (options: ClientOptions & { limit: number; wide: boolean }) => {
      const list = await client(options).resources(options.limit);
      print(
        options.json
          ? JSON.stringify(list, null, 2)
          : renderResources(list, lineWidth(options.wide)),
      );
    });
}

interface StatsOptions {
  watch?: number;
  count?: number;
  wide: boolean;
  /** true: all counters. */
  explain?: string | true;
}

/** The longest line of text, without a terminal or on a wider one. */
const LONGEST_LINE = 100;

function explainCounters(asked: string | true, { json, wide }: ClientOptions & StatsOptions): void {
  const name = asked === true ? undefined : asked;
  const most = Math.min(LONGEST_LINE, lineWidth(wide) ?? LONGEST_LINE);
  print(json ? JSON.stringify(explained(name), null, 2) : explain(name, most));
}

/** After an upgrade the running balancer keeps its version until it is replaced. */
function warnOfVersion(running: string): void {
  if (running === VERSION) return;
  complain(
    `warning: the running balancer is version ${running}, this command is version ${VERSION}; \`baton balancer --replace\` starts the installed version`,
  );
}

function watchStats(
  options: ClientOptions,
  seconds: number,
  count: number | undefined,
): Promise<void> {
  const screen = standardScreen();
  const text = (): Stream | Terminal =>
    screen.size() === undefined ? Stream.text(screen) : new Terminal(screen);
  const display = options.json ? Stream.json(screen) : text();
  return watchUntilSignal(client(options), { seconds, count }, display);
}
