/** `baton events`: what happens in a running balancer, as it happens. */
import type { Command } from 'commander';
import { type ControlEvent, type RatesEvent, stateWords } from '../../api/documents.js';
import { BatonError } from '../../base/errors.js';
import { formatCount } from '../../base/format.js';
import { untilEndSignal } from '../../base/signals.js';
import { printable } from '../../base/text.js';
import { addClientOptions, type ClientOptions, client } from '../connect.js';
import { print } from '../output.js';

export function addEventsCommand(baton: Command): void {
  addClientOptions(
    baton
      .command('events')
      .description('show state changes, changes and rates of a running balancer, until Ctrl-C'),
  )
    .option('--no-rates', 'leave out the rates, which come each second')
    .action((options: ClientOptions & { rates: boolean }) =>
      untilEndSignal((signal) => show(options, options.rates, signal)),
    );
}

async function show(options: ClientOptions, rates: boolean, signal: AbortSignal): Promise<void> {
  const stream = await client(options).events(({ event }) => {
    if (event.event === 'rates' && !rates) return;
    print(options.json ? JSON.stringify(event) : eventLine(event));
  });
  signal.addEventListener('abort', () => stream.close());
  if (signal.aborted) stream.close();
  await stream.ended;
  if (!signal.aborted) {
    throw new BatonError('BATON_CONTROL', 'the balancer has ended the stream of events', {
      hint: 'it has stopped, or closed the stream because this command did not read it',
    });
  }
}

/** An event in one line, for people. The time is that of this machine's zone. */
export function eventLine(event: ControlEvent): string {
  return printable(`${clock(event.at)} ${words(event)}`);
}

function words(event: ControlEvent): string {
  switch (event.event) {
    case 'node': {
      const why = event.why === '' ? '' : `: ${event.why}`;
      return `node ${event.node} is ${stateWords(event.state)}, by ${event.by}${why}`;
    }
    case 'change':
      return `changed by ${event.by}: ${event.changed.join('; ') || 'nothing'}`;
    case 'rates':
      return ratesWords(event);
  }
}

function ratesWords(rates: RatesEvent): string {
  const each = [
    `${formatCount(rates.connections)} connections/s`,
    `${formatCount(rates.handoffs)} handoffs/s`,
    `${formatCount(rates.packets)} packets/s`,
    `${formatCount(rates.bytes)} bytes/s`,
    `${formatCount(rates.active)} sessions`,
  ];
  return `rates ${each.join(', ')}`;
}

/** "19:05:12". */
function clock(at: number): string {
  return new Date(at).toTimeString().slice(0, 8);
}
