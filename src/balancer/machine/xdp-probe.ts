/**
 * Tests whether an interface sends the frames of an XDP program. A veth passes such frames to its
 * peer only while the peer polls for them: its GRO is on, or it has an XDP program too. Otherwise
 * they are lost and not counted. The peer may be in another network namespace, so only a test shows
 * it.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { loadObject } from '../../host/bpf-object.js';
import { type InterfaceInfo, native } from '../../host/native.js';
import { ETHERNET } from '../../wire/ethernet.js';

/** The driver that may lose frames. */
export const VETH = 'veth';
/** IEEE 802 local experimental EtherType 1: no protocol uses it. */
const EXPERIMENTAL = 0x88b5;
const FRAME_BYTES = 60;
/** More frames than anything else is likely to send during the test. */
const FRAMES = 64;
const LOOKS = 20;
const LOOK_MS = 5;
/** Columns of /proc/net/dev behind the name: eight of receiving, then bytes and packets sent. */
const SENT_PACKETS = 9;

/**
 * Whether the interface sends frames of its own XDP program. Only veth is tested. The test frames
 * are addressed to the interface itself: switches drop them, and hosts ignore them.
 * @throws what the kernel refuses; Linux 5.18 is needed
 */
export async function sendsForXdp(name: string, info: InterfaceInfo): Promise<boolean> {
  return native().interfaceDriver(name) !== VETH || sends(name, info);
}

/**
 * Why an interface loses frames that another interface's XDP program redirects to it; '' if it does
 * not. Every driver is tested: many send for XDP only while they have a program themselves.
 * @throws as above
 */
export async function whyLostAlone(name: string, info: InterfaceInfo): Promise<string> {
  if (await sends(name, info)) return '';
  const driver = native().interfaceDriver(name);
  return driver === VETH
    ? loses(name)
    : `${name} (driver ${driver}) does not send frames from an XDP program of another interface`;
}

/** The message about a veth that loses frames, with the remedy. */
export function loses(name: string): string {
  return `${name} (driver ${VETH}) loses the frames that it sends in native XDP, because its peer does not poll: run \`ethtool -K PEER gro on\` there`;
}

async function sends(name: string, info: InterfaceInfo): Promise<boolean> {
  const frame = new Uint8Array(FRAME_BYTES);
  frame.set(info.mac, ETHERNET.destination);
  frame.set(info.mac, ETHERNET.source);
  new DataView(frame.buffer).setUint16(ETHERNET.type, EXPERIMENTAL);
  const object = loadObject('probe');
  try {
    const before = sentPackets(name);
    object.testRunXdp('probe', frame, { ingressIndex: info.index, repeat: FRAMES, live: true });
    for (let look = 0; look < LOOKS; look++) {
      if (sentPackets(name) - before >= FRAMES) return true;
      await delay(LOOK_MS);
    }
    return false;
  } finally {
    object.close();
  }
}

function sentPackets(name: string): number {
  const line = readFileSync('/proc/net/dev', 'latin1')
    .split('\n')
    .find((text) => text.trimStart().startsWith(`${name}:`));
  const columns =
    line
      ?.slice(line.indexOf(':') + 1)
      .trim()
      .split(/\s+/) ?? [];
  return Number(columns[SENT_PACKETS] ?? 0);
}
