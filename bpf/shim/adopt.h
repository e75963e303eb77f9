/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Taking a session over: what happens to a verified IXP frame.
 *
 *     IXP_SEGMENT   its session's socket is there      -> strip, pass
 *                   its session had a socket           -> IXCP_RST: the session is over
 *                   a SYN without a socket             -> the same
 *                   else                               -> drop
 *     IXP_ADOPT     its session's socket has it all    -> IXCP_ADOPTED
 *                   its session's socket is there      -> strip, pass, confirm again
 *                   its session had a socket           -> IXCP_RST: the session is over
 *                   another session's socket is there  -> clear it, then again from the start
 *                   a listener is there                -> strip, build the socket
 *                   nothing is there                   -> IXCP_REFUSED
 *
 * A frame that would make the stack answer RST must never pass: that would end the client's
 * connection. So nothing passes without a socket that was just seen.
 */
#ifndef BATON_ADOPT_H
#define BATON_ADOPT_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "kernel.h"
#include "maps.h"
#include "notice.h"
#include "packet.h"

/* What is kept of a verified IXP frame: its packet pointers end with the first rewriting. */
struct handover {
	struct ixp_hdr ixp __attribute__((aligned(4)));
	struct session_key tuple;
	__be32 seq, ack;
	__u8 mac[ETH_ALEN];     /* of the balancer */
	__u8 own_mac[ETH_ALEN]; /* of this interface */
	__u8 flags;             /* of the segment, TCP_* */
	__u8 waits;             /* how often it has waited for its four-tuple to be cleared */
	__u32 payload;
};

enum found {
	FOUND_NOTHING,
	FOUND_LISTENER,
	FOUND_SOCKET,    /* of exactly this four-tuple */
	FOUND_TIME_WAIT, /* the same, ended */
	FOUND_REQUEST,   /* a handshake that the kernel itself has under way */
};

static __always_inline struct bpf_sock_tuple socket_tuple(const struct session_key *tuple)
{
	struct bpf_sock_tuple socket = {};

	socket.ipv4.saddr = tuple->client;
	socket.ipv4.daddr = tuple->virtual_addr;
	socket.ipv4.sport = tuple->client_port;
	socket.ipv4.dport = tuple->virtual_port;
	return socket;
}

/* What the stack would find for this four-tuple, or NULL; to be released. */
static __always_inline struct bpf_sock *look_up(struct __sk_buff *skb, struct bpf_sock_tuple *key)
{
	return bpf_skc_lookup_tcp(skb, key, sizeof(key->ipv4), BPF_F_CURRENT_NETNS, 0);
}

/* What that is; of a socket also its next expected byte. */
static __always_inline enum found kind_of(struct bpf_sock *sk, __u32 *rcv_nxt)
{
	if (!sk)
		return FOUND_NOTHING;
	if (sk->state == STATE_LISTEN)
		return FOUND_LISTENER;
	if (sk->state == STATE_TIME_WAIT) {
		struct tcp_timewait_sock *tw = bpf_skc_to_tcp_timewait_sock(sk);

		if (tw) {
			*rcv_nxt = tw->tw_sk.__tw_common.skc_tw_rcv_nxt;
			return FOUND_TIME_WAIT;
		}
	} else if (sk->state != STATE_NEW_SYN_RECV) {
		struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

		if (tcp) {
			*rcv_nxt = tcp->rcv_nxt;
			return FOUND_SOCKET;
		}
	}
	return FOUND_REQUEST;
}

/* Takes the IXP header out: the client's segment as the client sent it. 0, or -1. */
static __always_inline int strip(struct __sk_buff *skb)
{
	if (bpf_skb_adjust_room(skb, -IXP_LENGTH, BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_NO_CSUM_RESET))
		return -1;

	void *data = (void *)(long)skb->data;
	struct iphdr *ip = data + IPV4_OFFSET;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -1;

	/* Time to live and protocol share one word of the checksum. */
	__u16 old_word = bpf_htons(ip->ttl << 8 | BATON_IPPROTO_IXP);
	__u16 new_word = bpf_htons(ip->ttl << 8 | IPPROTO_TCP);
	__be16 old_length = ip->tot_len;
	__be16 new_length = bpf_htons(bpf_ntohs(old_length) - IXP_LENGTH);

	ip->check = checksum_replace(ip->check, old_word, new_word);
	ip->check = checksum_replace(ip->check, old_length, new_length);
	ip->protocol = IPPROTO_TCP;
	ip->tot_len = new_length;
	return 0;
}

