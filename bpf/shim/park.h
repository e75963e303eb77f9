/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Parked sockets: a session moves on, and its socket here waits for it to come back.
 *
 *     all requests are answered (TELL)           -> IXCP_ENDED, parked
 *     IXP_PARK: the same, by the balancer's word -> IXCP_PARKED, parked; or IXCP_REFUSED
 *     the parked socket sends FIN, RST, payload  -> held back, and told with a reason
 *     IXP_AWAKE                                  -> the next repetition of it passes
 *
 * A session is parked as long as its socket has received nothing beyond the place of its parking.
 * Each segment says how much the socket has received, so egress needs no word of ingress for that.
 */
#ifndef BATON_PARK_H
#define BATON_PARK_H

#include "frame.h"
#include "parking.h"
#include "socket.h"

/*
 * 0 if the socket is open, has received and its server has read everything before `received`, and
 * it has sent and its server has written everything before `sent`; else the refusal.
 */
static __always_inline int is_at_rest(struct bpf_sock *sk, __u32 received, __u32 sent)
{
	struct tcp_sock *tcp;

	if (sk->state != STATE_ESTABLISHED)
		return REFUSE(ENDING);
	tcp = bpf_skc_to_tcp_sock(sk);
	if (!tcp)
		return REFUSE(ENDING);
	return tcp->rcv_nxt == received && tcp->copied_seq == received && tcp->write_seq == sent
	               ? 0
	               : REFUSE(UNANSWERED);
}

/* The same for the socket of a frame. */
static __always_inline int look_at(struct __sk_buff *skb, const struct ixp_frame *frame,
                                   __u32 received, __u32 sent)
{
	struct bpf_sock_tuple key = socket_tuple(frame);
	struct bpf_sock *sk = look_up(skb, &key);
	int outcome;

	if (!sk)
		return REFUSE(ENDING);
	outcome = is_at_rest(sk, received, sent);
	bpf_sk_release(sk);
	return outcome;
}

/* True if the answers of these many requests have ended, the last one at `sent`. */
static __always_inline int are_answered(const struct session *session, __u32 requests, __u32 sent)
{
	const struct answers *answers = &session->answers;

	return answers->phase == ANSWERS_ENDED && answers->next == sent &&
	       answers->ended == requests;
}

/*
 * The notice about a segment of a session with TELL, at egress, whose answers have been followed; 0
 * if there is none. The numbers are those of the socket. The payload begins behind `headers`.
 */
static __always_inline __u32 park_at_egress(struct __sk_buff *skb, struct session *session,
                                            __u8 flags, __u32 seq, __u32 ack, __u32 headers)
{
	struct parking *parking = &session->parking;
	__u32 payload = skb->len > headers ? skb->len - headers : 0;
	__u32 end = seq + payload;
	struct bpf_sock *sk;

	if (parking->state == PARKED && (!(flags & TCP_ACK) || ack == parking->received)) {
		if (flags & TCP_RST)
			return HELD_AS(RST);
		if (flags & TCP_FIN)
			return HELD_AS(FIN);
		if (payload == 0)
			return 0;
		return seq_diff(end, parking->sent) > 0 ? HELD_AS(ENDED) : IXCP_ENDED;
	}
	if (payload == 0 || (flags & (TCP_RST | TCP_FIN)) || parking->unsure ||
	    !are_answered(session, parking->requests, end))
		return 0;
	sk = skb->sk;
	if (!sk || is_at_rest(sk, ack, end) != 0)
		return 0;
	parking->received = ack;
	parking->sent = end;
	__sync_lock_test_and_set(&parking->state, PARKED);
	if (*(volatile __u32 *)&parking->unsure) {
		parking->state = PARKED_BEFORE;
		return 0;
	}
	count(SHIM_PARKED);
	return IXCP_ENDED;
}

/* The outcome of IXP_PARK for a session whose numbers are right, and which is parked now. */
static __always_inline int wait_parked(struct __sk_buff *skb, const struct ixp_frame *frame,
                                       const struct parking *parking)
{
	struct bpf_sock_tuple key = socket_tuple(frame);
	struct bpf_sock *sk = look_up(skb, &key);
	struct tcp_sock *tcp = NULL;
	int outcome = REFUSE(ENDING);
	__u32 window = 0;

	if (!sk)
		return outcome;
	outcome = is_at_rest(sk, parking->received, parking->sent);
	if (outcome == 0)
		tcp = bpf_skc_to_tcp_sock(sk);
	if (tcp && tcp->snd_una != parking->sent && frame->waits == 0) {
		/* The window that the socket knows: it is still the client's. */
		window = tcp->snd_wnd >> (frame->ixp.scales >> 4);
		bpf_sk_release(sk);
		return tell_and_wait(skb, frame, parking->received, parking->sent, TCP_ACK,
		                     window > WIDEST_WINDOW ? WIDEST_WINDOW : window,
		                     BATON_MARK_RETRY);
	}
	bpf_sk_release(sk);
	return outcome != 0 ? outcome : ANSWER | IXCP_PARKED;
}

HANDLER park(struct __sk_buff *skb, struct ixp_frame *frame)
{
	if (!frame)
		return TC_ACT_SHOT;

	struct session *session = bpf_map_lookup_elem(&sessions, &frame->tuple);
	struct parking *parking;
	__u32 received, sent;

	if (!session || session->nonce != frame->ixp.session)
		return REFUSE(UNKNOWN_SESSION);
	if (session->left)
		return REFUSE(ENDING);
	if (is_before_parking(session, bpf_ntohl(frame->seq)))
		return drop(SHIM_DROP_LATE);
	parking = &session->parking;
	received = socket_received(session, bpf_ntohl(frame->seq));
	sent = socket_sent(session, bpf_ntohl(frame->ack));
	if (parking->state == PARKED) {
		if (received != parking->received || sent != parking->sent)
			return REFUSE(UNANSWERED);
		return wait_parked(skb, frame, parking);
	}
	if (!session->follow || session->answers.phase == ANSWERS_UNFOLLOWED)
		return REFUSE(UNFOLLOWED);

	int outcome = look_at(skb, frame, received, sent);

	if (outcome != 0)
		return outcome;
	if (!are_answered(session, bpf_ntohl(frame->ixp.request), sent))
		return REFUSE(UNANSWERED);
	parking->received = received;
	parking->sent = sent;
	parking->request_end = received;
	parking->requests = bpf_ntohl(frame->ixp.request);
	parking->unsure = 0;
	parking->tell = 1;
	begin_watching();
	/*
	 * Either the FIN of a server that closes at this moment sees PARKED, or this sees the FIN.
	 */
	__sync_lock_test_and_set(&parking->state, PARKED);
	outcome = look_at(skb, frame, received, sent);
	if (outcome != 0) {
		parking->state = PARKED_BEFORE;
		return outcome;
	}
	count(SHIM_PARKED);
	return wait_parked(skb, frame, parking);
}

/* Handles IXP_AWAKE. It has no answer: what was held is repeated, and told again if it is held. */
static __always_inline int awake(const struct ixp_frame *frame)
{
	struct session *session = bpf_map_lookup_elem(&sessions, &frame->tuple);

	if (!session || session->nonce != frame->ixp.session)
		return drop(SHIM_DROP_NO_SESSION);

	struct parking *parking = &session->parking;

	if (parking->state != PARKED ||
	    socket_received(session, bpf_ntohl(frame->seq)) != parking->received)
		return drop(SHIM_DROP_LATE);
	parking->unsure = 1;
	parking->state = PARKED_BEFORE;
	return drop(SHIM_AWAKENED);
}

#endif
