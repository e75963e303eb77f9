/** What a frame of IXP says about the handshake of its session. */

import { roundedMss } from '../support/cookie-mss.js';
import type { ParsedPacket } from '../support/packet-parse.js';
import type { CheckerWorld } from './checker.js';
import type { Handshake } from './handshakes.js';

/** Types of IXP. */
export const IxpTypes = { adopt: 1, leave: 4, park: 5, resume: 6, awake: 7, replay: 8 } as const;
/** These have no payload and no options. */
const BARE: readonly number[] = [IxpTypes.leave, IxpTypes.park, IxpTypes.awake];
const CLIENT_CONFIRMS = 8;
const HEAD = 0x20;
/** Flags for the shim: about resets, moves, HEAD, and the end of answers. */
const FOR_SHIM = 0x80 | 0x40 | 0x10 | HEAD;
const WRAP_FLAGS = { scale: 1, sack: 2, timestamps: 4 } as const;

/** Checks the fields of a frame of IXP that come from the handshake of its session. */
export function checkAttributes(
  world: CheckerWorld,
  handshake: Handshake,
  packet: ParsedPacket,
  blame: (message: string) => void,
): void {
  const ixp = packet.ixp!;
  const { agreed, offered } = handshake;
  const flags =
    (agreed.windowScale !== undefined ? WRAP_FLAGS.scale : 0) |
    (agreed.sackPermitted ? WRAP_FLAGS.sack : 0) |
    (agreed.timestamps !== undefined ? WRAP_FLAGS.timestamps : 0);
  // One more flag is allowed, in the first IxpTypes.adopt to the first node only: it leaves the
  // confirmation to the client.
  const leaves = (ixp.flags & CLIENT_CONFIRMS) !== 0;
  if ((ixp.flags & ~(CLIENT_CONFIRMS | FOR_SHIM)) !== flags)
    blame(`flags ${ixp.flags}, ${flags} were agreed`);
  if (leaves) {
    const begins = ixp.type === IxpTypes.adopt || ixp.type === IxpTypes.replay;
    if (!begins || handshake.asked.size > 0) blame('the confirmation left to the client');
    if (agreed.timestamps === undefined) blame('whether the client is near is not known');
  }
  const mss = Math.max(536, offered.mss ?? 536);
  const byCookie = world.counters.get('cookie_accepted') > 0 && ixp.mss === roundedMss(mss);
  if (ixp.mss !== mss && !byCookie) blame(`MSS ${ixp.mss}`);
  if (agreed.windowScale !== undefined) {
    // RFC 7323 section 2.3: a shift above 14 counts as 14.
    const scales = (Math.min(14, offered.windowScale!) << 4) | agreed.windowScale;
    if (ixp.scales !== scales) blame(`scales ${ixp.scales}, not ${scales}`);
  }
  if (agreed.timestamps !== undefined && !packet.tcp!.flags.includes('R') && world.trusting) {
    if (((ixp.tsecr - agreed.timestamps[0]) | 0) < 0) blame('TSecr before our first TSval');
    // In LEAVE and in later HEAD requests, the number of the request is in this place.
    const isBare = BARE.includes(ixp.type);
    const isRequest = isBare || (ixp.type !== IxpTypes.adopt && (ixp.flags & HEAD) !== 0);
    if (!isRequest && ((ixp.tsval - offered.timestamps![0]) | 0) < 0)
      blame('TSval before the first');
    if (!isBare && packet.tcp!.options.timestamps === undefined) blame('no timestamps in IXP');
  }
}
