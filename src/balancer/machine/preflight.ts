/**
 * All checks that are possible before anything is changed, and before a running balancer is asked
 * to leave. A start that fails here leaves everything as it is.
 */
import { BatonError } from '../../base/errors.js';
import { LEAST_MTU } from '../../engine/handoff/node-writer.js';
import { loadObject } from '../../host/bpf-object.js';
import { requirePrivileges } from '../../host/privilege.js';
import { hasXdp } from '../../host/xdp.js';
import { EarlierRun } from './earlier-run.js';
import { Guard } from './guard.js';
import { findInterfaces, type MachineInterfaces } from './interfaces.js';
import { requireNoListener } from './listeners.js';
import type { MachineOptions } from './options.js';

/** The largest IPv4 packet, in bytes. */
const MOST_MTU = 65_535;

/**
 * Checks the machine, and has the kernel verify the BPF programs.
 * @throws BatonError for anything that would keep a balancer from starting
 */
export async function preflight(options: MachineOptions): Promise<void> {
  const interfaces = requireMachine(options);
  await requireNoListener(options.farm.servers, options.farm.nodes);
  requirePrograms(options, interfaces);
  requireForwarded(options, interfaces.clients.info.index);
}

/**
 * Checks what every start requires of this machine. Returns its interfaces.
 * @throws BatonError for what is missing
 */
export function requireMachine(options: MachineOptions): MachineInterfaces {
  requirePrivileges();
  const virtual = options.farm.servers.map((server) => server.address);
  const nodes = options.farm.nodes.map((node) => node.address);
  const interfaces = findInterfaces(options, virtual, nodes);
  for (const { name, info } of [interfaces.clients, interfaces.nodes ?? interfaces.clients])
    requireMtu(name, info.mtu);
  return interfaces;
}

/**
 * Requires that a start with `datapath: packet` ends no sessions: those that the XDP program of an
 * earlier run forwards would end with that program.
 * @throws BatonError BATON_IN_USE when there are such sessions
 */
export function requireForwarded(
  { datapath, interface: name }: MachineOptions,
  index: number,
): void {
  if (datapath !== 'packet' || !hasXdp(index)) return;
  const earlier = EarlierRun.find(name, index, () => {});
  const count = earlier?.countForwarded() ?? 0;
  earlier?.close();
  if (count === 0) return;
  const sessions = count === 1 ? '1 session is' : `${count} sessions are`;
  throw new BatonError(
    'BATON_IN_USE',
    `${sessions} forwarded by the XDP program of an earlier run, and would end with \`datapath: packet\``,
    {
      where: name,
      hint: '`datapath: xdp` takes them over; stop the balancer, or run `--detach-all`, to end them',
    },
  );
}

/** Has the kernel verify the programs. Nothing is attached. */
function requirePrograms(options: MachineOptions, interfaces: MachineInterfaces): void {
  new Guard(interfaces.own, options.farm.servers, options.workers, options.key).close();
  if (options.datapath === 'packet') return;
  try {
    loadObject('xdp').close();
  } catch (error) {
    // `auto` needs no XDP program, unless an earlier run's sessions need it.
    if (options.datapath === 'xdp' || hasXdp(interfaces.clients.info.index)) throw error;
  }
}

function requireMtu(where: string, mtu: number): void {
  if (mtu >= LEAST_MTU && mtu <= MOST_MTU) return;
  throw new BatonError(
    'BATON_INTERFACE',
    `its MTU is ${mtu}, expected ${LEAST_MTU} to ${MOST_MTU}`,
    {
      where,
      hint: `ip link set ${where} mtu 1500`,
    },
  );
}
