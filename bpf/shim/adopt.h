/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Handles a verified IXP_ADOPT frame:
 *
 *     the session's socket has all bytes    -> IXCP_ADOPTED
 *     the session's socket is there         -> remove IXP, pass, confirm again
 *     the session had a socket              -> IXCP_RST: the session is over
 *     the session's SYN was answered        -> remove IXP, pass: the request becomes a socket
 *     another session's socket is there,    -> clear the four-tuple, then start again
 *     or one that this session left, or
 *     in which it is parked, or one that
 *     was to answer this request, and has
 *     closed
 *     the session moved on after the frame  -> drop
 *     a listener is there                   -> remove IXP, build the socket
 *     nothing is there                      -> IXCP_REFUSED
 *
 * A frame that the stack would answer with RST must never pass: the RST would end the client's
 * connection. So a frame passes only if its socket was found just before.
 */
#ifndef BATON_ADOPT_H
#define BATON_ADOPT_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "frame.h"
#include "kernel.h"
#include "maps.h"
#include "parking.h"
#include "socket.h"

/*
 * Clears a four-tuple that an older session holds, because the client or another balancer has used
 * the port again.
 *
 * The first try is an RST at the old socket's next byte. Only this sequence number ends a socket
 * without a challenge ACK (RFC 5961 section 3.2). The RST ends TIME_WAIT too, unless
 * net.ipv4.tcp_rfc1337 is set.
 *
 * The second try, for TIME_WAIT, is a SYN beyond that byte. The SYN ends TIME_WAIT in favour of the
 * listener (RFC 9293 section 3.6.1), which drops it because of its FIN flag
 * (tcp_rcv_state_process). Without a listener the client would get an ACK, so the SYN is not sent
 * then.
 */
static __always_inline int clear_tuple(struct __sk_buff *skb, const struct ixp_frame *frame,
                                       enum found found, __u32 rcv_nxt)
{
	if (frame->waits == 0) {
		count(SHIM_ADOPT_CLEARED);
		return end_and_wait(skb, frame, rcv_nxt, 0, TCP_RST, BATON_MARK_RETRY);
	}
	if (frame->waits > 1 || found != FOUND_TIME_WAIT || !has_listener(skb, frame))
		return REFUSE(TUPLE_IN_USE);
	count(SHIM_ADOPT_CLEARED_BY_SYN);
	return end_and_wait(skb, frame, rcv_nxt + 1, 0, TCP_SYN | TCP_FIN, BATON_MARK_AGAIN);
}

/* The entry of a session that begins with this frame. */
static __always_inline struct session new_session(const struct ixp_frame *frame)
{
	struct session session = {
		.nonce = frame->ixp.session,
		.balancer = frame->ixp.balancer,
		.confirm = bpf_ntohl(frame->ixp.confirm),
		.asked = 1,
		.client_confirms = !!(frame->ixp.flags & IXP_CLIENT_CONFIRMS),
		.notice_from = bpf_ntohl(frame->ack) + INITIAL_WINDOW_BYTES,
		.adopted_at = bpf_ktime_get_ns(),
		.hold_reset = !!(frame->ixp.flags & IXP_HOLD_RESET),
		.began = bpf_ntohl(frame->seq),
	};

#ifndef BATON_WITHOUT_LOOP
	if (frame->ixp.flags & IXP_FOLLOW) {
		session.follow = 1;
		session.answers.phase = ANSWERS_ENDED;
		session.answers.next = bpf_ntohl(frame->ack);
		session.answers.head_request = !!(frame->ixp.flags & IXP_HEAD);
		session.parking.requests = 1;
		session.parking.request_end = session.confirm;
		session.parking.tell = !!(frame->ixp.flags & IXP_TELL);
		if (session.parking.tell)
			begin_watching();
	}
#endif
	__builtin_memcpy(session.mac, frame->mac, ETH_ALEN);
	return session;
}

#ifdef BATON_WITHOUT_ADOPTION

/* This kernel builds no sockets. Releases `sk`, a listener or NULL. */
static __always_inline int build(struct __sk_buff *skb, const struct ixp_frame *frame,
                                 struct bpf_sock *sk, int replaces)
{
	(void)skb;
	(void)frame;
	(void)replaces;
	if (!sk)
		return REFUSE(NO_LISTENER);
	bpf_sk_release(sk);
	return REFUSE(UNABLE);
}

#else

static __always_inline void fill_attributes(struct bpf_tcp_req_attrs *attributes,
                                            const struct ixp_hdr *ixp, __u16 least_mss)
{
	__u16 mss = bpf_ntohs(ixp->mss);

	attributes->mss = mss < least_mss ? least_mss : mss;
	attributes->rcv_wscale = ixp->scales & 0xf;
	attributes->snd_wscale = ixp->scales >> 4;
	attributes->wscale_ok = !!(ixp->flags & IXP_WSCALE_OK);
	attributes->sack_ok = !!(ixp->flags & IXP_SACK_OK);
	attributes->tstamp_ok = !!(ixp->flags & IXP_TSTAMP_OK);
	attributes->rcv_tsval = bpf_ntohl(ixp->tsval);
	attributes->rcv_tsecr = bpf_ntohl(ixp->tsecr);
}

/* With the sysctl at 0, the stack would ignore the socket that was built, and answer with RST. */
static __always_inline int cookies_off(struct tcp_sock *tcp)
{
	struct net *net = tcp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net;

	return bpf_core_field_exists(net->ipv4.sysctl_tcp_syncookies) &&
	       net->ipv4.sysctl_tcp_syncookies == 0;
}

