/** The command line: what can be asked of Baton, and how its errors are told. */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { ControlClient } from '../api/client.js';
import { FEWEST_SNAP_BYTES, MOST_SNAP_BYTES } from '../api/documents.js';
import { BatonError, reasonOf } from '../base/errors.js';
import { printable } from '../base/text.js';
import { VERSION } from '../base/version.js';
import type { CaptureArguments, ReplayArguments } from '../config/arguments.js';
import { newKey, readKey, writeNewKey } from '../config/key.js';
import { loadBalancerConfig, loadConfig } from '../config/load.js';
import { machineWarnings } from '../config/machine-warnings.js';
import { DEFAULT_CONTROL_SOCKET } from '../config/schema.js';
import { parseIpv4 } from '../wire/ipv4.js';
import { Stream, Terminal } from './display.js';
import { explain, explained } from './glossary.js';
import { renderCheck, renderSessions, renderStats } from './reports.js';
import { standardScreen, watchUntilSignal } from './watch.js';

/** The programs that the command starts. Each resolves to an exit code once it has stopped. */
export interface Programs {
  /** `replace`: a balancer that runs there already is asked to leave. */
  balancer(configFile: string, replace: boolean): Promise<number>;
  /** Takes away what earlier runs of a balancer left on its machine. */
  detachAll(configFile: string): Promise<number>;
  node(configFile: string): Promise<number>;
  capture(options: CaptureArguments): Promise<number>;
  replay(options: ReplayArguments): Promise<number>;
}

const DEFAULT_ROWS = 100;
const MOST_ROWS_ASKED = 16_000_000;
const SHORTEST_INTERVAL_SECONDS = 0.1;
const LONGEST_INTERVAL_SECONDS = 86_400;
/** Of intervals or frames. */
const MOST_COUNT = 1_000_000_000;
const MOST_PORT = 65_535;

/**
 * Runs the command with `args` (without node and script) and resolves to the exit code: 0, or 1 for
 * everything that went wrong, which has then been told on standard error.
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
    return tell(error);
  }
}

/** Tells of an error as people want to read it. Returns the exit code. */
export function tell(error: unknown): number {
  if (error instanceof CommanderError) return tellUsage(error);
  if (error instanceof BatonError) {
    for (const line of error.toLine().split('\n')) complain(line);
  } else {
    complain(`unexpected error: ${reasonOf(error)}`);
  }
  if (process.env.BATON_DEBUG === '1' && error instanceof Error)
    process.stderr.write(`${error.stack}\n`);
  else if (!(error instanceof BatonError)) complain('set BATON_DEBUG=1 to see where it came from');
  return 1;
}

function tellUsage(error: CommanderError): number {
  // Help and version have been printed by then, and help that nobody asked for is a usage error.
  if (error.exitCode === 0) return 0;
  if (error.code === 'commander.help') return 1;
  const message = error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ');
  complain(`${message} (see \`baton --help\`)`);
  return 1;
}

