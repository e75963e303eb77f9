/** `baton replay`: shows what Baton would have done with the connections in a capture. */
import { closeSync, fstatSync, openSync, readSync, realpathSync } from 'node:fs';
import { BatonError } from '../base/errors.js';
import { whyUnreadable } from '../base/file-errors.js';
import { formatCount, formatDuration } from '../base/format.js';
import { formatTable } from '../base/table.js';
import { printable, printableJson } from '../base/text.js';
import type { ReplayArguments } from '../config/arguments.js';
import { loadReplayConfig } from '../config/load.js';
import { OutputFile } from '../host/output-file.js';
import { PcapWriter } from '../wire/pcap-writer.js';
import { type ReplayResult, ReplayRun, type ReplaySession } from './replay-run.js';

/** The whole file is in memory, and its offsets must fit 31 bits. */
const MAX_FILE_BYTES = 0x7fff_ffff;

/** The output of a replay. Tests replace it. */
export interface ReplayStreams {
  out(text: string): void;
  err(text: string): void;
}

const STANDARD: ReplayStreams = {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
};

/**
 * Replays a capture and prints the course of each session. Resolves to the exit code. It is 1 when
 * the capture is damaged: then the frames before the damage are replayed and shown.
 * @throws BatonError BATON_CONFIG for the config; BATON_CAPTURE for a file that cannot be read or
 *   written, or that is not a capture
 */
export async function replay(options: ReplayArguments, streams = STANDARD): Promise<number> {
  const config = loadReplayConfig(options.config);
  const run = ReplayRun.open(readCapture(options.in), config, options.checksums);
  if (run === undefined) throw captureError(options.in, 'is neither pcap nor pcapng');
  const output = options.out === undefined ? undefined : openOutput(options.out, options.in);
  let result: ReplayResult;
  try {
    result = run.run(output && new PcapWriter((piece) => output.append(piece)));
  } finally {
    output?.close();
  }
  streams.out(`${options.json ? toJson(options.in, result) : toText(options.in, result)}\n`);
  const { fault } = result.capture;
  if (fault === undefined) return 0;
  streams.err(
    `baton: ${printable(options.in)}: damaged at byte ${fault.offset}: ${fault.message}; the ${formatCount(result.capture.frames)} frames before that were replayed\n`,
  );
  return 1;
}

function captureError(file: string, message: string, hint?: string): BatonError {
  return new BatonError('BATON_CAPTURE', message, {
    where: file,
    ...(hint === undefined ? {} : { hint }),
  });
}

