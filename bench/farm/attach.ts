/** Attaches a program of bounce.bpf.o to an interface, for as long as the interface exists. */
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { projectRoot } from '../../lab/farm/baton.js';
import type { Host } from '../../lab/farm/host.js';
import { native } from '../../src/host/native.js';
import { addressBytes, requireAddress } from '../../src/wire/address.js';

export interface Attachment {
  program: 'bounce_swap' | 'bounce_redirect' | 'bounce_forward' | 'pass_all';
  /** Default eth0. */
  device?: string;
  /** struct bounce_config of bpf/bench/bounce.bpf.c. */
  config?: { address: string; destination: string; source: string };
}

/** Size of struct bounce_config. */
const CONFIG_BYTES = 16;

/** The command line that attaches in the namespace in which it runs. */
export function attachCommand(attachment: Attachment): string[] {
  return [process.execPath, fileURLToPath(import.meta.url), JSON.stringify(attachment)];
}

/** Attaches on a machine. Rejects with the kernel's error. */
export async function attach(host: Host, attachment: Attachment): Promise<void> {
  const [command = '', ...args] = attachCommand(attachment);
  await host.run(command, args);
}

function macBytes(text: string): number[] {
  return text.split(':').map((part) => Number.parseInt(part, 16));
}

function attachHere({ program, device = 'eth0', config }: Attachment): void {
  const object = native().loadBpf(path.join(projectRoot(), 'build/bpf/bounce.bpf.o'));
  if (config !== undefined) {
    const value = new Uint8Array(CONFIG_BYTES);
    value.set(addressBytes(requireAddress(config.address)));
    value.set([...macBytes(config.destination), ...macBytes(config.source)], 4);
    object.mapUpdate('config', new Uint8Array(4), value);
  }
  const { index } = native().interfaceInfo(device) ?? { index: 0 };
  native().attachXdp(index, object.programFd(program), 'native');
  object.close();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  attachHere(JSON.parse(process.argv[2] ?? '{}') as Attachment);
}
