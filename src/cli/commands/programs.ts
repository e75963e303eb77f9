/** Commands that start a program (balancer, node, capture), or work with files (check, key ...). */
import { type Command, Option } from 'commander';
import { MOST_SNAP_BYTES } from '../../api/documents.js';
import { checkSecrets } from '../../api/secrets.js';
import { newTokenLine } from '../../api/tokens.js';
import type { CaptureArguments, ReplayArguments } from '../../config/arguments.js';
import { newKey, readKey, writeNewKey } from '../../config/key.js';
import { loadConfig } from '../../config/load.js';
import { machineWarnings } from '../../config/machine-warnings.js';
import { parseClient, parseCount, parseSeconds, parseSnaplen } from '../arguments.js';
import { complain, print } from '../output.js';
import { renderCheck } from '../reports.js';

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

export function addPrograms(
  baton: Command,
  programs: Programs,
  exit: (code: number) => void,
): void {
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
}

/** The commands that only read or write files. */
export function addFileCommands(
  baton: Command,
  programs: Pick<Programs, 'replay'>,
  exit: (code: number) => void,
): void {
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
    .command('token')
    .description('print a line for the tokens file of the API, with a new token')
    .argument('<name>', 'whom the token is for; changes are recorded under this name')
    .argument('<role>', 'read-only, or admin: may change everything')
    .action((name: string, role: string) => print(newTokenLine(name, role)));

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
}

export function addCaptureCommand(
  baton: Command,
  programs: Pick<Programs, 'capture'>,
  exit: (code: number) => void,
): void {
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
}

function check(file: string): void {
  const config = loadConfig(file);
  for (const warning of [...config.warnings, ...machineWarnings(config)])
    complain(`warning: ${warning}`);
  print(renderCheck(config));
  readKey(config.keyFile);
  if (config.kind === 'balancer' && config.api !== undefined) {
    for (const warning of checkSecrets(config.api)) complain(`warning: ${warning}`);
  }
}
