/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Handles a verified IXP_RESUME frame, with which a session comes back to its parked socket:
 *
 *     it is parked, and its socket at rest   -> new offsets, remove IXP, pass
 *     it has come back with this frame       -> IXCP_ADOPTED, or pass again
 *     it has moved on after the frame        -> drop
 *     otherwise                              -> IXCP_REFUSED, and nothing has happened
 */
#ifndef BATON_RESUME_H
#define BATON_RESUME_H

#include "park.h"

/* The lowest TSval that the client does not take for an old one. */
static __always_inline __u32 clock_floor(struct __sk_buff *skb, const struct ixp_frame *frame)
{
	__u32 floor = bpf_ntohl(frame->ixp.tsecr);
	__be32 options[3]; /* NOP, NOP, timestamps */

	if (frame->header != USUAL_BYTES ||
	    bpf_skb_load_bytes(skb, frame->ipv6 ? IXP_FRAME_BYTES_6 : IXP_FRAME_BYTES, options,
	                       sizeof(options)) ||
	    options[0] != bpf_htonl(USUAL_OPTIONS))
		return floor;

	__u32 seen = bpf_ntohl(options[2]) + 1;

	return seq_diff(seen, floor) > 0 ? seen : floor;
}

/*
 * Begins a request at a parked socket. The socket sends nothing new meanwhile, so egress changes
 * none of this. What it repeats may get old offsets or new ones: it is old for the client.
 */
static __always_inline void begin_again(struct __sk_buff *skb, struct session *session,
                                        const struct ixp_frame *frame)
{
	struct translation *translation = &session->translation;
	struct parking *parking = &session->parking;
	__u32 seq = bpf_ntohl(frame->seq);
	__u32 ack = bpf_ntohl(frame->ack);

	translation->clock_floor = clock_floor(skb, frame);
	translation->has_floor = 1;
	translation->received = seq - parking->received;
	translation->sent = ack - parking->sent;
	translation->on = 1;
	session->balancer = frame->ixp.balancer;
	__builtin_memcpy(session->mac, frame->mac, ETH_ALEN);
	session->confirm = bpf_ntohl(frame->ixp.confirm);
	session->client_confirms = !!(frame->ixp.flags & IXP_CLIENT_CONFIRMS);
	session->notice_from = ack + INITIAL_WINDOW_BYTES;
	session->answered = 0;
	session->asked = 1;
	session->adopted_at = bpf_ktime_get_ns();
	session->released = 0;
	session->sent_payload = 0;
	session->hold_reset = !!(frame->ixp.flags & IXP_HOLD_RESET);
	session->answers.ended = 0;
	session->answers.head_request = !!(frame->ixp.flags & IXP_HEAD);
	session->began = seq;
	session->resumed = 1;
	parking->requests = 1;
	parking->request_end = socket_received(session, session->confirm);
	parking->unsure = 0;
	parking->tell = !!(frame->ixp.flags & IXP_TELL);
	parking->state = PARKED_BEFORE;
}

HANDLER resume(struct __sk_buff *skb, struct ixp_frame *frame)
{
	if (!frame)
		return TC_ACT_SHOT;

	struct session *session = bpf_map_lookup_elem(&sessions, &frame->tuple);
	__u32 received = 0;
	int outcome;

	if (!(frame->flags & TCP_ACK) || (frame->flags & (TCP_SYN | TCP_RST)) ||
	    frame->payload == 0)
		return drop(SHIM_DROP_FLAGS);
	if (!session || session->nonce != frame->ixp.session)
		return REFUSE(UNKNOWN_SESSION);
	if (session->left)
		return REFUSE(ENDING);
	if (comes_back(session, frame)) {
		outcome = look_at(skb, frame, session->parking.received, session->parking.sent);
		if (outcome != 0)
			return outcome;
		begin_again(skb, session, frame);
		return strip_and_pass(skb, frame, session, SHIM_RESUMED);
	}
	if (bpf_ntohl(frame->seq) != session->began)
		return is_before_parking(session, bpf_ntohl(frame->ixp.confirm) - 1)
		               ? drop(SHIM_DROP_LATE)
		               : REFUSE(UNANSWERED);

	struct bpf_sock_tuple key = socket_tuple(frame);
	struct bpf_sock *sk = look_up(skb, &key);
	enum found found = kind_of(sk, &received);

	if (sk)
		bpf_sk_release(sk);
	received = stream_received(session, received);
	if (found != FOUND_SOCKET)
		return ANSWER | IXCP_RST;
	if (seq_diff(received, bpf_ntohl(frame->ixp.confirm)) >= 0) {
		frame->seq = bpf_htonl(received);
		count(SHIM_ADOPT_REPEATED);
		return ANSWER | IXCP_ADOPTED;
	}
	request_confirmation(session, frame);
	return strip_and_pass(skb, frame, session, SHIM_ADOPT_REPEATED);
}

#endif
