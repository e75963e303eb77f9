/** The command `baton add virtual`. Its options are the keys of a virtual server in the config. */
import type { TSchema } from '@sinclair/typebox';
import { type Command, Option } from 'commander';
import { VirtualServerBody } from '../../api/documents.js';
import { parseCount, parseListener, parseNames } from '../arguments.js';
import { addClientOptions, type ClientOptions } from '../connect.js';
import { makeChange } from './changed.js';

/** Keys that are options. Those that were not given stay away: not every kind may have each. */
const KEYS = [
  'mode',
  'protocol',
  'transport',
  'predictor',
  'keepAlive',
  'retry',
  'firstBytes',
  'nodes',
  'sticky',
  'stickyPrefix',
  'buckets',
  'bucketIdle',
] as const;

type ServerOptions = Pick<VirtualServerBody, (typeof KEYS)[number]>;

/** @param add the command `baton add` */
export function addVirtualServerCommand(add: Command): void {
  addClientOptions(add.command('virtual').description('add a virtual server'))
    .argument('<name>', 'name of the virtual server')
    .argument('<address:ports>', 'where clients connect', parseListener)
    .addOption(choice('mode', '--mode <name>', 'how a node gets a connection'))
    .addOption(choice('protocol', '--protocol <name>', 'with handoff: what is read before it'))
    .addOption(choice('transport', '--transport <name>', 'the transport protocol'))
    .addOption(
      choice('predictor', '--predictor <name>', 'how one of the holders is picked').default(
        VirtualServerBody.properties.predictor.default,
      ),
    )
    .addOption(choice('keepAlive', '--keep-alive <name>', 'where later requests go'))
    .addOption(choice('retry', '--retry <name>', 'which requests get another node'))
    .option('--first-bytes <duration>', "with tcp: how long to wait for the client's first bytes")
    .option('--nodes <names>', 'with forward or tcp: the nodes, such as n1,n2', parseNames)
    .option('--sticky <duration>', 'with forward: how long a client address is remembered')
    .option('--sticky-prefix <bits>', 'bits of the client address', parseCount)
    .option('--buckets <number>', 'with forward: a table of this size, no sessions', parseCount)
    .option('--bucket-idle <duration>', 'idle time after which a bucket may move')
    .action(
      (
        name: string,
        place: ReturnType<typeof parseListener>,
        options: ClientOptions & ServerOptions,
      ) => {
        const given = KEYS.filter((key) => options[key] !== undefined);
        const keys = Object.fromEntries(given.map((key) => [key, options[key]])) as ServerOptions;
        const virtualServer = { name, ...place, ...keys };
        return makeChange(options, { kind: 'add-virtual-server', virtualServer });
      },
    );
}

/** An option with the names that the schema allows. The balancer has the defaults. */
function choice(
  key: keyof typeof VirtualServerBody.properties,
  flags: string,
  description: string,
): Option {
  const schema: TSchema = VirtualServerBody.properties[key];
  return new Option(flags, description).choices(schema.enum);
}
