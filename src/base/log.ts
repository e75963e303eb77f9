/**
 * Messages of a running program on standard error: lines for people on a terminal, JSON for
 * machines otherwise. Whatever stands in a message or a field, one message is one line without
 * control characters.
 */
import { writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { type Logger, pino, stdTimeFunctions } from 'pino';
import { printable, printableJson } from './text.js';

/** From the most important messages to the least. */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** Messages alone: what most parts of a program need of a log. */
export interface PlainLog {
  warn(message: string): void;
  info(message: string): void;
}

/** What a program needs of a log; layers below take it as a plain option. */
export interface Log {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
}

export interface LogOptions {
  level: LogLevel;
  /** Stands in every message: "balancer" or "node". */
  program: string;
  /** Takes whole lines, newline included. Default: standard error. */
  write?: (line: string) => void;
  /** Lines for people rather than JSON. Default: when standard error is a terminal. */
  people?: boolean;
}

const STDERR = 2;
/**
 * How often a full pipe is tried again before the line is given up: a log must never stop the
 * program.
 */
const WRITE_TRIES = 20;

export function createLog(options: LogOptions): Log {
  const write = options.write ?? writeStderr;
  const people = options.people ?? isatty(STDERR);
  const logger = pino(
    {
      level: options.level,
      base: { program: options.program },
      messageKey: 'message',
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    {
      write: (line: string) =>
        write(people ? formatLine(line) : printableJson(line.trimEnd()).concat('\n')),
    },
  );
  return {
    error: (message, fields) => emit(logger, 'error', message, fields),
    warn: (message, fields) => emit(logger, 'warn', message, fields),
    info: (message, fields) => emit(logger, 'info', message, fields),
    debug: (message, fields) => emit(logger, 'debug', message, fields),
  };
}

function emit(
  logger: Logger,
  level: LogLevel,
  message: string,
  fields: LogFields | undefined,
): void {
  // Without the empty format arguments a "%" in the message stays what it is.
  if (fields === undefined) logger[level]({}, message);
  else logger[level](fields, message);
}

/** `19:05:12.123 warn  node n1 does not answer  address=10.99.0.3` from a line of JSON. */
export function formatLine(json: string): string {
  let record: Record<string, unknown>;
  try {
    record = JSON.parse(json) as Record<string, unknown>;
  } catch {
    return `${printable(json.trimEnd())}\n`;
  }
  const { time, level, message, program: _, ...fields } = record;
  const clock = typeof time === 'string' ? time.slice(11, 23) : '';
  const rest = Object.entries(fields)
    .map(([key, value]) => `  ${printable(key)}=${formatField(value)}`)
    .join('');
  return `${clock} ${String(level).padEnd(5)} ${printable(String(message ?? ''))}${rest}\n`;
}

function formatField(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return /^[^\s"=]+$/.test(text) ? printable(text) : printableJson(JSON.stringify(text));
}

function writeStderr(line: string): void {
  const bytes = Buffer.from(line);
  let written = 0;
  for (let tries = 0; written < bytes.length && tries < WRITE_TRIES; tries++) {
    try {
      written += writeSync(STDERR, bytes, written);
    } catch (error) {
      // EAGAIN: a full pipe that does not block. Anything else (nobody reads any more) does not get
      // better.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
    }
  }
}
