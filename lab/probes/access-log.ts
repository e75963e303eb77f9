/** Reads the access log of a farm's balancer, in JSON. docs/logging.md defines the keys. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Farm } from '../farm/farm.js';

export interface AccessLine {
  time: string;
  client: string;
  client_port: number;
  virtual_server: string;
  request: string | null;
  rewritten: string | null;
  method: string | null;
  host: string | null;
  referer: string | null;
  user_agent: string | null;
  node: string | null;
  tried: string[];
  status: number | null;
  time_to_handoff: number | null;
  duration: number;
  packets: number;
  bytes: number;
  closed: string;
  reasons: string[];
  worker: number;
}

export class AccessLogReader {
  readonly file: string;
  private readonly farm: Farm;

  /** @param name of the file, from the farm's directory */
  constructor(farm: Farm, name: string) {
    this.farm = farm;
    this.file = path.join(farm.directory, name);
  }

  /**
   * All lines. Throws when one is not whole, except for the last: a reader may see the first part
   * of a write.
   */
  lines(file = this.file): AccessLine[] {
    const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
    return text
      .slice(0, text.lastIndexOf('\n') + 1)
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as AccessLine);
  }

  /** The line of a session, once it has ended. */
  async line(what: string, is: (line: AccessLine) => boolean): Promise<AccessLine> {
    let found: AccessLine | undefined;
    await this.farm.waitFor(() => {
      found = this.lines().find(is);
      return found !== undefined;
    }, `the line of ${what}`);
    if (found === undefined) throw new Error(`no line of ${what}`);
    return found;
  }

  /** The line of the session with this port of a client. */
  ofPort(port: number): Promise<AccessLine> {
    return this.line(`the client's port ${port}`, (line) => line.client_port === port);
  }
}
