/** The command that says what would happen to a request: explain. */
import type { Command } from 'commander';
import { addClientOptions, type ClientOptions, client } from '../connect.js';
import { renderExplain } from '../explain-report.js';
import { lineWidth, print, printJson, wide } from '../output.js';

interface ExplainOptions extends ClientOptions {
  host?: string;
  from?: string;
  alpn?: string;
  wide: boolean;
}

export function addExplainCommand(baton: Command): void {
  addClientOptions(
    baton
      .command('explain')
      .description('say which node a request would get from a running balancer, and why')
      .argument('<url>', 'such as http://10.99.0.100/images/cat.jpg or https://www.example.org'),
  )
    .option(
      '--host <name>',
      'the Host field of the request, or the server name in TLS; default: the host of the URL',
    )
    .option(
      '--alpn <names>',
      'the protocols that a client of TLS offers, such as h2,http/1.1 (the default)',
    )
    .option(
      '--from <address[:port]>',
      'the client; with several workers its port decides which engine thread picks',
    )
    .addOption(wide())
    .action(async (url: string, options: ExplainOptions) => {
      const { host, from, alpn } = options;
      const said = await client(options).explain({
        url,
        ...(host === undefined ? {} : { host }),
        ...(from === undefined ? {} : { from }),
        ...(alpn === undefined ? {} : { alpn }),
      });
      if (options.json) printJson(said);
      else print(renderExplain(said, lineWidth(options.wide)));
    });
}
