/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Takes a session by replay of its handshake, where the kernel cannot build the socket itself:
 *
 *     IXP_REPLAY --- SYN -----------> listener
 *                                     SYN/ACK, at egress: its numbers are noted
 *                <-- IXCP_SYN_ACK --- it goes to the balancer, not to the client
 *     IXP_ADOPT  --- translated ----> the listener's request becomes a socket
 *
 * The listener has chosen a sequence number and a timestamp of its own, and perhaps another window
 * scale. From the SYN/ACK on, the shim translates (translate.h).
 */
#ifndef BATON_REPLAY_H
#define BATON_REPLAY_H

#include "adopt.h"
#include "frame.h"
#include "socket.h"
#include "translate.h"

/*
 * The options of a SYN/ACK. The kernel writes them as whole words, in this order: MSS; timestamps,
 * with SACK permitted in place of the padding; SACK permitted alone; window scale
 * (tcp_options_write in net/ipv4/tcp_output.c).
 */
#define OPTION_MSS 2
#define SACK_AND_TIMESTAMPS 0x0402080a
#define PADDED_TIMESTAMPS 0x0101080a
#define PADDED_SACK 0x01010402
#define PADDED_SCALE 0x01030300
#define SYN_ACK_MOST_OPTIONS 20

/* What a listener answered: numbers in host byte order. */
struct syn_ack {
	__u32 isn, tsval;
	__u8 scale;
	__u8 options; /* IXP_*_OK */
};

/* Reads a SYN/ACK whose TCP header has `bytes` bytes. Returns 0, or -1 if it cannot be read. */
static __always_inline int read_syn_ack(struct __sk_buff *skb, __u32 bytes, struct syn_ack *answer)
{
	struct {
		__be32 seq;
		__be32 words[SYN_ACK_MOST_OPTIONS / 4];
	} header = {};
	__u32 more = bytes - TCP_BYTES - 1;
	__u32 at = 0;

	if (bpf_skb_load_bytes(skb, tcp_offset(skb) + TCP_SEQ, &header.seq, sizeof(header.seq)))
		return -1;
	answer->isn = bpf_ntohl(header.seq);
	if (bytes <= (__u32)TCP_BYTES)
		return 0;
	if (more > SYN_ACK_MOST_OPTIONS - 1)
		more = SYN_ACK_MOST_OPTIONS - 1;
	/* The verifier must see the limit: the compiler may not compute it again. */
	asm volatile("" : "+r"(more));
	more &= 31;
	if (more > SYN_ACK_MOST_OPTIONS - 1)
		return -1;
	if (bpf_skb_load_bytes(skb, tcp_offset(skb) + TCP_BYTES, header.words, more + 1))
		return -1;

	if (bpf_ntohl(header.words[0]) >> 24 == OPTION_MSS)
		at = 1;

	__u32 word = bpf_ntohl(at ? header.words[1] : header.words[0]);

	if (word == SACK_AND_TIMESTAMPS || word == PADDED_TIMESTAMPS) {
		answer->options |= IXP_TSTAMP_OK;
		if (word == SACK_AND_TIMESTAMPS)
			answer->options |= IXP_SACK_OK;
		answer->tsval = bpf_ntohl(at ? header.words[2] : header.words[1]);
		word = bpf_ntohl(at ? header.words[4] : header.words[3]);
	} else if (word == PADDED_SACK) {
		answer->options |= IXP_SACK_OK;
		word = bpf_ntohl(at ? header.words[2] : header.words[1]);
	}
	if ((word & 0xffffff00) == PADDED_SCALE) {
		answer->options |= IXP_WSCALE_OK;
		answer->scale = word & 0xf;
	}
	return 0;
}

/*
 * Handles a SYN/ACK of a session's listener, at egress. The session continues with the options of
 * the handshake, so the listener must have accepted all that change the form of a segment. Without
 * SACK it can go on (RFC 2018). Packet pointers become invalid.
 */
static __always_inline int answer_syn(struct __sk_buff *skb, struct session *session, __u32 bytes)
{
	struct translation *translation = &session->translation;
	struct syn_ack answer = {};
	const __u8 needed = IXP_WSCALE_OK | IXP_TSTAMP_OK;

	if (read_syn_ack(skb, bytes, &answer))
		return drop(SHIM_DROP_REWRITE);
	if ((answer.options ^ session->options) & needed) {
		skb->mark = BATON_MARK_NOTICE | IXCP_REFUSED | IXCP_REASON_UNABLE << 4;
		return become_notice(skb);
	}
	translation->sent = session->stream_next - (answer.isn + 1);
	translation->clock = session->stream_clock - answer.tsval;
	translation->window_out =
		answer.options & IXP_WSCALE_OK ? answer.scale - session->scale : 0;
	translation->syn_tsval = answer.tsval;
	translation->echo = 1;
	session->answers.next = answer.isn + 1;
	translation->on = 1;
	begin_watching();
	session->replay = REPLAY_ANSWERED;
	skb->mark = BATON_MARK_NOTICE | IXCP_SYN_ACK;
	return become_notice(skb);
}

