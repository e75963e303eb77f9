/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Handles a verified IXP_QUERY frame: a balancer has got a segment of a connection that it does not
 * know, and asks each node.
 *
 *     the socket of the four-tuple is open, and the segment fits   -> IXCP_OWNED
 *     there is none, or the session has left it                    -> no answer
 *
 * The balancer continues with the node that answers. So a socket only counts if the client can have
 * sent this segment to it: a node where the session was before has a socket as well.
 */
#ifndef BATON_QUERY_H
#define BATON_QUERY_H

#include "adopt.h"
#include "frame.h"
#include "kernel.h"
#include "socket.h"

/* How far the sequence number of the client may be from the next one that the socket expects. */
#define QUERY_WINDOW (1 << 24)

/* What the answer says beyond the numbers of the socket; or -1 if the segment is not for it. */
static __always_inline int reason_of(const struct tcp_sock *tcp, __u8 state,
                                     const struct session *session, __u32 seq, __u32 ack)
{
	int ahead = seq_diff(seq, tcp->rcv_nxt);

	if (seq_diff(ack, tcp->snd_una) < 0 || seq_diff(ack, tcp->snd_nxt) > 0 ||
	    ahead > QUERY_WINDOW || ahead < -QUERY_WINDOW)
		return -1;
	if (session && session->parking.state == PARKED)
		return tcp->rcv_nxt == session->parking.received ? IXCP_REASON_PARKED
		                                                 : IXCP_REASON_NONE;
	return state == STATE_ESTABLISHED || state == STATE_CLOSE_WAIT ? IXCP_REASON_NONE
	                                                               : IXCP_REASON_CLOSING;
}

/*
 * The entry of a socket that has lost its own, or that an earlier shim has built. Its numbers are
 * those of the stream: a socket with other numbers does not pass `reason_of`.
 */
static __always_inline struct session found_session(const struct ixp_frame *frame)
{
	struct session session = {
		.nonce = frame->ixp.session,
		.balancer = frame->ixp.balancer,
		.confirm = bpf_ntohl(frame->seq),
		.adopted_at = bpf_ktime_get_ns(),
		.sent = 1,
		.sent_payload = 1,
		.began = bpf_ntohl(frame->seq),
	};

	__builtin_memcpy(session.mac, frame->mac, ETH_ALEN);
	return session;
}

HANDLER query(struct __sk_buff *skb, struct ixp_frame *frame)
{
	if (!frame)
		return TC_ACT_SHOT;

	struct session *session = bpf_map_lookup_elem(&sessions, &frame->tuple);
	struct bpf_sock_tuple key = socket_tuple(frame);
	struct bpf_sock *sk = look_up(skb, &key);
	__u32 seq = bpf_ntohl(frame->seq);
	__u32 ack = bpf_ntohl(frame->ack);
	__u32 received = 0, sent = 0;
	int reason = -1;

	if (session) {
		seq = socket_received(session, seq);
		ack = socket_sent(session, ack);
	}
	if (sk && sk->state != STATE_LISTEN && sk->state != STATE_TIME_WAIT &&
	    sk->state != STATE_NEW_SYN_RECV) {
		struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

		if (tcp) {
			received = tcp->rcv_nxt;
			sent = tcp->snd_nxt;
			reason = reason_of(tcp, sk->state, session, seq, ack);
		}
	}
	if (sk)
		bpf_sk_release(sk);
	if (reason < 0 || (session && (session->left || session->released)))
		return drop(SHIM_QUERY_NOT_OURS);
	/* The number of the question, which the answer repeats. */
	frame->answers = bpf_htons(bpf_ntohl(frame->ixp.session));
	if (session) {
		/* The balancer may be another one than before. */
		session->balancer = frame->ixp.balancer;
		__builtin_memcpy(session->mac, frame->mac, ETH_ALEN);
		/* That balancer does not know which requests it has had. It will not ask the
		 * session to leave, and wants no word about its answers. */
		if (reason != IXCP_REASON_PARKED)
			session->follow = 0;
		received += session->translation.received;
		sent += session->translation.sent;
		frame->ixp.session = session->nonce;
	} else {
		struct session found = found_session(frame);

		if (bpf_map_update_elem(&sessions, &frame->tuple, &found, BPF_NOEXIST))
			return drop(SHIM_QUERY_NOT_OURS);
	}
	frame->seq = bpf_htonl(received);
	frame->ack = bpf_htonl(sent);
	return ANSWER | IXCP_OWNED | reason << 4;
}

#endif