function readCapture(file: string): Uint8Array {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, 'r');
    const stat = fstatSync(descriptor);
    if (!stat.isFile()) throw captureError(file, 'is not a regular file');
    if (stat.size > MAX_FILE_BYTES) {
      throw captureError(
        file,
        'is larger than 2 GiB',
        'split it, for example with `tcpdump -r FILE -w PART -C 1000`',
      );
    }
    const bytes = new Uint8Array(stat.size);
    let filled = 0;
    while (filled < bytes.length) {
      const count = readSync(descriptor, bytes, filled, bytes.length - filled, null);
      if (count === 0) break;
      filled += count;
    }
    return bytes.subarray(0, filled);
  } catch (error) {
    if (error instanceof BatonError) throw error;
    throw captureError(file, `cannot be read: ${whyUnreadable(error)}`);
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function openOutput(file: string, input: string): OutputFile {
  if (isSameFile(file, input))
    throw captureError(file, 'is the capture to read; name another file');
  return OutputFile.open(file);
}

function isSameFile(output: string, input: string): boolean {
  try {
    return realpathSync(output) === realpathSync(input);
  } catch {
    return false; // the output file does not exist yet
  }
}

/** The result as a JSON document, safe to print. */
export function toJson(file: string, result: ReplayResult): string {
  const { scan: _, ...shown } = result;
  const { fault = null, ...capture } = shown.capture;
  const lines = JSON.stringify({ file, ...shown, capture: { ...capture, fault } }, null, 2).split(
    '\n',
  );
  return lines.map(printableJson).join('\n');
}

/** The result as text for people. */
export function toText(file: string, result: ReplayResult): string {
  const { capture, sessions } = result;
  const parts = [
    printable(
      `${file}: ${formatCount(capture.frames)} frames in ${formatDuration(capture.durationMs)}: ${formatCount(capture.delivered)} of clients, ${formatCount(capture.fromServers)} of servers, ${formatCount(capture.others)} others; ${formatCount(sessions.length)} ${sessions.length === 1 ? 'session' : 'sessions'}`,
    ),
  ];
  const notes = notesOf(result);
  if (notes.length > 0) parts.push(notes.map(printable).join('\n'));
  if (sessions.length > 0) parts.push(sessionTable(sessions), nodeTable(result));
  else parts.push(whyNoSession(result));
  parts.push(counterTable(result));
  return parts.join('\n\n');
}

/** Most clients that the notes name. */
const NAMED_CLIENTS = 8;

/** Notes on frames of the capture that were not replayed as they are. */
function notesOf({ capture, checksumsIgnored, scan }: ReplayResult): string[] {
  const notes = checksumsIgnored
    .slice(0, NAMED_CLIENTS)
    .map(
      ({ client, segments, wrong }) =>
        `${client}: wrong checksums in ${formatCount(wrong)} of ${formatCount(segments)} segments were ignored: captures that were taken on the sending host, or edited, have such checksums (--checksums verify drops these segments)`,
    );
  if (checksumsIgnored.length > NAMED_CLIENTS) {
    notes.push(
      `the same for ${formatCount(checksumsIgnored.length - NAMED_CLIENTS)} more clients (--json names all)`,
    );
  }
  const { damaged, truncated, sentOn } = capture;
  if (damaged > 0) {
    notes.push(
      `segments dropped because their checksums are wrong: ${formatCount(damaged)} (--checksums ignore accepts them)`,
    );
  }
  if (truncated > 0) {
    notes.push(
      `frames dropped because the capture has only their beginning: ${formatCount(truncated)} (\`tcpdump -s 0\` captures whole frames)`,
    );
  }
  if (sentOn > 0) {
    notes.push(
      `frames left out because a balancer forwarded them, so the capture has them twice: ${formatCount(sentOn)}`,
    );
  }
  if (scan.unknownLinkTypes.size > 0) {
    notes.push(
      `frames of unknown link types were left out: ${[...scan.unknownLinkTypes].join(', ')}`,
    );
  }
  return notes;
}

/** Why the replay has no session. A session begins with a SYN. */
function whyNoSession({ scan }: ReplayResult): string {
  if (scan.syns > 0) return 'no session: SYNs to a virtual server of this config were dropped';
  const others = [...scan.otherServers].join(', ');
  const where =
    others === ''
      ? 'none to another'
      : `SYNs went to ${others}${scan.moreServers ? ' and others' : ''}`;
  return [
    `no SYN to a virtual server of this config${others === '' ? ', and ' : '; '}${where}`,
    '(tcpdump on a balancer with datapath xdp does not see SYNs: `baton capture -c FILE -w FILE` does)',
  ].join('\n');
}

function sessionTable(sessions: readonly ReplaySession[]): string {
  return formatTable(
    [
      { title: 'AT', align: 'right' },
      { title: 'CLIENT' },
      { title: 'SERVER' },
      { title: 'NODE' },
      { title: 'WHY' },
      { title: 'HANDOFF' },
      { title: 'PACKETS', align: 'right' },
      { title: 'STATE' },
      { title: 'CLOSED' },
      { title: 'REQUEST' },
    ],
    sessions.map((session) => [
      formatDuration(session.openedMs),
      session.client,
      session.virtualServer,
      session.node ?? '',
      session.why,
      session.handoffs
        .map(({ node, attempts, outcome }) => `${node} ${outcome} (${attempts})`)
        .join(', '),
      formatCount(session.packets),
      session.state,
      session.closed === null
        ? ''
        : `${session.closed} at ${formatDuration(session.closedMs ?? 0)}`,
      session.request,
    ]),
  );
}

function nodeTable(result: ReplayResult): string {
  return formatTable(
    [{ title: 'NODE' }, { title: 'ADDRESS' }, { title: 'SESSIONS', align: 'right' }],
    result.nodes.map(({ name, address, sessions }) => [name, address, formatCount(sessions)]),
  );
}

function counterTable(result: ReplayResult): string {
  return formatTable(
    [{ title: 'COUNTER' }, { title: 'VALUE', align: 'right' }],
    Object.entries(result.counters)
      .filter(([, value]) => value !== 0)
      .map(([name, value]) => [name, formatCount(value)]),
  );
}
