/** `baton capture`: puts a capture together from a balancer's config, and ends it by a signal. */

import { ControlClient } from '../api/client.js';
import { BatonError } from '../base/errors.js';
import { printable } from '../base/text.js';
import type { CaptureArguments } from '../config/arguments.js';
import { loadBalancerConfig } from '../config/load.js';
import { native } from '../host/native.js';
import { OutputFile } from '../host/output-file.js';
import { requirePrivileges } from '../host/privilege.js';
import { capture, summary } from './capture.js';
import { KernelTap } from './kernel-tap.js';

const STANDARD_OUTPUT = '-';

/**
 * Captures until a signal, or until enough is written. Resolves to the exit code.
 * @throws BatonError for whatever keeps it from starting
 */
export async function runCapture(given: CaptureArguments): Promise<number> {
  const config = loadBalancerConfig(given.config);
  requirePrivileges();
  const on = native().interfaceInfo(config.interface);
  if (on === undefined) {
    throw new BatonError('BATON_INTERFACE', 'there is no such interface', {
      where: config.interface,
    });
  }
  const output = openOutput(given.write);
  const note = (line: string): void => void process.stderr.write(`baton: ${printable(line)}\n`);
  const ending = new AbortController();
  const end = (): void => ending.abort();
  process.on('SIGINT', end).on('SIGTERM', end).on('SIGHUP', end);
  try {
    const result = await capture(
      {
        interface: config.interface,
        nodeInterface: config.nodeInterface?.name,
        controlSocket: config.controlSocket,
        wish: {
          snapLength: given.snaplen,
          client: given.client?.address,
          clientPort: given.client?.port,
        },
        count: given.count,
        seconds: given.seconds,
      },
      {
        openKernelTap: (wish) => KernelTap.open(on.index, wish),
        isCurrent: (tap) => tap.isOf(on.index),
        client: new ControlClient(config.controlSocket),
      },
      output,
      note,
      ending.signal,
    );
    note(summary(result));
  } finally {
    process.off('SIGINT', end).off('SIGTERM', end).off('SIGHUP', end);
    output.close();
  }
  return 0;
}

function openOutput(name: string): OutputFile {
  if (name !== STANDARD_OUTPUT) return OutputFile.open(name);
  if (!process.stdout.isTTY) return OutputFile.standardOutput();
  throw new BatonError('BATON_ARGUMENT', 'a capture is no text for a terminal', {
    hint: 'write it to a file, or `-w - | tcpdump -nr -`',
  });
}
