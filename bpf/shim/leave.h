/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Handles a verified IXP_LEAVE frame, with which a session moves on between two requests, and what
 * the socket still sends that it leaves behind:
 *
 *     all answers have ended, or it is parked,   -> IXCP_LEFT, and a FIN ends the socket: its
 *     and the socket has nothing that either        server reads end of file, and closes
 *     side lacks
 *     it is parked, and its server has closed    -> the same, and its FIN is acknowledged
 *     the session has left already               -> IXCP_LEFT
 *     otherwise                                  -> IXCP_REFUSED, and nothing has happened
 *
 * What such a socket sends is not for the client. Its FIN comes back to it as the ACK, so it ends
 * without TIME_WAIT.
 */
#ifndef BATON_LEAVE_H
#define BATON_LEAVE_H

#include "park.h"

/* A socket that still sends after this time gets an RST. */
#define LEFT_PATIENCE_MS 1000

static __always_inline __u32 now_ms(void)
{
	return bpf_ktime_get_ns() / 1000000;
}

/*
 * True if the server of a parked session has closed. `*end` is then the number behind its FIN,
 * which egress holds back.
 */
static __always_inline int has_closed(struct __sk_buff *skb, const struct ixp_frame *frame,
                                      __u32 received, __u32 *end)
{
	struct bpf_sock_tuple key = socket_tuple(frame);
	struct bpf_sock *sk = look_up(skb, &key);
	struct tcp_sock *tcp = NULL;
	int closed = 0;

	if (!sk)
		return 0;
	if (sk->state == STATE_FIN_WAIT1)
		tcp = bpf_skc_to_tcp_sock(sk);
	if (tcp) {
		closed = tcp->rcv_nxt == received;
		*end = tcp->write_seq;
	}
	bpf_sk_release(sk);
	return closed;
}

HANDLER leave(struct __sk_buff *skb, struct ixp_frame *frame)
{
	if (!frame)
		return TC_ACT_SHOT;

	struct session *session = bpf_map_lookup_elem(&sessions, &frame->tuple);
	__u32 seq = bpf_ntohl(frame->seq);

	if (!session || session->nonce != frame->ixp.session)
		return REFUSE(UNKNOWN_SESSION);
	/* A repetition, or the frame that waited behind the FIN. */
	if (session->left == LEFT_DONE)
		return session->left_at == seq ? ANSWER | IXCP_LEFT : REFUSE(ENDING);

	int parked = session->parking.state == PARKED;
	__u32 received = socket_received(session, seq);
	__u32 sent = socket_sent(session, bpf_ntohl(frame->ack));

	if (is_before_parking(session, seq))
		return drop(SHIM_DROP_LATE);
	if (!session->follow || (!parked && session->answers.phase == ANSWERS_UNFOLLOWED))
		return REFUSE(UNFOLLOWED);
	if (parked) {
		received = session->parking.received;
		sent = session->parking.sent;
	}

	int outcome = look_at(skb, frame, received, sent);

	if (parked && outcome != 0 && has_closed(skb, frame, received, &sent)) {
		session->left_at = seq;
		session->left_ms = now_ms();
		session->left = LEFT_DONE;
		count(SHIM_LEFT);
		/* The server has closed first: this acknowledges its FIN, too. */
		return end_and_wait(skb, frame, received, sent, TCP_FIN | TCP_ACK,
		                    BATON_MARK_RETRY);
	}
	if (outcome != 0)
		return outcome;
	if (!parked && !are_answered(session, bpf_ntohl(frame->ixp.request), sent))
		return REFUSE(UNANSWERED);
	/* Either the FIN of a server that closes at this moment sees it, or this sees the FIN. */
	__sync_lock_test_and_set(&session->left, LEFT_ASKED);
	outcome = look_at(skb, frame, received, sent);
	if (outcome != 0) {
		session->left = LEFT_NOT;
		return outcome;
	}
	session->left_at = seq;
	session->left_ms = now_ms();
	session->left = LEFT_DONE;
	count(SHIM_LEFT);
	return end_and_wait(skb, frame, received, sent, TCP_FIN | TCP_ACK, BATON_MARK_RETRY);
}

/* The bit that says that an address was made up by the owner of the machine (IEEE 802). */
#define OTHER_MAC 0x02

/*
 * Handles a segment, at egress, that is not for the client any more. The packet pointers of `view`
 * become invalid.
 */
static __always_inline int answer_left(struct __sk_buff *skb, const struct shim_config *config,
                                       const struct session *session,
                                       const struct session_key *tuple, const struct tcp_view *view)
{
	struct {
		__u8 pad[2]; /* aligns the packet */
		struct ethhdr eth;
		union {
			struct bare_packet ipv4;
			struct bare_packet6 ipv6;
		};
	} __attribute__((aligned(4))) frame = {};
	__u32 bytes = sizeof(frame.eth) + sizeof(frame.ipv4);
	__u8 flags = tcp_flags(view->tcp);
	__u32 expected = bpf_ntohl(view->tcp->ack_seq);
	__u32 headers = view->offset + (__u32)view->tcp->doff * 4;
	__u32 end = bpf_ntohl(view->tcp->seq) + skb->len - headers + 1;
	int late =
		session->left == LEFT_DONE && (int)(now_ms() - session->left_ms) > LEFT_PATIENCE_MS;

	if (session->left != LEFT_DONE || (flags & TCP_RST) || !(flags & TCP_ACK) ||
	    !(late || (flags & TCP_FIN)))
		return drop(SHIM_LEFT_DROPPED);
	__builtin_memcpy(frame.eth.h_dest, view->eth->h_source, ETH_ALEN);
	__builtin_memcpy(frame.eth.h_source, view->eth->h_source, ETH_ALEN);
	/* The engine's tap takes it for a frame to another machine; the guard knows its mark. */
	if (config->local)
		frame.eth.h_dest[0] ^= OTHER_MAC;
	frame.eth.h_proto = view->eth->h_proto;

	__u32 answer = late ? 0 : end;
	__u8 answer_flags = late ? TCP_RST : TCP_ACK;
	__u16 window = late ? 0 : WIDEST_WINDOW;

	if (view->ipv6) {
		fill_bare6(&frame.ipv6, &view->ip6->daddr, &view->ip6->saddr, tuple, expected,
		           answer, answer_flags, window);
		bytes = sizeof(frame.eth) + sizeof(frame.ipv6);
	} else {
		fill_bare(&frame.ipv4, tuple, expected, answer, answer_flags, window);
	}
	if (bpf_skb_change_tail(skb, bytes, 0) || bpf_skb_store_bytes(skb, 0, &frame.eth, bytes, 0))
		return drop(SHIM_DROP_REWRITE);
	skb->mark = config->local ? BATON_MARK_LOCAL : 0;
	count(late ? SHIM_LEFT_RESET : SHIM_LEFT_TURNED);
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

#endif
