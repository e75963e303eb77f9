/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Handles a verified IXP_LEAVE frame, with which a session moves on between two requests, and what
 * the socket still sends that it leaves behind:
 *
 *     all answers have ended, and the socket     -> IXCP_LEFT, and a FIN ends the socket: its
 *     has nothing that either side lacks            server reads end of file, and closes
 *     the session has left already               -> IXCP_LEFT
 *     otherwise                                  -> IXCP_REFUSED, and nothing has happened
 *
 * What such a socket sends is not for the client. Its FIN comes back to it as the ACK, so it ends
 * without TIME_WAIT.
 */
#ifndef BATON_LEAVE_H
#define BATON_LEAVE_H

#include "frame.h"
#include "socket.h"

/* A socket that still sends after this time gets an RST. */
#define LEFT_PATIENCE_MS 1000

static __always_inline __u32 now_ms(void)
{
	return bpf_ktime_get_ns() / 1000000;
}

/*
 * The outcome for the session's socket as it is now: 0 if it can be left. `left` must be set before
 * the look: if the server closes at this moment, either its FIN sees `left`, or this sees its FIN.
 */
static __always_inline int look_at(struct __sk_buff *skb, const struct ixp_frame *frame)
{
	struct bpf_sock_tuple key = socket_tuple(&frame->tuple);
	struct bpf_sock *sk = look_up(skb, &key);
	struct tcp_sock *tcp;
	int outcome = REFUSE(ENDING);

	if (!sk)
		return outcome;
	if (sk->state == STATE_ESTABLISHED) {
		tcp = bpf_skc_to_tcp_sock(sk);
		if (tcp) {
			__u32 seq = bpf_ntohl(frame->seq);

			outcome = tcp->rcv_nxt == seq && tcp->copied_seq == seq &&
			                          tcp->write_seq == bpf_ntohl(frame->ack)
			                  ? 0
			                  : REFUSE(UNANSWERED);
		}
	}
	bpf_sk_release(sk);
	return outcome;
}

static __always_inline int leave(struct __sk_buff *skb, const struct ixp_frame *frame)
{
	struct session *session = bpf_map_lookup_elem(&sessions, &frame->tuple);
	__u32 seq = bpf_ntohl(frame->seq);
	__u32 ack = bpf_ntohl(frame->ack);

	if (!session || session->nonce != frame->ixp.session)
		return REFUSE(UNKNOWN_SESSION);
	/* A repetition, or the frame that waited behind the FIN. */
	if (session->left == LEFT_DONE)
		return session->left_at == seq ? ANSWER | IXCP_LEFT : REFUSE(ENDING);

	const struct answers *answers = &session->answers;

	if (!session->follow || answers->phase == ANSWERS_UNFOLLOWED)
		return REFUSE(UNFOLLOWED);

	int outcome = look_at(skb, frame);

	if (outcome != 0)
		return outcome;
	if (answers->phase != ANSWERS_ENDED || answers->next != ack ||
	    answers->ended != bpf_ntohl(frame->ixp.request))
		return REFUSE(UNANSWERED);
	__sync_lock_test_and_set(&session->left, LEFT_ASKED);
	outcome = look_at(skb, frame);
	if (outcome != 0) {
		session->left = LEFT_NOT;
		return outcome;
	}
	session->left_at = seq;
	session->left_ms = now_ms();
	session->left = LEFT_DONE;
	count(SHIM_LEFT);
	return end_and_wait(skb, frame, seq, ack, TCP_FIN | TCP_ACK, BATON_MARK_RETRY);
}

/*
 * Handles a segment, at egress, that is not for the client any more. The packet pointers of `view`
 * become invalid.
 */
static __always_inline int answer_left(struct __sk_buff *skb, const struct session *session,
                                       const struct session_key *tuple, const struct tcp_view *view)
{
	struct {
		__u8 pad[2]; /* aligns the packet */
		struct ethhdr eth;
		struct bare_packet packet;
	} __attribute__((aligned(4))) frame;
	const __u32 bytes = sizeof(frame) - sizeof(frame.pad);
	__u8 flags = tcp_flags(view->tcp);
	__u32 expected = bpf_ntohl(view->tcp->ack_seq);
	__u32 headers = TCP_FRAME_BYTES - TCP_BYTES + (__u32)view->tcp->doff * 4;
	__u32 end = bpf_ntohl(view->tcp->seq) + skb->len - headers + 1;
	int late =
		session->left == LEFT_DONE && (int)(now_ms() - session->left_ms) > LEFT_PATIENCE_MS;

	if (session->left != LEFT_DONE || (flags & TCP_RST) || !(flags & TCP_ACK) ||
	    !(late || (flags & TCP_FIN)))
		return drop(SHIM_LEFT_DROPPED);
	__builtin_memcpy(frame.eth.h_dest, view->eth->h_source, ETH_ALEN);
	__builtin_memcpy(frame.eth.h_source, view->eth->h_source, ETH_ALEN);
	frame.eth.h_proto = bpf_htons(ETH_P_IP);
	fill_bare(&frame.packet, tuple, expected, late ? 0 : end, late ? TCP_RST : TCP_ACK);
	if (bpf_skb_change_tail(skb, bytes, 0) || bpf_skb_store_bytes(skb, 0, &frame.eth, bytes, 0))
		return drop(SHIM_DROP_REWRITE);
	skb->mark = 0;
	count(late ? SHIM_LEFT_RESET : SHIM_LEFT_TURNED);
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

#endif