/*
 * What the functions below make of a frame: a verdict of tc, or the notice to answer with. One
 * place then builds the notice: it is the largest piece of the program.
 */
#define ANSWER 0x100
#define REFUSE(reason) (ANSWER | IXCP_REFUSED | IXCP_REASON_##reason << 4)

static __always_inline int strip_and_pass(struct __sk_buff *skb, __u32 counter)
{
	if (strip(skb)) {
		count(SHIM_DROP_REWRITE);
		return TC_ACT_SHOT;
	}
	count(counter);
	return TC_ACT_OK;
}

static __always_inline int drop(__u32 counter)
{
	count(counter);
	return TC_ACT_SHOT;
}

/* Asks for a confirmation with the next segment that the socket sends. */
static __always_inline void ask(struct session *session, const struct handover *handover)
{
	__u32 confirm = bpf_ntohl(handover->ixp.confirm);

	if (seq_diff(confirm, session->confirm) > 0)
		session->confirm = confirm;
	/* Egress reads asked before confirm: whoever sees the new count sees the new mark. */
	__sync_fetch_and_add(&session->asked, 1);
}

/*
 * Whether the virtual server's own address and port have a listener: whom the stack would ask about
 * a SYN of this client. The client's port is left out, for that would find the socket in the way.
 */
static __always_inline int has_listener(struct __sk_buff *skb, const struct session_key *tuple)
{
	struct bpf_sock_tuple key = socket_tuple(tuple);
	struct bpf_sock *sk;
	int listens;

	key.ipv4.sport = 0;
	sk = look_up(skb, &key);
	if (!sk)
		return 0;
	listens = sk->state == STATE_LISTEN;
	bpf_sk_release(sk);
	return listens;
}

/*
 * A copy of the frame waits in this CPU's backlog, marked `mark`, while the frame itself becomes a
 * bare segment that removes the socket of its four-tuple. Nobody else sees that segment, and nobody
 * answers it.
 */
static __always_inline int remove_and_wait(struct __sk_buff *skb, const struct handover *handover,
                                           __u32 seq, __u8 flags, __u32 mark)
{
	struct bare_packet packet;

	fill_bare(&packet, &handover->tuple, seq, flags);
	skb->mark = mark;

	long error = bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);

	skb->mark = 0;
	if (error)
		return drop(SHIM_DROP_CLONE);
	if (bpf_skb_change_tail(skb, IPV4_OFFSET + sizeof(packet), 0) ||
	    bpf_skb_store_bytes(skb, IPV4_OFFSET, &packet, sizeof(packet), BPF_F_RECOMPUTE_CSUM))
		return drop(SHIM_DROP_REWRITE);
	return TC_ACT_OK;
}

/*
 * Another session holds the four-tuple: the client has used its port again, or another balancer
 * has.
 *
 * First comes an RST at the old socket's next byte, the only one that it takes without a question
 * (RFC 5961 section 3.2). It ends TIME_WAIT too, unless net.ipv4.tcp_rfc1337 is set. Where it did
 * not: a SYN beyond that byte ends TIME_WAIT in favour of the listener (RFC 9293 section 3.6.1),
 * and with FIN beside SYN the listener drops it (tcp_rcv_state_process). Without a listener the
 * client would get an ACK, so then it is not sent.
 */
static __always_inline int clear_tuple(struct __sk_buff *skb, const struct handover *handover,
                                       enum found found, __u32 rcv_nxt)
{
	if (handover->waits == 0) {
		count(SHIM_ADOPT_CLEARED);
		return remove_and_wait(skb, handover, rcv_nxt, TCP_RST, BATON_MARK_RETRY);
	}
	if (handover->waits > 1 || found != FOUND_TIME_WAIT || !has_listener(skb, &handover->tuple))
		return REFUSE(TUPLE_IN_USE);
	count(SHIM_ADOPT_CLEARED_BY_SYN);
	return remove_and_wait(skb, handover, rcv_nxt + 1, TCP_SYN | TCP_FIN, BATON_MARK_AGAIN);
}

