/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Giving a session back: what happens to a verified IXP_RELEASE.
 *
 *     the socket has the bytes, nobody has read or answered them, and
 *     no session here was begun to be answered since -> an RST removes it; then again
 *     it was removed for that                        -> IXCP_RELEASED
 *     anything else                                  -> IXCP_ADOPTED: it stays
 *
 * A server that does not even read while it begins no other answer either is stopped. One that has
 * read is at work, however long it takes. One that answers others is only behind: it would do the
 * work all the same.
 */
#ifndef BATON_RELEASE_H
#define BATON_RELEASE_H

#include "adopt.h"

/*
 * Whether the socket has all of what was handed over and nothing behind it, its server has read
 * none of that, and has written nothing.
 */
static __always_inline int is_unread(const struct tcp_sock *tcp, const struct handover *handover)
{
	return tcp->copied_seq == bpf_ntohl(handover->seq) &&
	       tcp->rcv_nxt == bpf_ntohl(handover->ixp.confirm) &&
	       tcp->write_seq == bpf_ntohl(handover->ack);
}

/* Whether a session of this machine was begun to be answered since this one was adopted. */
static __always_inline int answers_others(const struct session *session)
{
	__u32 zero = 0;
	const __u64 *at = bpf_map_lookup_elem(&last_answer, &zero);

	return !at || *at >= session->adopted_at;
}

static __always_inline int release(struct __sk_buff *skb, struct handover *handover)
{
	struct session *session = bpf_map_lookup_elem(&sessions, &handover->tuple);
	struct tcp_sock *tcp;
	int outcome = -1;

	/* Without its session nothing is known of the socket: the balancer goes on without an
	 * answer. */
	if (!session || session->nonce != handover->ixp.session)
		return drop(SHIM_DROP_NO_SESSION);

	struct bpf_sock_tuple key = socket_tuple(&handover->tuple);
	struct bpf_sock *sk = look_up(skb, &key);

	if (!sk || sk->state == STATE_LISTEN) {
		outcome = ANSWER | (session->released ? IXCP_RELEASED : IXCP_RST);
	} else if (sk->state != STATE_TIME_WAIT && sk->state != STATE_NEW_SYN_RECV) {
		tcp = bpf_skc_to_tcp_sock(sk);
		if (tcp) {
			/* It may have stayed in spite of an RST that a firewall did not let
			 * through. */
			if (handover->waits > 0 || !is_unread(tcp, handover) ||
			    answers_others(session)) {
				session->released = 0;
				outcome = ANSWER | IXCP_ADOPTED;
			}
			handover->seq = bpf_htonl(tcp->rcv_nxt);
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
	return remove_and_wait(skb, handover, bpf_ntohl(handover->seq), TCP_RST, BATON_MARK_RETRY);
}

#endif
