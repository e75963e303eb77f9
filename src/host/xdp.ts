/**
 * The XDP program of an interface. An interface can have one, and it stays attached when the
 * process that attached it ends.
 */
import { native } from './native.js';

/** The name of Baton's program, as the kernel shows it. */
export const XDP_PROGRAM = 'baton_xdp';

/**
 * Whether Baton's program is attached to the interface. Throws an Error when the kernel refuses.
 */
export function hasXdp(interfaceIndex: number): boolean {
  return native().xdpProgram(interfaceIndex)?.name === XDP_PROGRAM;
}

/** Detaches Baton's program. False when the interface has none, or only one of somebody else. */
export function removeXdp(interfaceIndex: number): boolean {
  const attached = native().xdpProgram(interfaceIndex);
  if (attached?.name !== XDP_PROGRAM || attached.mode === 'hardware') return false;
  const program = native().openProgram({ id: attached.id });
  try {
    // By its descriptor: a program that somebody else attaches at this moment stays.
    native().detachXdp(interfaceIndex, attached.mode, program.fd);
  } finally {
    program.close();
  }
  return true;
}
