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
] as const;
export type XdpCounter = (typeof XDP_COUNTERS)[number];
