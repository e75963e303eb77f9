/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the program does with a segment of a session that it knows, of either family. */
#ifndef BATON_XDP_SEGMENT_H
#define BATON_XDP_SEGMENT_H

#include "xdp-heads.h"
#include "xdp-resume.h"
#include "xdp-session.h"
#include "xdp-syn.h"
#include "xdp-wrap.h"

/*
 * Handles a segment of a session that has an action. With `ipv6`, a constant, the engine gets what
 * the program does not do for IPv6: FINs, SYNs, later heads, and payload before the node has
 * confirmed.
 */
static __always_inline int receive_session(struct xdp_md *ctx, struct xdp_control *us,
                                           struct session_record *record, __u8 action,
                                           const struct segment *segment, const struct place *place,
                                           int ipv6)
{
	__u32 worker = place->worker;
	__u8 control_flags = segment->flags & (TCP_SYN | TCP_FIN | TCP_RST);
	int engine_absent = 0;

	int answered = action & ACTION_ANSWERED && acknowledges_answer(record, segment);
	/* The engine takes ACTION_HEADS away for a moment while it works on a session. */
	int unproven = !ipv6 && action & ACTION_PAYLOAD_UP && is_unproven(segment, place);

	if (!ipv6 && !unproven && control_flags == TCP_FIN && (action & ACTION_FORWARD || answered) &&
	    report_fin(ctx, record, worker)) {
		record->last_seen = tick_ms();
		record->packets++;
		count(XDP_FIN_FORWARDED);
		return forward(ctx, us, record, segment, worker,
		               ipv6 ? is_unfinished6(segment) : is_unfinished(segment));
	}
	if (!ipv6 && control_flags == TCP_SYN && !(segment->flags & TCP_ACK) &&
	    record->state == SESSION_LINGERING && segment->seq != record->client_isn &&
	    !us->half_open[worker & (MAX_WORKERS - 1)])
		return receive_syn(ctx, us, place, record);
	if (control_flags) {
		__u32 why = control_flags & TCP_SYN   ? XDP_TO_ENGINE_SYN
		            : control_flags & TCP_FIN ? XDP_TO_ENGINE_FIN
		                                      : XDP_TO_ENGINE_RST;
		int verdict = to_engine(ctx, us, worker, why);

		if (verdict != XDP_DROP || unproven || !(action & ACTION_FORWARD) ||
		    (control_flags != TCP_FIN && control_flags != TCP_RST))
			return verdict;
		engine_absent = 1;
	} else if (answered) {
		/* The client's acknowledgement shows that the node owns the session. */
	} else if (!ipv6 && action & ACTION_WRAP) {
		int verdict = wrap(ctx, us, record);

		return verdict == XDP_PASS ? to_engine(ctx, us, worker, XDP_TO_ENGINE_STATE)
		                           : verdict;
	} else if (!(action & ACTION_FORWARD)) {
		return to_engine(ctx, us, worker, XDP_TO_ENGINE_STATE);
	}
	if (unproven)
		return to_engine(ctx, us, worker,
		                 segment->payload > 0 ? XDP_PAYLOAD_UP : XDP_TO_ENGINE_STATE);
	if (!engine_absent && action & ACTION_PAYLOAD_UP && segment->payload > 0 &&
	    seq_diff(segment->seq + segment->payload, record->handed_to) > 0) {
		int verdict = XDP_PASS;
		int taken = !ipv6 && action & ACTION_HEADS
		                    ? take_or_move(ctx, us, record, segment, place, &verdict)
		                    : HEAD_UNKNOWN;

		if (taken == HEAD_MOVED)
			return verdict;
		if (taken != HEAD_TAKEN) {
			verdict = to_engine(ctx, us, worker, XDP_PAYLOAD_UP);
			if (verdict != XDP_DROP)
				return verdict;
			engine_absent = 1;
		}
	}

	/* An RST must not keep the session alive that it ends. */
	if (control_flags != TCP_RST)
		record->last_seen = tick_ms();
	record->packets++;
	if (follow(record, segment))
		record->flags |= SESSION_CLIENT_FIN;
	if (engine_absent)
		count(XDP_FORWARDED_ALONE);
	return forward(ctx, us, record, segment, worker,
	               ipv6 ? is_unfinished6(segment) : is_unfinished(segment));
}

#endif
