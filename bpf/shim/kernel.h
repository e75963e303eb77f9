/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel types that the shim reads, with only the members that it uses, and the kernel function
 * that builds the socket. The loader finds the members by name in the running kernel's BTF.
 */
#ifndef BATON_KERNEL_H
#define BATON_KERNEL_H

#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* enum in net/tcp_states.h */
#define STATE_ESTABLISHED 1
#define STATE_FIN_WAIT1 4
#define STATE_TIME_WAIT 6
#define STATE_CLOSE_WAIT 8
#define STATE_CLOSE_WAIT 8
#define STATE_LISTEN 10
#define STATE_NEW_SYN_RECV 12

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct netns_ipv4 {
	__u8 sysctl_tcp_syncookies;
};

struct net {
	struct netns_ipv4 ipv4;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	possible_net_t skc_net;
	__u32 skc_tw_rcv_nxt; /* of a socket in TIME_WAIT */
};

struct sock {
	struct sock_common __sk_common;
};

struct inet_sock {
	struct sock sk;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u32 rcv_nxt;
	__u32 copied_seq; /* the next byte that the server reads */
	__u32 write_seq;  /* the next byte that it writes */
	__u32 snd_nxt;    /* the next byte that it sends */
	__u32 snd_una;    /* the first byte that the client has not acknowledged */
	__u32 snd_wnd;    /* the client's window, bytes */
};

struct tcp_request_sock {
	__u32 rcv_nxt;
};

struct inet_timewait_sock {
	struct sock_common __tw_common;
};

struct tcp_timewait_sock {
	struct inet_timewait_sock tw_sk;
};

#pragma clang attribute pop

/* include/net/tcp.h of kernel 6.9 and newer; reserved must be 0. */
struct bpf_tcp_req_attrs {
	__u32 rcv_tsval;
	__u32 rcv_tsecr;
	__u16 mss;
	__u8 rcv_wscale; /* ours: by which the client shifts our windows */
	__u8 snd_wscale; /* the client's */
	__u8 ecn_ok;
	__u8 wscale_ok;
	__u8 sack_ok;
	__u8 tstamp_ok;
	__u8 usec_ts_ok;
	__u8 reserved[3];
};

/* The smallest MSS that the kernel function accepts for IPv4 (TCP_MIN_MSS is smaller). */
#define ADOPT_MIN_MSS 536
/* The same for IPv6: the least MTU less the headers. */
#define ADOPT_MIN_MSS_6 1220

/*
 * Makes the stack build an established socket of `listener` from this segment, as if the segment
 * returned a SYN cookie. Needs net.ipv4.tcp_syncookies of 1 or 2, and kernel 6.9. Older kernels
 * refuse to load the program, so the agent looks for this name first.
 */
#ifndef BATON_WITHOUT_ADOPTION
extern int bpf_sk_assign_tcp_reqsk(struct __sk_buff *skb, struct sock *listener,
                                   struct bpf_tcp_req_attrs *attrs, int attrs__sz) __ksym;
#endif

#endif
