/** Commands that add and remove objects while the balancer runs: add, remove. */
import { type Command, Option } from 'commander';
import { NodeBody } from '../../api/documents.js';
import { NODE_VIAS, NODE_WAYS, type NodeVia, type NodeWay } from '../../config/schema-objects.js';
import { parseNames, parseResource, parseWeight } from '../arguments.js';
import { addClientOptions, type ClientOptions } from '../connect.js';
import { makeChange } from './changed.js';
import { addVirtualServerCommand } from './virtual-server.js';

const WEIGHT: number = NodeBody.properties.weight.default;

const NOT_SAVED = 'The config file stays as it is until `baton config --save`.';
const RESOURCE = 'a path for any host such as /images/, or www.example.org/images/';

const ALPN = 'application protocols of the resource, such as h2,http/1.1';
const VIRTUAL = 'the virtual server whose own resource it is';

type Resource = ReturnType<typeof parseResource>;

/** Which of several resources with one path is meant. */
interface WhichOptions {
  alpn?: string[];
  virtual?: string;
}

function which({ alpn, virtual }: WhichOptions): { alpn?: string[]; virtualServer?: string } {
  return {
    ...(alpn === undefined ? {} : { alpn }),
    ...(virtual === undefined ? {} : { virtualServer: virtual }),
  };
}

interface NodeOptions {
  weight: number;
  handoff?: NodeWay;
  via?: NodeVia;
}

interface ResourceOptions extends WhichOptions {
  rewrite?: string;
}

export function addObjectCommands(baton: Command): void {
  const add = baton
    .command('add')
    .helpCommand(false)
    .description('add a node, a virtual server or a resource to a running balancer')
    .addHelpText('after', `\n${NOT_SAVED}`);
  addClientOptions(add.command('node').description('add a node; resources name it as a holder'))
    .argument('<name>', 'name of the node')
    .argument('<address>', "the node's own address")
    .option('--weight <number>', 'its share of sessions', parseWeight, WEIGHT)
    .addOption(new Option('--handoff <way>', 'how it takes connections').choices([...NODE_WAYS]))
    .addOption(new Option('--via <way>', 'how packets get there').choices([...NODE_VIAS]))
    .action((name: string, address: string, options: ClientOptions & NodeOptions) => {
      const { weight, handoff, via } = options;
      const way = {
        ...(handoff === undefined ? {} : { handoff }),
        ...(via === undefined ? {} : { via }),
      };
      return makeChange(options, { kind: 'add-node', node: { name, address, weight, ...way } });
    });
  addVirtualServerCommand(add);
  addClientOptions(
    add.command('resource').description('add a resource, or further holders to one that is there'),
  )
    .argument('<[host]/path>', RESOURCE, parseResource)
    .argument('<nodes...>', 'names of the nodes that hold it')
    .option('--rewrite <path>', 'the path that nodes get; %p: what follows the matched path')
    .option('--alpn <names>', ALPN, parseNames)
    .option('--virtual <name>', VIRTUAL)
    .action((resource: Resource, nodes: string[], options: ClientOptions & ResourceOptions) => {
      const { rewrite } = options;
      const more = { ...(rewrite === undefined ? {} : { rewrite }), ...which(options) };
      return makeChange(options, {
        kind: 'add-resource',
        resource: { ...resource, ...more, nodes },
      });
    });

  const remove = baton
    .command('remove')
    .helpCommand(false)
    .description('remove a node, a virtual server or a resource; sessions go on until they end')
    .addHelpText('after', `\n${NOT_SAVED}`);
  addClientOptions(
    remove.command('node').description('remove a node that holds no resource any more'),
  )
    .argument('<name>', 'name of the node')
    .action((node: string, options: ClientOptions) =>
      makeChange(options, { kind: 'remove-node', node }),
    );
  addClientOptions(remove.command('virtual').description('remove a virtual server'))
    .argument('<name>', 'name of the virtual server')
    .option('--end-sessions', 'end its sessions too', false)
    .action((virtualServer: string, options: ClientOptions & { endSessions: boolean }) =>
      makeChange(options, {
        kind: 'remove-virtual-server',
        virtualServer,
        ...(options.endSessions ? { endSessions: true } : {}),
      }),
    );
  addClientOptions(
    remove.command('resource').description('remove a resource, or one of its holders'),
  )
    .argument('<[host]/path>', RESOURCE, parseResource)
    .argument('[node]', 'only this node no longer holds it')
    .option('--alpn <names>', ALPN, parseNames)
    .option('--virtual <name>', VIRTUAL)
    .action((resource: Resource, node: string | undefined, options: ClientOptions & WhichOptions) =>
      makeChange(options, {
        kind: 'remove-resource',
        ...resource,
        ...which(options),
        ...(node === undefined ? {} : { node }),
      }),
    );
}