static __always_inline void fill_attributes(struct bpf_tcp_req_attrs *attributes,
                                            const struct ixp_hdr *ixp)
{
	__u16 mss = bpf_ntohs(ixp->mss);

	attributes->mss = mss < ADOPT_MIN_MSS ? ADOPT_MIN_MSS : mss;
	attributes->rcv_wscale = ixp->scales & 0xf;
	attributes->snd_wscale = ixp->scales >> 4;
	attributes->wscale_ok = !!(ixp->flags & IXP_WSCALE_OK);
	attributes->sack_ok = !!(ixp->flags & IXP_SACK_OK);
	attributes->tstamp_ok = !!(ixp->flags & IXP_TSTAMP_OK);
	attributes->rcv_tsval = bpf_ntohl(ixp->tsval);
	attributes->rcv_tsecr = bpf_ntohl(ixp->tsecr);
}

/* With the sysctl at 0 the stack would not look at the socket that was built, but answer RST. */
static __always_inline int cookies_off(struct tcp_sock *tcp)
{
	struct net *net = tcp->inet_conn.icsk_inet.sk.__sk_common.skc_net.net;

	return bpf_core_field_exists(net->ipv4.sysctl_tcp_syncookies) &&
	       net->ipv4.sysctl_tcp_syncookies == 0;
}

/*
 * Builds the socket of a session whose four-tuple is free. `sk`, a listener there or NULL, is
 * released.
 */
static __always_inline int build(struct __sk_buff *skb, const struct handover *handover,
                                 struct bpf_sock *sk, int replaces)
{
	__u32 number = handover->ixp.service;
	const struct shim_service *service = bpf_map_lookup_elem(&services, &number);
	struct bpf_tcp_req_attrs attributes = {};
	struct bpf_sock_tuple key = socket_tuple(&handover->tuple);
	struct session session = {
		.nonce = handover->ixp.session,
		.balancer = handover->ixp.balancer,
		.confirm = bpf_ntohl(handover->ixp.confirm),
		.asked = 1,
		.quiet = !!(handover->ixp.flags & IXP_CLIENT_CONFIRMS),
		.notice_from = bpf_ntohl(handover->ack) + INITIAL_WINDOW_BYTES,
		.adopted_at = bpf_ktime_get_ns(),
	};

	if (service || number != 0) {
		if (sk)
			bpf_sk_release(sk);
		if (!service)
			return REFUSE(NO_LISTENER);
		key.ipv4.daddr = service->address;
		key.ipv4.dport = service->port;
		sk = look_up(skb, &key);
	}
	__builtin_memcpy(session.mac, handover->mac, ETH_ALEN);
	fill_attributes(&attributes, &handover->ixp);

	if (!sk)
		return REFUSE(NO_LISTENER);
	if (sk->state != STATE_LISTEN) {
		bpf_sk_release(sk);
		return REFUSE(NO_LISTENER);
	}

	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	/* An update would take another element, which is in no cache, before it frees this one. */
	if (replaces)
		bpf_map_delete_elem(&sessions, &handover->tuple);
	/* The entry comes first: the socket may send as soon as it is there. */
	if (!tcp || cookies_off(tcp) ||
	    bpf_map_update_elem(&sessions, &handover->tuple, &session, BPF_ANY)) {
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
		bpf_map_delete_elem(&sessions, &handover->tuple);
		return REFUSE(UNABLE);
	}
	count(SHIM_ADOPTED);
	return TC_ACT_OK;
}

