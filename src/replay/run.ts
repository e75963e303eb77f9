/** `baton replay`: what Baton would have made of the connections in a capture. */
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

/** The whole file is held in memory, and offsets in it fit 31 bits. */
const MAX_FILE_BYTES = 0x7fff_ffff;

/** Where a replay tells what it found; tests listen instead. */
export interface ReplayStreams {
  out(text: string): void;
  err(text: string): void;
}

const STANDARD: ReplayStreams = {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
};

/**
 * Replays a capture and prints what was seen and done, per session. Resolves to the exit code: 1
 * when the capture is damaged, after the frames before the damage have been replayed and told of.
 *
 * @throws BatonError BATON_CONFIG for the config, BATON_CAPTURE for a file that can not be read or
 *   written, or is no capture.
 */
export async function replay(options: ReplayArguments, streams = STANDARD): Promise<number> {
  const config = loadReplayConfig(options.config);
  const run = ReplayRun.open(readCapture(options.in), config, options.checksums);
  if (run === undefined) throw captureError(options.in, 'neither pcap nor pcapng');
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
    if (!stat.isFile()) throw captureError(file, 'not a regular file');
    if (stat.size > MAX_FILE_BYTES) {
      throw captureError(
        file,
        'larger than 2 GiB',
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
    throw captureError(file, `can not be read: ${whyUnreadable(error)}`);
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function openOutput(file: string, input: string): OutputFile {
  if (isSameFile(file, input)) throw captureError(file, 'is the capture that is read');
  return OutputFile.open(file);
}

function isSameFile(output: string, input: string): boolean {
  try {
    return realpathSync(output) === realpathSync(input);
  } catch {
    return false; // there is no such file yet
  }
}

/** The result as one JSON document, safe to print. */
export function toJson(file: string, result: ReplayResult): string {
  const { scan: _, ...shown } = result;
  const { fault = null, ...capture } = shown.capture;
  const lines = JSON.stringify({ file, ...shown, capture: { ...capture, fault } }, null, 2).split(
    '\n',
  );
  return lines.map(printableJson).join('\n');
}

/** The result for people. */
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

/** Clients that are named one by one. */
const NAMED_CLIENTS = 8;

/** What of the capture was not taken as it is. */
function notesOf({ capture, checksumsIgnored, scan }: ReplayResult): string[] {
  const notes = checksumsIgnored
    .slice(0, NAMED_CLIENTS)
    .map(
      ({ client, segments, wrong }) =>
        `${client}: the checksums of ${formatCount(wrong)} of ${formatCount(segments)} segments are wrong, as in a capture from the sending host or an edited one: ignored (--checksums verify drops such segments)`,
    );
  if (checksumsIgnored.length > NAMED_CLIENTS) {
    notes.push(
      `the same of ${formatCount(checksumsIgnored.length - NAMED_CLIENTS)} more clients (--json names all)`,
    );
  }
  const { damaged, truncated, sentOn } = capture;
  if (damaged > 0) {
    notes.push(
      `segments dropped because their checksums are wrong: ${formatCount(damaged)} (--checksums ignore takes them)`,
    );
  }
  if (truncated > 0) {
    notes.push(
      `frames dropped because the capture has only their beginning: ${formatCount(truncated)} (\`tcpdump -s 0\` captures whole frames)`,
    );
  }
  if (sentOn > 0) {
    notes.push(
      `frames left out that a balancer sent on, as they are there twice: ${formatCount(sentOn)}`,
    );
  }
  if (scan.unknownLinkTypes.size > 0) {
    notes.push(
      `frames of unknown link types were left out: ${[...scan.unknownLinkTypes].join(', ')}`,
    );
  }
  return notes;
}

/** A SYN begins each session. */
function whyNoSession({ scan }: ReplayResult): string {
  if (scan.syns > 0) return `no session: SYNs to a virtual server of this config were dropped`;
  const others = [...scan.otherServers].join(', ');
  const where =
    others === ''
      ? 'none to another'
      : `SYNs went to ${others}${scan.moreServers ? ' and others' : ''}`;
  return [
    `no SYN to a virtual server of this config${others === '' ? ', and ' : '; '}${where}`,
    '(a capture that tcpdump took on a balancer with datapath xdp has none: `baton capture -c FILE -w FILE` has them)',
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