/* Notes the session of an IXP_REPLAY frame and gives its SYN to the listener. */
static __always_inline int play(struct __sk_buff *skb, const struct ixp_frame *frame, int replaces)
{
	struct session session = new_session(frame);
	__u32 number = frame->ixp.service;
	/* The listener of a service has an IPv4 address, which no IPv6 session can have. */
	const struct shim_service *service =
		frame->ipv6 ? NULL : bpf_map_lookup_elem(&services, &number);
	struct bpf_sock_tuple key = socket_tuple(frame);
	struct bpf_sock *sk;

	session.replay = REPLAY_SYN;
	session.options = frame->ixp.flags & (IXP_WSCALE_OK | IXP_SACK_OK | IXP_TSTAMP_OK);
	session.scale = frame->ixp.scales & 0xf;
	session.stream_next = bpf_ntohl(frame->ack);
	session.stream_clock = bpf_ntohl(frame->ixp.tsecr);
	if (service) {
		key.ipv4.daddr = service->address;
		key.ipv4.dport = service->port;
	}
	forget_client_port(&key, frame);
	sk = look_up(skb, &key);
	if (!sk)
		return REFUSE(NO_LISTENER);
	if (sk->state != STATE_LISTEN || (number != 0 && !service)) {
		bpf_sk_release(sk);
		return REFUSE(NO_LISTENER);
	}
	if (replaces)
		bpf_map_delete_elem(&sessions, &frame->tuple);
	if (bpf_map_update_elem(&sessions, &frame->tuple, &session, BPF_ANY)) {
		bpf_sk_release(sk);
		return REFUSE(UNABLE);
	}
	if (strip(skb) || (service && bpf_sk_assign(skb, sk, 0))) {
		bpf_sk_release(sk);
		return drop(SHIM_DROP_REWRITE);
	}
	bpf_sk_release(sk);
	count(SHIM_REPLAYED);
	return TC_ACT_OK;
}

/*
 * Handles a verified IXP_REPLAY frame:
 *
 *     the session's socket has all bytes     -> IXCP_ADOPTED
 *     the session's SYN has been answered    -> IXCP_SYN_ACK
 *     the session had a socket               -> IXCP_RST: the session is over
 *     another session's socket is there      -> clear the four-tuple, then start again
 *     a listener is there                    -> remove IXP, pass
 *     nothing is there                       -> IXCP_REFUSED
 */
HANDLER replay(struct __sk_buff *skb, struct ixp_frame *frame)
{
	if (!frame)
		return TC_ACT_SHOT;

	struct session *session = bpf_map_lookup_elem(&sessions, &frame->tuple);
	int same = session && session->nonce == frame->ixp.session;
	int known;
	__u32 confirm = bpf_ntohl(frame->ixp.confirm);
	__u32 rcv_nxt = 0;

	if ((frame->flags & ~TCP_ECN) != TCP_SYN || frame->payload != 0)
		return drop(SHIM_DROP_FLAGS);
	/* The byte after the SYN, which notices about a new socket acknowledge. */
	frame->seq = bpf_htonl(bpf_ntohl(frame->seq) + 1);
	known = same && !session->left && !comes_back(session, frame);
	if (same && session->left && seq_diff(confirm, session->left_at) <= 0)
		return drop(SHIM_DROP_LATE);

	struct bpf_sock_tuple key = socket_tuple(frame);
	struct bpf_sock *sk = look_up(skb, &key);
	enum found found = kind_of(sk, &rcv_nxt);

	if (known && replaces_resumed(session, frame, sk ? sk->state : 0))
		known = 0;
	if (sk)
		bpf_sk_release(sk);
	if (found == FOUND_NOTHING || found == FOUND_LISTENER) {
		if (!known || !session->sent)
			return play(skb, frame, session != NULL);
		count(SHIM_ADOPT_FINISHED);
		return ANSWER | IXCP_RST;
	}
	if (!known)
		return clear_tuple(skb, frame, found, rcv_nxt);
	count(SHIM_REPLAY_REPEATED);
	switch (found) {
	case FOUND_SOCKET:
		rcv_nxt = stream_received(session, rcv_nxt);
		if (seq_diff(rcv_nxt, confirm) < 0)
			return ANSWER | IXCP_SYN_ACK;
		frame->seq = bpf_htonl(rcv_nxt);
		return ANSWER | IXCP_ADOPTED;
	case FOUND_TIME_WAIT:
		return ANSWER | IXCP_RST;
	default:
		/* A request that has sent no SYN/ACK yet will do so by itself. */
		return session->replay == REPLAY_ANSWERED ? ANSWER | IXCP_SYN_ACK
		                                          : drop(SHIM_DROP_NO_SOCKET);
	}
}

#endif
