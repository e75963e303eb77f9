/** `baton capture`: sets a capture up from a balancer's config. A signal ends it. */

import { ControlClient } from '../api/client.js';
import { BatonError } from '../base/errors.js';
import { untilEndSignal } from '../base/signals.js';
import { printable } from '../base/text.js';
import type { CaptureArguments } from '../config/arguments.js';
import { loadBalancerConfig } from '../config/load.js';
import { native } from '../host/native.js';
import { OutputFile } from '../host/output-file.js';
import { requirePrivileges } from '../host/privilege.js';
import { ipv4Number } from '../wire/address.js';
import { capture, summary } from './capture.js';
import { KernelTap } from './kernel-tap.js';

const STANDARD_OUTPUT = '-';

/**
 * Captures until a signal, or until the limit of frames or time. Resolves to the exit code.
 * @throws BatonError when the capture cannot start
 */
export async function runCapture(given: CaptureArguments): Promise<number> {
  const config = loadBalancerConfig(given.config);
  requirePrivileges();
  const on = native().interfaceInfo(config.interface);
  if (on === undefined) {
    throw new BatonError('BATON_INTERFACE', 'no such interface', {
      where: config.interface,
    });
  }
  const output = openOutput(given.write);
  const note = (line: string): void => void process.stderr.write(`baton: ${printable(line)}\n`);
  try {
    const result = await untilEndSignal((signal) =>
      capture(
        {
          interface: config.interface,
          nodeInterface: config.nodeInterface?.name,
          controlSocket: config.controlSocket,
          wish: {
            snapLength: given.snaplen,
            client: given.client === undefined ? undefined : ipv4Number(given.client.address),
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
        signal,
      ),
    );
    note(summary(result));
  } finally {
    output.close();
  }
  return 0;
}

function openOutput(name: string): OutputFile {
  if (name !== STANDARD_OUTPUT) return OutputFile.open(name);
  if (!process.stdout.isTTY) return OutputFile.standardOutput();
  throw new BatonError('BATON_ARGUMENT', 'a capture cannot be shown on a terminal', {
    hint: 'write it to a file, or use `-w - | tcpdump -nr -`',
  });
}