static __always_inline int adopt(struct __sk_buff *skb, struct handover *handover)
{
	struct session *session = bpf_map_lookup_elem(&sessions, &handover->tuple);
	int known = session && session->nonce == handover->ixp.session;
	__u32 rcv_nxt = 0;

	/* A first segment acknowledges ours; a lone FIN brings no request. */
	if (!(handover->flags & TCP_ACK) || (handover->flags & (TCP_SYN | TCP_RST)) ||
	    ((handover->flags & TCP_FIN) && handover->payload == 0))
		return drop(SHIM_DROP_FLAGS);

	struct bpf_sock_tuple key = socket_tuple(&handover->tuple);
	struct bpf_sock *sk = look_up(skb, &key);
	enum found found = kind_of(sk, &rcv_nxt);

	if (found == FOUND_NOTHING || found == FOUND_LISTENER) {
		/* A request that a socket has answered must not be asked a second time. */
		if (!known || !session->sent)
			return build(skb, handover, sk, session != NULL);
		if (sk)
			bpf_sk_release(sk);
		count(SHIM_ADOPT_FINISHED);
		return ANSWER | IXCP_RST;
	}
	if (sk)
		bpf_sk_release(sk);
	switch (found) {
	case FOUND_SOCKET:
		/* It has all that is asked about: the client need not hear of the question. */
		if (known && seq_diff(rcv_nxt, bpf_ntohl(handover->ixp.confirm)) >= 0) {
			handover->seq = bpf_htonl(rcv_nxt);
			count(SHIM_ADOPT_REPEATED);
			return ANSWER | IXCP_ADOPTED;
		}
		__attribute__((fallthrough));
	case FOUND_TIME_WAIT:
		if (known) {
			ask(session, handover);
			return strip_and_pass(skb, SHIM_ADOPT_REPEATED);
		}
		return clear_tuple(skb, handover, found, rcv_nxt);
	default:
		return REFUSE(TUPLE_IN_USE);
	}
}

/*
 * A SYN inside a session: its client begins anew. A live socket answers with a challenge ACK (RFC
 * 5961); without one the balancer must hear that the old session is over. TIME_WAIT would open
 * another connection behind the balancer's back.
 */
#define NO_SUCH_SESSION (ANSWER | IXCP_RST | IXCP_REASON_UNKNOWN_SESSION << 4)

static __always_inline int pass_segment(struct __sk_buff *skb, const struct handover *handover)
{
	struct session *session = bpf_map_lookup_elem(&sessions, &handover->tuple);
	int syn = handover->flags & TCP_SYN;
	__u32 rcv_nxt = 0;

	if (!session || session->nonce != handover->ixp.session) {
		count(SHIM_DROP_NO_SESSION);
		return syn ? NO_SUCH_SESSION : TC_ACT_SHOT;
	}

	struct bpf_sock_tuple key = socket_tuple(&handover->tuple);
	struct bpf_sock *sk = look_up(skb, &key);
	enum found found = kind_of(sk, &rcv_nxt);

	if (sk)
		bpf_sk_release(sk);
	if (found == FOUND_SOCKET || (found == FOUND_TIME_WAIT && !syn)) {
		ask(session, handover);
		return strip_and_pass(skb, SHIM_SEGMENT);
	}
	if (!session->sent) {
		count(SHIM_DROP_NO_SOCKET);
		return syn ? NO_SUCH_SESSION : TC_ACT_SHOT;
	}
	/* The balancer has missed the notice of its end, or the socket went without one. */
	count(SHIM_ADOPT_FINISHED);
	if (syn)
		return NO_SUCH_SESSION;
	return ANSWER | (session->released ? IXCP_RELEASED : IXCP_RST);
}

/*
 * Answers an IXP frame with a notice. There is no segment of a socket to quote: seq and ack are
 * what a socket would send that took nothing of the frame.
 */
static __always_inline int answer(struct __sk_buff *skb, const struct shim_config *config,
                                  const struct handover *handover, int outcome)
{
	struct notice notice = {
		.type = outcome & 0xf,
		.reason = outcome >> 4 & 0xf,
		.session = handover->ixp.session,
		.balancer = handover->ixp.balancer,
		.tuple = handover->tuple,
		.seq = handover->ack,
		.ack = handover->seq,
	};

	return send_notice(skb, config, &notice, handover->mac, handover->own_mac, 1);
}

#endif
