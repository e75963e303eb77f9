/** The command line: the commands, their options, and how errors are printed. */
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
import { type Address, MOST_PORT, parseAddress, UNSPECIFIED } from '../wire/address.js';
import { Stream, Terminal } from './display.js';
import { explain, explained } from './glossary.js';
import { renderCheck, renderSessions, renderStats } from './reports.js';
import { standardScreen, watchUntilSignal } from './watch.js';

/** The programs that the commands start. Each resolves to its exit code when it has ended. */
export interface Programs {
  /** `replace`: asks a balancer that already runs on the interface to leave. */
  balancer(configFile: string, replace: boolean): Promise<number>;
  /** Undoes the changes that earlier runs of a balancer left on this machine. */
  detachAll(configFile: string): Promise<number>;
  node(configFile: string): Promise<number>;
  capture(options: CaptureArguments): Promise<number>;
  replay(options: ReplayArguments): Promise<number>;
}

const DEFAULT_ROWS = 100;
const MOST_ROWS_ASKED = 16_000_000;
const SHORTEST_INTERVAL_SECONDS = 0.1;
const LONGEST_INTERVAL_SECONDS = 86_400;
/** Most intervals or frames. */
const MOST_COUNT = 1_000_000_000;

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
    // commander copies these settings to a command when it is made, so they come first.
    .exitOverride()
    .configureOutput({ outputError: () => {} });

  baton
    .command('balancer')
    .description('run a balancer until a signal stops it')
    .requiredOption('-c, --config <file>', 'config file of the balancer')
    .option('--replace', 'ask the running balancer to leave, and take its sessions over', false)
    .addOption(
      new Option('--detach-all', 'run nothing; remove what earlier runs left on the interface')
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
    .description("run a node's agent until a signal stops it")
    .requiredOption('-c, --config <file>', 'config file of the node')
    .action(async ({ config }: { config: string }) => exit(await programs.node(config)));

  baton
    .command('check')
    .description('check the config file of a balancer or a node; run nothing')
    .requiredOption('-c, --config <file>', 'the config file')
    .action(({ config }: { config: string }) => check(config));

  baton
    .command('key')
    .description('print a new key, or write it to a new file that only its owner can read')
    .argument('[file]', 'the new file')
    .action((file: string | undefined) => {
      if (file === undefined) print(newKey());
      else writeNewKey(file);
    });

  baton
    .command('capture')
    .description(
      'write the frames of a running balancer, from its XDP program and its engine, to a file',
    )
    .requiredOption('-c, --config <file>', 'config file of the balancer')
    .requiredOption('-w, --write <file>', 'the pcapng file to write; - for standard output')
    .addOption(
      new Option('--client <address[:port]>', 'capture only frames of this client').argParser(
        parseClient,
      ),
    )
    .addOption(new Option('--count <frames>', 'end after this many frames').argParser(parseCount))
    .addOption(new Option('--seconds <seconds>', 'end after this time').argParser(parseSeconds))
    .addOption(
      new Option('--snaplen <bytes>', 'keep at most this many bytes of each frame')
        .argParser(parseSnaplen)
        .default(MOST_SNAP_BYTES),
    )
    .action(async (options: CaptureArguments) => exit(await programs.capture(options)));

  baton
    .command('replay')
    .description('run a capture through the engine, and show what Baton would have done')
    .requiredOption('-c, --config <file>', 'config file of a balancer')
    .requiredOption('--in <file>', 'the capture to read, pcap or pcapng')
    .option('--out <file>', 'a pcap file for the frames that Baton would have sent')
    .addOption(
      new Option(
        '--checksums <how>',
        'segments with wrong checksums: verify drops them, ignore accepts them; default: ignore for a client most of whose checksums are wrong',
      ).choices(['verify', 'ignore']),
    )
    .option('--json', 'print JSON', false)
    .action(async (options: ReplayArguments) => exit(await programs.replay(options)));

  addClientOptions(baton.command('sessions').description("print a running balancer's sessions"))
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
    baton.command('stats').description("print a running balancer's state and counters"),
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
  return baton;
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

function wide(): Option {
  return new Option('--wide', 'do not cut tables to the width of the terminal').default(false);
}

/** Characters that fit on a line. Undefined: no limit, as without a terminal. */
function lineWidth(isWide: boolean): number | undefined {
  // Some terminals report 0 columns.
  return isWide ? undefined : process.stdout.columns || undefined;
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

/** Options of the commands that ask a running balancer. */
interface ClientOptions {
  config?: string;
  socket?: string;
  json: boolean;
}

function addClientOptions(command: Command): Command {
  return command
    .option('-c, --config <file>', 'config file of the balancer, which names its control socket')
    .addOption(
      new Option(
        '--socket <path>',
        `control socket of the balancer; default: ${DEFAULT_CONTROL_SOCKET}`,
      ).conflicts('config'),
    )
    .option('--json', 'print JSON', false);
}

function client({ config, socket }: ClientOptions): ControlClient {
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

function parseClient(text: string): { address: Address; port: number | undefined } {
  const [, host = '', port] = /^([^:]*)(?::(\d{1,5}))?$/.exec(text) ?? [];
  const address = parseAddress(host);
  if (
    address === undefined ||
    address === UNSPECIFIED ||
    (port !== undefined && (+port < 1 || +port > MOST_PORT))
  ) {
    throw new InvalidArgumentError(
      'Expected an IPv4 address, or one with a port, such as 192.0.2.7:40000.',
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