/*
 * Builds the socket of a session whose four-tuple is free. Releases `sk`, a listener or NULL. With
 * a stack of its own: it is large.
 */
static __noinline int build(struct __sk_buff *skb, const struct ixp_frame *frame,
                            struct bpf_sock *sk, int replaces)
{
	__u32 number = frame->ixp.service;
	const struct shim_service *service = bpf_map_lookup_elem(&services, &number);
	struct bpf_tcp_req_attrs attributes = {};
	struct bpf_sock_tuple key = socket_tuple(frame);
	struct session session = new_session(frame);

	/* The listener of a service has an IPv4 address, which no IPv6 session can have. */
	if ((service && !frame->ipv6) || number != 0) {
		if (sk)
			bpf_sk_release(sk);
		if (!service)
			return REFUSE(NO_LISTENER);
		key.ipv4.daddr = service->address;
		key.ipv4.dport = service->port;
		sk = look_up(skb, &key);
	}
	fill_attributes(&attributes, &frame->ixp, frame->ipv6 ? ADOPT_MIN_MSS_6 : ADOPT_MIN_MSS);

	if (!sk)
		return REFUSE(NO_LISTENER);
	if (sk->state != STATE_LISTEN) {
		bpf_sk_release(sk);
		return REFUSE(NO_LISTENER);
	}

	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	/* An update would take a new element, which no cache holds, before it frees this one. */
	if (replaces)
		bpf_map_delete_elem(&sessions, &frame->tuple);
	/* The entry must exist before the socket, which may send at once. */
	if (!tcp || cookies_off(tcp) ||
	    bpf_map_update_elem(&sessions, &frame->tuple, &session, BPF_ANY)) {
		bpf_sk_release(sk);
		return REFUSE(UNABLE);
	}
	if (strip(skb)) {
		bpf_sk_release(sk);
		return drop(SHIM_DROP_REWRITE);
	}

	int error =
		bpf_sk_assign_tcp_reqsk(skb, (struct sock *)tcp, &attributes, sizeof(attributes));

	bpf_sk_release(sk);
	if (error) {
		bpf_map_delete_elem(&sessions, &frame->tuple);
		return REFUSE(UNABLE);
	}
	count(SHIM_ADOPTED);
	return TC_ACT_OK;
}

#endif

HANDLER adopt(struct __sk_buff *skb, struct ixp_frame *frame)
{
	if (!frame)
		return TC_ACT_SHOT;

	struct session *session = bpf_map_lookup_elem(&sessions, &frame->tuple);
	int same = session && session->nonce == frame->ixp.session;
	int known = same && !session->left && !comes_back(session, frame);
	__u32 rcv_nxt = 0;

	/* A first segment has ACK. A FIN without payload carries no request. */
	if (!(frame->flags & TCP_ACK) || (frame->flags & (TCP_SYN | TCP_RST)) ||
	    ((frame->flags & TCP_FIN) && frame->payload == 0))
		return drop(SHIM_DROP_FLAGS);
	/* A session that moved on and comes back brings bytes that it has not had here. */
	if (same && session->left && seq_diff(bpf_ntohl(frame->ixp.confirm), session->left_at) <= 0)
		return drop(SHIM_DROP_LATE);

	struct bpf_sock_tuple key = socket_tuple(frame);
	struct bpf_sock *sk = look_up(skb, &key);
	enum found found = kind_of(sk, &rcv_nxt);

	if (known && replaces_resumed(session, frame, sk ? sk->state : 0))
		known = 0;
	if (found == FOUND_NOTHING || found == FOUND_LISTENER) {
		/* If a socket has answered the request, a second socket must not answer it again.
		 */
		if (known && session->replay && !session->sent) {
			if (sk)
				bpf_sk_release(sk);
			return drop(SHIM_DROP_NO_SOCKET);
		}
		/* A session whose socket has ended here may come back with a later request. */
		if (!known || !session->sent ||
		    seq_diff(bpf_ntohl(frame->seq), session->began) > 0)
			return build(skb, frame, sk, session != NULL);
		if (sk)
			bpf_sk_release(sk);
		count(SHIM_ADOPT_FINISHED);
		return ANSWER | IXCP_RST;
	}
	if (sk)
		bpf_sk_release(sk);
	switch (found) {
	case FOUND_SOCKET:
		/* The socket has all bytes. Passing the frame would only make it send the client a
		 * duplicate ACK. */
		if (known && seq_diff(stream_received(session, rcv_nxt),
		                      bpf_ntohl(frame->ixp.confirm)) >= 0) {
			frame->seq = bpf_htonl(stream_received(session, rcv_nxt));
			count(SHIM_ADOPT_REPEATED);
			return ANSWER | IXCP_ADOPTED;
		}
		__attribute__((fallthrough));
	case FOUND_TIME_WAIT:
		if (known) {
			request_confirmation(session, frame);
			return strip_and_pass(skb, frame, session, SHIM_ADOPT_REPEATED);
		}
		return clear_tuple(skb, frame, found, rcv_nxt);
	default:
		if (!known || session->replay != REPLAY_ANSWERED)
			return clear_tuple(skb, frame, found, rcv_nxt);
		request_confirmation(session, frame);
		return strip_and_pass(skb, frame, session, SHIM_ADOPTED);
	}
}

#endif