function complain(line: string): void {
  process.stderr.write(`baton: ${printable(line)}\n`);
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
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
    // Settings are copied to a command when it is made, so these come before all of them.
    .exitOverride()
    .configureOutput({ outputError: () => {} });

  baton
    .command('balancer')
    .description('run a balancer until it is told to stop')
    .requiredOption('-c, --config <file>', 'its config')
    .option('--replace', 'ask the one that runs there to leave, and take its sessions over', false)
    .addOption(
      new Option('--detach-all', 'run nothing; take away what earlier runs left on the interface')
        .default(false)
        .conflicts('replace'),
    )
    .action(
      async ({
        config,
        replace,
        detachAll,
      }: {
        config: string;
        replace: boolean;
        detachAll: boolean;
      }) =>
        exit(await (detachAll ? programs.detachAll(config) : programs.balancer(config, replace))),
    );

  baton
    .command('node')
    .description("run a node's agent until it is told to stop")
    .requiredOption('-c, --config <file>', 'its config')
    .action(async ({ config }: { config: string }) => exit(await programs.node(config)));

  baton
    .command('check')
    .description('check the config of a balancer or a node, and run nothing')
    .requiredOption('-c, --config <file>', 'the config')
    .action(({ config }: { config: string }) => check(config));

  baton
    .command('key')
    .description('print a new key, or write it to a new file that only its owner can read')
    .argument('[file]', 'the file')
    .action((file: string | undefined) => {
      if (file === undefined) print(newKey());
      else writeNewKey(file);
    });

  baton
    .command('capture')
    .description(
      "write the frames of a running balancer to a file: its XDP program's and its engine's",
    )
    .requiredOption('-c, --config <file>', 'its config')
    .requiredOption('-w, --write <file>', 'the file, pcapng; - for standard output')
    .addOption(
      new Option('--client <address[:port]>', 'only the frames of this client').argParser(
        parseClient,
      ),
    )
    .addOption(new Option('--count <frames>', 'end after so many').argParser(parseCount))
    .addOption(new Option('--seconds <seconds>', 'end after so long').argParser(parseSeconds))
    .addOption(
      new Option('--snaplen <bytes>', 'most bytes of a frame')
        .argParser(parseSnaplen)
        .default(MOST_SNAP_BYTES),
    )
    .action(async (options: CaptureArguments) => exit(await programs.capture(options)));

  baton
    .command('replay')
    .description('run a capture through the engine and tell what Baton would have done')
    .requiredOption('-c, --config <file>', "a balancer's config")
    .requiredOption('--in <file>', 'the capture, pcap or pcapng')
    .option('--out <file>', 'write the frames that Baton would have sent')
    .addOption(
      new Option(
        '--checksums <how>',
        "what becomes of segments with wrong checksums: verify drops them, ignore takes them; default: ignored where most of a client's are wrong",
      ).choices(['verify', 'ignore']),
    )
    .option('--json', 'print JSON', false)
    .action(async (options: ReplayArguments) => exit(await programs.replay(options)));

  askable(baton.command('sessions').description("print a running balancer's sessions"))
    .option('--limit <count>', 'sessions to print', parseLimit, DEFAULT_ROWS)
    .addOption(wide())
    .action(async (options: Asking & { limit: number; wide: boolean }) => {
      const list = await client(options).sessions(options.limit);
      print(
        options.json
          ? JSON.stringify(list, null, 2)
          : renderSessions(list, lineWidth(options.wide)),
      );
    });

  askable(baton.command('stats').description("print a running balancer's state and counters"))
    .addOption(
      new Option('-w, --watch [seconds]', 'show what it does, live, until Ctrl-C')
        .preset('1')
        .argParser(parseSeconds),
    )
    .addOption(
      new Option('--count <intervals>', 'end after so many')
        .argParser(parseCount)
        .implies({ watch: 1 }),
    )
    .addOption(wide().conflicts('watch'))
    .addOption(
      new Option(
        '--explain [counter]',
        'ask no balancer; tell what this counter means, or all of them',
      )
        .preset(true)
        .conflicts(['watch', 'count']),
    )
    .action(async (options: Asking & StatsOptions) => {
      if (options.explain !== undefined) return explainCounters(options.explain, options);
      if (options.watch !== undefined) return watchStats(options, options.watch, options.count);
      const stats = await client(options).stats();
      warnOfVersion(stats.version);
      print(
        options.json ? JSON.stringify(stats, null, 2) : renderStats(stats, lineWidth(options.wide)),
      );
    });
  return baton;
}

interface StatsOptions {
  watch?: number;
  count?: number;
  wide: boolean;
  /** true: all counters. */
  explain?: string | true;
}

/**
 * Lines of text are not longer than this where there is no terminal, and not on one that is wider.
 */
const LONGEST_LINE = 100;

