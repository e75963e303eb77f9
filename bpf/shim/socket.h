/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Finds the socket of a four-tuple, and says what it is. */
#ifndef BATON_SOCKET_H
#define BATON_SOCKET_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "frame.h"
#include "kernel.h"
#include "maps.h"

enum found {
	FOUND_NOTHING,
	FOUND_LISTENER,
	FOUND_SOCKET,    /* a socket of exactly this four-tuple */
	FOUND_TIME_WAIT, /* the same, in TIME_WAIT */
	FOUND_REQUEST,   /* a handshake of the kernel itself, not yet complete */
};

static __always_inline struct bpf_sock_tuple socket_tuple(const struct ixp_frame *frame)
{
	const struct session_key *tuple = &frame->tuple;
	struct bpf_sock_tuple socket = {};

	if (frame->ipv6) {
		__builtin_memcpy(socket.ipv6.saddr, &frame->client, sizeof(frame->client));
		__builtin_memcpy(socket.ipv6.daddr, &frame->virtual_addr,
		                 sizeof(frame->virtual_addr));
		socket.ipv6.sport = tuple->client_port;
		socket.ipv6.dport = tuple->virtual_port;
	} else {
		socket.ipv4.saddr = tuple->client;
		socket.ipv4.daddr = tuple->virtual_addr;
		socket.ipv4.sport = tuple->client_port;
		socket.ipv4.dport = tuple->virtual_port;
	}
	return socket;
}

/* Leaves the client's port out, so that a look-up finds the listener. */
static __always_inline void forget_client_port(struct bpf_sock_tuple *key,
                                               const struct ixp_frame *frame)
{
	if (frame->ipv6)
		key->ipv6.sport = 0;
	else
		key->ipv4.sport = 0;
}

/* The socket that the stack would find for this four-tuple, or NULL. The caller releases it. */
static __always_inline struct bpf_sock *look_up(struct __sk_buff *skb, struct bpf_sock_tuple *key)
{
	if (is_ipv6(skb))
		return bpf_skc_lookup_tcp(skb, key, sizeof(key->ipv6), BPF_F_CURRENT_NETNS, 0);
	return bpf_skc_lookup_tcp(skb, key, sizeof(key->ipv4), BPF_F_CURRENT_NETNS, 0);
}

/* The kind of a socket. If it is none that listens, also its next expected byte. */
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
	} else if (sk->state == STATE_NEW_SYN_RECV) {
		struct tcp_request_sock *request = bpf_skc_to_tcp_request_sock(sk);

		if (request)
			*rcv_nxt = request->rcv_nxt;
	} else {
		struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

		if (tcp) {
			*rcv_nxt = tcp->rcv_nxt;
			return FOUND_SOCKET;
		}
	}
	return FOUND_REQUEST;
}

/*
 * True if the virtual server's own address and port have a listener, to which the stack would give
 * a SYN of this client. The look-up leaves the client's port out: with it, the look-up would find
 * the older socket of the four-tuple.
 */
static __always_inline int has_listener(struct __sk_buff *skb, const struct ixp_frame *frame)
{
	struct bpf_sock_tuple key = socket_tuple(frame);
	struct bpf_sock *sk;
	int listens;

	forget_client_port(&key, frame);
	sk = look_up(skb, &key);
	if (!sk)
		return 0;
	listens = sk->state == STATE_LISTEN;
	bpf_sk_release(sk);
	return listens;
}

#endif
