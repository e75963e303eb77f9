/** The unix socket of a running balancer: where it may be created, and who may open it. */
import { accessSync, chmodSync, constants, lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { createConnection, type Server } from 'node:net';
import { dirname } from 'node:path';
import { BatonError, reasonOf } from '../base/errors.js';
import { printable } from '../base/text.js';

/** How long to wait for an answer on a socket that exists already, in ms. */
const PROBE_MS = 1_000;
/** A umask: only the owner may open the socket. */
const OWNER_ONLY = 0o077;

/**
 * Makes `server` listen on `path`, which only its owner can open. Replaces the socket of a dead
 * process.
 * @throws BatonError BATON_IN_USE when a process listens there, or the path is not a socket;
 *   BATON_CONTROL when the socket cannot be created
 */
export async function listenOnSocket(server: Server, path: string): Promise<void> {
  const where = `control socket ${printable(path)}`;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    await makeWay(path, where);
    // The socket is bound within this call, so the mask does not affect other files.
    const mask = process.umask(OWNER_ONLY);
    let listening: Promise<void>;
    try {
      listening = new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(path, () => {
          server.off('error', reject);
          resolve();
        });
      });
    } finally {
      process.umask(mask);
    }
    await listening;
    chmodSync(path, 0o600);
  } catch (error) {
    if (error instanceof BatonError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EADDRINUSE') throw inUse(where);
    throw new BatonError('BATON_CONTROL', `cannot be created: ${reasonOf(error)}`, {
      where,
      cause: error,
    });
  }
}

/**
 * Checks that a control socket can be created at `path`. Changes nothing there.
 * @param replace a balancer that answers there will leave
 * @throws BatonError as `listenOnSocket` does
 */
export async function requireSocketPlace(path: string, replace: boolean): Promise<void> {
  const where = `control socket ${printable(path)}`;
  try {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found !== undefined && !found.isSocket()) throw notASocket(where);
    if (found !== undefined && !replace && (await answers(path))) throw inUse(where);
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    accessSync(dirname(path), constants.W_OK | constants.X_OK);
  } catch (error) {
    if (error instanceof BatonError) throw error;
    throw new BatonError('BATON_CONTROL', `cannot be created: ${reasonOf(error)}`, {
      where,
      cause: error,
    });
  }
}

function notASocket(where: string): BatonError {
  return new BatonError('BATON_IN_USE', 'exists already, and is not a socket', { where });
}

function inUse(where: string): BatonError {
  return new BatonError('BATON_IN_USE', 'another balancer uses it', {
    where,
    hint: 'stop that balancer, or set another controlSocket for this one',
  });
}

/** Removes a socket on which no process listens. Throws for anything else. */
async function makeWay(path: string, where: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw notASocket(where);
  if (await answers(path)) throw inUse(where);
  unlinkSync(path);
}

/** Whether a process has the socket open, even if it does not respond. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path });
    const settle = (result: boolean): void => {
      socket.destroy();
      resolve(result);
    };
    socket.setTimeout(PROBE_MS, () => settle(true));
    socket.once('connect', () => settle(true));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      socket.destroy();
      // EAGAIN: the queue of connections is full, so a process listens.
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
      else if (error.code === 'EAGAIN') resolve(true);
      else reject(error);
    });
  });
}
