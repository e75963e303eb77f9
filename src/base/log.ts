/**
 * The log of a running program, on standard error: lines for people on a terminal, JSON otherwise.
 * Every message is one line without control characters, whatever its text and fields contain.
 */
import { writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { type Logger, pino, stdTimeFunctions } from 'pino';
import { printable, printableJson } from './text.js';

/** From the most important level to the least. */
export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** A log of messages without fields: enough for most parts of a program. */
export interface PlainLog {
  warn(message: string): void;
  info(message: string): void;
}

/** A log. Lower layers get it as an option. */
export interface Log {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
}

/** The log of a program. */
export interface ProgramLog extends Log {
  /** Writes messages of this level and above from now on. */
  setLevel(level: LogLevel): void;
}

export interface LogOptions {
  level: LogLevel;
  /** A field of every message: "balancer" or "node". */
  program: string;
  /** Writes a whole line, with its newline. Default: to standard error. */
  write?: (line: string) => void;
  /**
   * Whether to write lines for people instead of JSON. Default: if standard error is a terminal.
   */
  people?: boolean;
}

const STDERR = 2;
/**
 * Attempts to write a line to a full pipe. Then the line is lost: a log must not stop the program.
 */
const WRITE_TRIES = 20;

export function createLog(options: LogOptions): ProgramLog {
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
    setLevel: (level) => {
      logger.level = level;
    },
  };
}

function emit(
  logger: Logger,
  level: LogLevel,
  message: string,
  fields: LogFields | undefined,
): void {
  // No format arguments follow the message, so a "%" in it stays as it is.
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
      // EAGAIN: a full pipe that does not block. Any other error, such as a closed pipe, is
      // permanent.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
    }
  }
}