function explainCounters(asked: string | true, { json, wide }: Asking & StatsOptions): void {
  const name = asked === true ? undefined : asked;
  const most = Math.min(LONGEST_LINE, lineWidth(wide) ?? LONGEST_LINE);
  print(json ? JSON.stringify(explained(name), null, 2) : explain(name, most));
}

function wide(): Option {
  return new Option('--wide', 'tables in full, though the terminal is narrower').default(false);
}

/** Characters that a line may have; undefined: any number, also where the output is no terminal. */
function lineWidth(isWide: boolean): number | undefined {
  // Some terminals say that they have 0 columns.
  return isWide ? undefined : process.stdout.columns || undefined;
}

/** An upgrade leaves the balancer that runs as it is until it is replaced. */
function warnOfVersion(running: string): void {
  if (running === VERSION) return;
  complain(
    `warning: the balancer that runs is version ${running}, this command is version ${VERSION}; \`baton balancer --replace\` starts the installed version`,
  );
}

function watchStats(options: Asking, seconds: number, count: number | undefined): Promise<void> {
  const screen = standardScreen();
  const text = (): Stream | Terminal =>
    screen.size() === undefined ? Stream.text(screen) : new Terminal(screen);
  const display = options.json ? Stream.json(screen) : text();
  return watchUntilSignal(client(options), { seconds, count }, display);
}

interface Asking {
  config?: string;
  socket?: string;
  json: boolean;
}

function askable(command: Command): Command {
  return command
    .option('-c, --config <file>', 'config of the balancer, which names its socket')
    .addOption(
      new Option(
        '--socket <path>',
        `its control socket, when not ${DEFAULT_CONTROL_SOCKET}`,
      ).conflicts('config'),
    )
    .option('--json', 'print JSON', false);
}

function client({ config, socket }: Asking): ControlClient {
  if (socket !== undefined) return new ControlClient(socket);
  return new ControlClient(
    config === undefined ? DEFAULT_CONTROL_SOCKET : loadBalancerConfig(config).controlSocket,
  );
}

function check(file: string): void {
  const config = loadConfig(file);
  for (const warning of [...config.warnings, ...machineWarnings(config)])
    complain(`warning: ${warning}`);
  print(renderCheck(config));
  readKey(config.keyFile);
}

function parseLimit(text: string): number {
  return parseWhole(text, MOST_ROWS_ASKED);
}

function parseCount(text: string): number {
  return parseWhole(text, MOST_COUNT);
}

function parseSnaplen(text: string): number {
  return parseWhole(text, MOST_SNAP_BYTES, FEWEST_SNAP_BYTES);
}

function parseClient(text: string): { address: number; port: number | undefined } {
  const [, host = '', port] = /^([^:]*)(?::(\d{1,5}))?$/.exec(text) ?? [];
  const address = parseIpv4(host);
  if (
    address === undefined ||
    address === 0 ||
    (port !== undefined && (+port < 1 || +port > MOST_PORT))
  ) {
    throw new InvalidArgumentError(
      'Expected an IPv4 address, or one with a port such as 192.0.2.7:40000.',
    );
  }
  return { address, port: port === undefined ? undefined : +port };
}

function parseWhole(text: string, most: number, fewest = 1): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < fewest || value > most) {
    throw new InvalidArgumentError(`Expected a whole number from ${fewest} to ${most}.`);
  }
  return value;
}

function parseSeconds(text: string): number {
  const value = Number(text);
  if (
    !/^\d+(\.\d+)?$/.test(text) ||
    value < SHORTEST_INTERVAL_SECONDS ||
    value > LONGEST_INTERVAL_SECONDS
  ) {
    throw new InvalidArgumentError(
      `Expected a number of seconds from ${SHORTEST_INTERVAL_SECONDS} to ${LONGEST_INTERVAL_SECONDS}.`,
    );
  }
  return value;
}
