/** What the XDP program counts. */

/** The names of XDP_COUNTERS in kernel-shim/counters.h, in its order. */
export const XDP_COUNTERS = [
  'forwarded',
  'forwarded_bytes',
  'wrapped',
  'payload_up',
  'to_engine_syn',
  'to_engine_fin',
  'to_engine_rst',
  'to_engine_state',
  'to_engine_unknown',
  'to_engine_checksum',
  'to_engine_ixcp',
  'to_engine_icmp',
  'to_engine_odd',
  'engine_absent',
  'forwarded_alone',
  'syn_answered',
  'syn_cookie',
  'drop_unresolved',
  'drop_no_port',
  'drop_not_alive',
  'index_limit',
  'absorbed',
  'fin_forwarded',
  'notice_told',
  'drop_untold',
  'forwarded_by_stack',
  'to_engine_uncut',
  'tap_lost',
] as const;
export type XdpCounter = (typeof XDP_COUNTERS)[number];

/** Those of frames that the program took care of and that are no others': `frames` of `baton stats` has them as well. */
export const FRAMES_OF_KERNEL = [
  'forwarded',
  'wrapped',
  'syn_answered',
  'syn_cookie',
  'drop_unresolved',
] as const satisfies readonly XdpCounter[];
