/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Handles a verified IXP_SEGMENT frame:
 *
 *     the session's socket is there    -> remove IXP, pass
 *     its listener has answered        -> the same: the segment may complete the handshake
 *     the session has moved on         -> drop
 *     it is parked, at an earlier place -> drop
 *     the session had a socket         -> IXCP_RST: the session is over
 *     a SYN without a socket           -> the same
 *     otherwise                        -> drop
 */
#ifndef BATON_SEGMENT_H
#define BATON_SEGMENT_H

#include "frame.h"
#include "parking.h"
#include "socket.h"

/*
 * Answers a SYN inside a session: the client opens a new connection. A live socket answers with a
 * challenge ACK (RFC 5961). Without a live socket the balancer must learn that the old session is
 * over: a socket in TIME_WAIT would open a connection that the balancer does not know.
 */
#define NO_SUCH_SESSION (ANSWER | IXCP_RST | IXCP_REASON_UNKNOWN_SESSION << 4)

HANDLER pass_segment(struct __sk_buff *skb, struct ixp_frame *frame)
{
	if (!frame)
		return TC_ACT_SHOT;

	struct session *session = bpf_map_lookup_elem(&sessions, &frame->tuple);
	int syn = frame->flags & TCP_SYN;
	__u32 rcv_nxt = 0;

	if (!session || session->nonce != frame->ixp.session) {
		count(SHIM_DROP_NO_SESSION);
		return syn ? NO_SUCH_SESSION : TC_ACT_SHOT;
	}

	/* A copy that was slower than the session. The socket may be the one that it left. */
	if (session->left)
		return drop(SHIM_DROP_LATE);

	if (frame->payload + (frame->flags & TCP_FIN) > 0 &&
	    is_behind_parking(session, bpf_ntohl(frame->seq)))
		return drop(SHIM_DROP_EARLY);

	struct bpf_sock_tuple key = socket_tuple(frame);
	struct bpf_sock *sk = look_up(skb, &key);
	enum found found = kind_of(sk, &rcv_nxt);

	if (sk)
		bpf_sk_release(sk);
	if (frame->ixp.flags & IXP_HEAD)
		answers_expect_head(&session->answers, bpf_ntohl(frame->ixp.request));
	if (session->parking.tell)
		note_payload(session, bpf_ntohl(frame->seq), frame->payload,
		             !!(frame->flags & TCP_FIN),
		             frame->ixp.flags & (IXP_HEAD | IXP_TELL) ? bpf_ntohl(frame->ixp.request)
		                                                      : 0);
	int opening = found == FOUND_REQUEST && session->replay == REPLAY_ANSWERED && !syn;

	if (found == FOUND_SOCKET || opening || (found == FOUND_TIME_WAIT && !syn)) {
		request_confirmation(session, frame);
		return strip_and_pass(skb, frame, session, SHIM_SEGMENT);
	}
	if (!session->sent) {
		count(SHIM_DROP_NO_SOCKET);
		return syn ? NO_SUCH_SESSION : TC_ACT_SHOT;
	}
	/* The notice of its end did not reach the balancer, or the socket ended without one. */
	count(SHIM_ADOPT_FINISHED);
	if (syn)
		return NO_SUCH_SESSION;
	return ANSWER | (session->released ? IXCP_RELEASED : IXCP_RST);
}

#endif
