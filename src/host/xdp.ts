/**
 * The XDP program of an interface. An interface has room for one, and it outlives who attached it.
 */
import { native } from './native.js';

/** The name of ours, as the kernel shows it. */
export const XDP_PROGRAM = 'baton_xdp';

/**
 * Whether our program is attached to the interface with this index. Throws what the kernel refuses.
 */
export function hasXdp(interfaceIndex: number): boolean {
  return native().xdpProgram(interfaceIndex)?.name === XDP_PROGRAM;
}

/** Takes our program off an interface. False when there is none, or only somebody else's. */
export function removeXdp(interfaceIndex: number): boolean {
  const attached = native().xdpProgram(interfaceIndex);
  if (attached?.name !== XDP_PROGRAM || attached.mode === 'hardware') return false;
  const program = native().openProgram({ id: attached.id });
  try {
    // By its descriptor: what somebody else attaches in this moment stays.
    native().detachXdp(interfaceIndex, attached.mode, program.fd);
  } finally {
    program.close();
  }
  return true;
}
