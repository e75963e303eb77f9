/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Handles a verified IXP_RELEASE frame, with which the balancer takes a session back:
 *
 *     the server has neither read nor answered the bytes, and no
 *     session of this node began a response since adoption         -> an RST removes the socket;
 *                                                                     the frame waits behind it
 *     the socket was removed this way                              -> IXCP_RELEASED
 *     otherwise                                                    -> IXCP_ADOPTED: it stays
 *
 * A server that neither reads nor begins any response has stopped. A server that has read the
 * request works on it, however long that takes. A server that answers other clients is only late:
 * it would do the work anyway.
 */
#ifndef BATON_RELEASE_H
#define BATON_RELEASE_H

#include "frame.h"
#include "socket.h"

/*
 * True if the socket has received exactly the bytes of the handoff, and its server has read none of
 * them and written nothing.
 */
static __always_inline int is_unread(const struct tcp_sock *tcp, const struct session *session,
                                     const struct ixp_frame *frame)
{
	return tcp->copied_seq == socket_received(session, bpf_ntohl(frame->seq)) &&
	       tcp->rcv_nxt == socket_received(session, bpf_ntohl(frame->ixp.confirm)) &&
	       tcp->write_seq == socket_sent(session, bpf_ntohl(frame->ack));
}

/* True if the server began a response to any session since this session was adopted. */
static __always_inline int answers_others(const struct session *session)
{
	__u32 zero = 0;
	const __u64 *at = bpf_map_lookup_elem(&last_answer, &zero);

	return !at || *at >= session->adopted_at;
}

HANDLER release(struct __sk_buff *skb, struct ixp_frame *frame)
{
	if (!frame)
		return TC_ACT_SHOT;

	struct session *session = bpf_map_lookup_elem(&sessions, &frame->tuple);
	struct tcp_sock *tcp;
	int outcome = -1;

	/* Without the session's entry, nothing is known of the socket. The balancer continues
	 * without an answer. */
	if (!session || session->nonce != frame->ixp.session || session->left)
		return drop(SHIM_DROP_NO_SESSION);

	struct bpf_sock_tuple key = socket_tuple(frame);
	struct bpf_sock *sk = look_up(skb, &key);

	if (!sk || sk->state == STATE_LISTEN) {
		outcome = ANSWER | (session->released ? IXCP_RELEASED : IXCP_RST);
	} else if (sk->state != STATE_TIME_WAIT && sk->state != STATE_NEW_SYN_RECV) {
		tcp = bpf_skc_to_tcp_sock(sk);
		if (tcp) {
			int unread = is_unread(tcp, session, frame);

			frame->seq = bpf_htonl(tcp->rcv_nxt);
			/* After a wait, the socket is still here: a firewall may have dropped
			 * the RST. */
			if (frame->waits > 0 || !unread || answers_others(session)) {
				session->released = 0;
				frame->seq = bpf_htonl(stream_received(session, tcp->rcv_nxt));
				outcome = ANSWER | IXCP_ADOPTED;
			}
		} else {
			outcome = drop(SHIM_DROP_NO_SOCKET);
		}
	} else {
		outcome = drop(SHIM_DROP_NO_SOCKET);
	}
	if (sk)
		bpf_sk_release(sk);
	if (outcome != -1)
		return outcome;
	session->released = 1;
	count(SHIM_RELEASED);
	return end_and_wait(skb, frame, socket_received(session, bpf_ntohl(frame->seq)), 0, TCP_RST,
	                    BATON_MARK_RETRY);
}

#endif
