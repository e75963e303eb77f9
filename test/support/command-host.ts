/**
 * Runs the command line that comes as a message, and answers with what it printed. The process ends
 * when its parent disconnects.
 */
import { run } from '../../src/cli/cli.js';
import type { Outcome } from './commands.js';

const refuse = (): never => {
  throw new Error('this command needs a process of its own');
};
const PROGRAMS = {
  balancer: refuse,
  detachAll: refuse,
  node: refuse,
  capture: refuse,
  replay: refuse,
};

/** Collects what is written to a stream instead of writing it. Returns the way back. */
function take(stream: NodeJS.WriteStream, into: string[]): () => void {
  const { write } = stream;
  stream.write = (text: string | Uint8Array): boolean => {
    into.push(typeof text === 'string' ? text : Buffer.from(text).toString());
    return true;
  };
  return () => {
    stream.write = write;
  };
}

process.on('message', async (args: string[]) => {
  const out: string[] = [];
  const errors: string[] = [];
  const restore = [take(process.stdout, out), take(process.stderr, errors)];
  const code = await run(args, PROGRAMS);
  for (const each of restore) each();
  const outcome: Outcome = { code, out: out.join(''), errors: errors.join('') };
  process.send?.(outcome);
});
